"""The documents say what the code does."""

import argparse
import re
import runpy
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.http.app import ROUTES
from adapters.http.errors import MESSAGE, status_of
from adapters.http.quotes import Quotes
from adapters.http.routes import Caller, Who
from adapters.http.shapes import CreateOrder
from adapters.wechat.simulator.faults import GROUPS, OPERATIONS
from application.outbox import WAITS
from domain.errors import PaymentError
from domain.order import TRANSITIONS
from entrypoints.cli import parser
from entrypoints.settings import SETTINGS
from tests.documented_till import documented_till

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.zh-CN.md")
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("certs/*.md"))
)

FENCE = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL)
SETTING_ROW = re.compile(r"^\| `((?:WECHAT_PAY|MINITILL)_[A-Z0-9_]+)` \| (.+?) \| (.+) \|$", re.MULTILINE)
COMMAND_ROW = re.compile(r"^\| `(minitill [a-z ]+)` \|", re.MULTILINE)
CODE_ROW = re.compile(r"^\| `([A-Z_]+)` \| (\d{3}) \| (.+?) \| (.+) \|$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
CALL_ROW = re.compile(r"^\| `((?:GET|POST) /\S+)` \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
ARROW = re.compile(r"^\s*([A-Z]+) --> ([A-Z]+)", re.MULTILINE)
PNG_BYTES_MAX = 150 * 1024
QUOTE_SECRET = "q" * 32


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def shown(default: object) -> str:
    """A default as the tables print it."""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "—" if default in ("", ()) else f"`{default}`"


def commands(of: argparse.ArgumentParser, name: str = "minitill") -> Iterator[str]:
    """Every command that does something, with the commands above it."""
    groups = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield name
    for group in groups:
        for word, below in group.choices.items():
            yield from commands(below, f"{name} {word}")


def kinds(of: type[PaymentError] = PaymentError) -> Iterator[type[PaymentError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def anchors(document: str) -> set[str]:
    """The places in a document that a link may name, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def shell_commands() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for language, block in FENCE.findall(text_of(document)):
            lines = block.replace("\\\n", " ").splitlines() if language == "bash" else []
            found += [(document, line.strip()) for line in lines if line.strip().startswith("minitill")]
    return found


@pytest.mark.parametrize("readme", READMES)
def test_every_setting_is_in_the_table_with_its_default_and_no_other_is(readme):
    rows = SETTING_ROW.findall(text_of(readme))
    assert [(name, default) for name, default, _ in rows] == [(s.name, shown(s.default)) for s in SETTINGS]
    assert all(meaning.strip() for _, _, meaning in rows)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_names_only_settings_that_exist(document):
    known = {s.name for s in SETTINGS} | {f"{s.name}_FILE" for s in SETTINGS}
    named = re.findall(r"\b(?:WECHAT_PAY|MINITILL)_[A-Z0-9_]*[A-Z0-9]", text_of(document))
    assert set(named) <= known


@pytest.mark.parametrize("readme", READMES)
def test_every_command_is_in_the_table_and_no_other_is(readme):
    assert sorted(COMMAND_ROW.findall(text_of(readme))) == sorted(commands(parser()))


def test_there_are_commands_to_try_in_both_readmes():
    assert {document for document, _ in shell_commands()} >= set(READMES)


@pytest.mark.parametrize(("document", "line"), shell_commands())
def test_a_shown_command_parses(document, line):
    wish = parser().parse_args(shlex.split(line)[1:])
    assert callable(wish.run), document


def test_every_error_code_is_listed_with_its_status_and_its_sentence():
    by_code = {kind.code: kind for kind in kinds()}
    told = {code: (status_of(by_code[code]), message) for code, message in MESSAGE.items()}
    rows = CODE_ROW.findall(text_of("docs/errors.md"))
    assert {code: (int(status), message) for code, status, message, _ in rows} == told
    assert len(rows) == len(told)


@pytest.mark.parametrize("readme", READMES)
def test_a_readme_names_error_codes_under_their_own_status(readme):
    by_code = {kind.code: kind for kind in kinds()}
    rows = re.findall(r"^\| (\d{3}(?:[、, ]+\d{3})*) \| .+? \| (.+) \|$", text_of(readme), re.MULTILINE)
    named = [(statuses, code) for statuses, cell in rows for code in re.findall(r"`([A-Z_]+)`", cell)]
    assert len(named) > 10
    for statuses, code in named:
        assert str(status_of(by_code[code])) in statuses


async def test_who_may_call_what_is_told_as_it_is(tmp_path):
    async with documented_till(tmp_path) as served:
        routes = [route for route in served.till.runner.app[ROUTES] if not route.path.startswith("/docs/")]
    text = text_of("docs/callers.md")
    told = {
        call: (payer != "–", scope.strip("`"), operator.startswith("yes"))
        for call, payer, scope, operator in CALL_ROW.findall(text)
    }
    assert told == {
        f"{route.method} {route.path}": (
            Who.PAYER in route.who,
            route.scope.value if route.scope else "–",
            bool(route.who & (Who.OPERATOR | Who.BACKEND)),
        )
        for route in routes
        if not route.is_open
    }
    for route in routes:
        if route.is_open:
            assert f"`{route.method} {route.path}`" in text


@pytest.mark.parametrize("document", [*READMES, "docs/callers.md"])
def test_the_shown_quote_is_one_that_a_payer_can_order_with(document, tmp_path, monkeypatch):
    monkeypatch.setenv("MINITILL_QUOTE_SECRET", QUOTE_SECRET)
    shown_code = [block for language, block in FENCE.findall(text_of(document)) if language == "python"]
    (tmp_path / "shop.py").write_text("\n".join(shown_code), encoding="utf-8")
    quote = runpy.run_path(str(tmp_path / "shop.py"))["quote"]("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", 100, "茶")
    wish = CreateOrder(openid="oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", total_fee=100, body="茶", quote=quote)
    quotes = Quotes(secrets=(QUOTE_SECRET,), clock=lambda: datetime.now(UTC))
    payer = Caller(kind=Who.PAYER, name="payer", openid=wish.openid)
    assert quotes.check(wish, payer) is not None


def test_the_picture_of_the_order_is_the_transition_table():
    diagrams = [
        block for _, block in FENCE.findall(text_of("docs/architecture.md")) if "stateDiagram" in block
    ]
    assert len(diagrams) == 1
    drawn = ARROW.findall(diagrams[0])
    table = {(old.value, new.value) for old, further in TRANSITIONS.items() for new in further}
    assert len(drawn) == len(table)
    assert set(drawn) == table


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document):
    for pair in LINK.findall(FENCE.sub("", text_of(document))):
        target = pair[0] or pair[1]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / document).parent / path if path else ROOT / document
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(str(found.resolve().relative_to(ROOT))), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nothing_is_left_to_be_written(document):
    assert not re.search(r"TODO|FIXME|TBD|XXX", text_of(document))


def test_every_fault_of_the_simulator_is_told():
    told = text_of("docs/simulator.md")
    named = {*GROUPS, *OPERATIONS, *(kind for group in GROUPS.values() for kind in group)}
    assert {name for name in named if f"`{name}`" not in told} == set()


def test_the_waits_of_the_courier_are_those_it_keeps():
    line = re.search(r"^- Waits between tries: (.+?), each", text_of("docs/webhooks.md"), re.MULTILINE)
    assert line is not None
    units = {"s": 1, "min": 60, "h": 3600}
    told = [int(number) * units[unit] for number, unit in (part.split() for part in line[1].split(", "))]
    assert told == [int(wait.total_seconds()) for wait in WAITS]


def test_pictures_are_small():
    pictures = list((ROOT / "docs" / "images").glob("*.png"))
    assert pictures
    assert all(0 < picture.stat().st_size < PNG_BYTES_MAX for picture in pictures)
