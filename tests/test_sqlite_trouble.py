"""Trouble with one write, or with the file, stays where it belongs."""

import asyncio
import subprocess
import sys
import threading

import pytest
from attrs import evolve

from adapters.store.engine import Step
from adapters.store.sql_orders import NEW_EVENT, event_row
from adapters.store.sqlite import SqliteStore
from application.answers import Answer
from application.errors import StoreUnavailable
from domain.order import Status
from tests.sample_orders import NOW, placed

ANSWER = Answer(caller="o1", key="k", request_hash="9f86", number="PAY001", status=200, body=b"{}", at=NOW)


@pytest.fixture
def store(runner, tmp_path):
    store = runner.run(SqliteStore.open(tmp_path / "minitill.db"))
    yield store
    runner.run(store.close())


@pytest.mark.parametrize(
    ("answer", "error"),
    [(evolve(ANSWER, key="\udcff"), UnicodeEncodeError), (evolve(ANSWER, status=2**63), OverflowError)],
    ids=["half a surrogate", "65 bits"],
)
async def test_a_value_that_sqlite_can_not_hold_is_its_own_write_s_trouble(store, answer, error):
    results = await asyncio.gather(
        store.orders.save(placed("PAY001")),
        store.orders.save(placed("PAY002"), answer),
        store.orders.save(placed("PAY003")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), error, type(None)]
    await store.orders.save(placed("PAY004"))
    assert (await store.orders.counts())[Status.PENDING] == 3


async def test_a_broken_constraint_is_its_own_write_s_trouble(store):
    orphan = Step(NEW_EVENT, event_row(placed("PAY404").events[0]))
    results = await asyncio.gather(
        store.orders.save(placed("PAY001")),
        store.engine.write([orphan]),
        store.orders.save(placed("PAY002")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), StoreUnavailable, type(None)]
    assert (await store.orders.counts())[Status.PENDING] == 2


async def test_a_closed_store_refuses_to_write(tmp_path):
    store = await SqliteStore.open(tmp_path / "minitill.db")
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.orders.save(placed())


async def test_a_file_that_can_not_be_opened_leaves_no_thread_behind(tmp_path):
    (tmp_path / "letter.db").write_text("not a database, but a letter of some length " * 10)
    before = set(threading.enumerate())
    for path in (tmp_path / "letter.db", tmp_path / "missing" / "minitill.db"):
        with pytest.raises(StoreUnavailable):
            await SqliteStore.open(path)
    assert set(threading.enumerate()) <= before


OPEN_AT_ONCE = """
import asyncio, sys
from pathlib import Path
from adapters.store.sqlite import SqliteStore

async def opened(number):
    await (await SqliteStore.open(Path(sys.argv[1]) / f"{number}.db")).close()

sys.stdin.readline()
for number in range(8):
    asyncio.run(opened(number))
"""


@pytest.mark.slow
def test_processes_that_start_at_once_on_a_new_file_all_start(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN_AT_ONCE, str(tmp_path)], **pipes) for _ in range(4)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], said
