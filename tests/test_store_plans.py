"""How SQLite carries out each statement: by an index, however many orders there are."""

import importlib
import pkgutil
import re
import sqlite3
from itertools import product

import pytest

import adapters.store
from adapters.store.sql_orders import of_openid
from adapters.store.sqlite import upgrade
from application.ports import Position
from domain.order import Status
from tests.sample_orders import NOW

VERB = re.compile(r"(SELECT|INSERT|UPDATE|DELETE|WITH)\b")
LOOK_UP = re.compile(r"(SCAN|SEARCH) (\w+)(?: USING (?:COVERING )?INDEX \w+)?(?: \((.*)\))?")
SORT = "USE TEMP B-TREE"

# A handful of rows for ever: reading all of them is no matter.
TINY = {"api_keys", "counters", "jobs", "migrations"}
# What a search must name, so that it reads the rows of one order, refund, payer or key and no more.
OWN = ("out_trade_no=?", "out_refund_no=?", "openid=?", "caller=? AND name=?", "id=?")
# These walk an index once, in its own order, and stop at their LIMIT.
WALKS = {
    "sql_agenda.CLAIM_ORDERS",
    "sql_agenda.CLAIM_REFUNDS",
    "sql_agenda.OLDEST_PENDING",
    "sql_agenda.UNANSWERED",
    "sql_failures.NEWEST",
    "sql_orders.NEWEST",
    "sql_orders.NEWEST_OF_STATUS",
    "sql_orders.REFUNDS_OF",
    "sql_outbox.CLAIM",
    "sql_outbox.OF_STATE",
    "sql_outbox.OF_ALL",
    "sql_outbox.OLDEST_WAITING",
    "sql_failures.FORGET",  # as the next
    "sql_keys.FORGET_QUOTES",  # as the next
    "sql_answers.FORGET",  # without a LIMIT, but each row that it reads is one that it deletes
}
FORGETTING = {"sql_answers.FORGET", "sql_failures.FORGET", "sql_keys.FORGET_QUOTES"}
# These sort what a LIMIT has cut before: at most 100 orders with their refunds, or a page of letters.
SORTS = {
    "sql_orders.NEWEST",
    "sql_orders.NEWEST_OF_STATUS",
    "sql_outbox.OF_STATE",
    "sql_outbox.OF_ALL",
}


class Anything(dict):
    """A value for every name: planning asks for none of them."""

    def __missing__(self, name):
        return None


def constants():
    """Every string in the modules of SQL that begins as a statement does, by its name."""
    found = {}
    for module in pkgutil.iter_modules(adapters.store.__path__):
        if module.name.startswith("sql_"):
            strings = vars(importlib.import_module(f"adapters.store.{module.name}")).items()
            found |= {f"{module.name}.{k}": v for k, v in strings if isinstance(v, str) and VERB.match(v)}
    return found


def built():
    """What `of_openid` builds, in each of its forms."""
    return {
        f"of_openid status={status} after={after}": of_openid("o1", 20, after, status)[0]
        for status, after in product((None, Status.PAID), (None, Position(NOW, "PAY001")))
    }


# A pattern for OF_STATE and OF_ALL, which are explained themselves.
STATEMENTS = {name: text for name, text in constants().items() if name != "sql_outbox.LETTERS"} | built()


@pytest.fixture(scope="module")
def empty():
    """Every table, nothing in it, and no statistics: what SQLite knows of a young database."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    upgrade(db, migrate=True)
    yield db
    db.close()


def plan(db, statement):
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", Anything())]


def walks(lines):
    """The look-ups that are not bound to what belongs to one order, refund, payer or key."""
    cut = {line.split()[-1] for line in lines if line.startswith(("CO-ROUTINE", "MATERIALIZE"))}
    found = []
    for line in lines:
        look_up = LOOK_UP.match(line)
        if look_up is None or look_up[2] in TINY | cut | {"CONSTANT"}:
            continue
        if look_up[1] == "SCAN" or not look_up[3].startswith(OWN):
            found.append(line)
    return found


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_finds_its_rows_by_an_index(empty, name):
    found = walks(plan(empty, STATEMENTS[name]))
    assert len(found) == (name in WALKS), found
    assert all("INDEX" in line for line in found)


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_sorts_what_can_grow(empty, name):
    lines = plan(empty, STATEMENTS[name])
    if name in SORTS or name.startswith("of_openid"):
        assert " LIMIT :limit) o" in STATEMENTS[name]
    else:
        assert not [line for line in lines if line.startswith(SORT)]


@pytest.mark.parametrize("name", sorted(WALKS - FORGETTING))
def test_what_walks_an_index_stops(name):
    assert re.search(r" LIMIT (1|:limit)\b", STATEMENTS[name])


def test_a_payer_s_page_is_found_by_the_index_alone(empty):
    """However many orders the payer has of other statuses, or that are newer than the page."""
    for name, statement in built().items():
        (found,) = [line for line in plan(empty, statement) if line.startswith("SEARCH orders")]
        assert ("status=?" in found) == ("status = :status" in statement), name
        assert ("created_at" in found) == (":created_at" in statement), name


def test_what_is_excused_exists():
    assert set(STATEMENTS) >= WALKS | SORTS


def test_a_walk_is_noticed(empty):
    """The check itself: each of these reads more than it should, or sorts it."""
    assert walks(plan(empty, "SELECT * FROM orders WHERE body = :body"))
    assert walks(plan(empty, "SELECT 1 FROM outbox WHERE state = 'WAITING'"))
    assert walks(plan(empty, "SELECT * FROM (SELECT 1 FROM events) e"))
    assert walks(plan(empty, "DELETE FROM deliveries WHERE at < :before"))
    assert walks(plan(empty, "UPDATE refunds SET reason = '' WHERE refund_status = 'CLOSED'"))
    lines = plan(empty, "SELECT * FROM events WHERE out_trade_no = :out_trade_no ORDER BY at")
    assert not walks(lines)
    assert any(line.startswith(SORT) for line in lines)
