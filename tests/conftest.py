"""The event loop that a test and its fixtures share."""

import asyncio
import inspect
from collections.abc import Iterator

import pytest

from adapters.store.memory import MemoryStore
from adapters.store.sqlite import SqliteStore


@pytest.fixture(autouse=True)
def runner() -> Iterator[asyncio.Runner]:
    """The one event loop a test and its fixtures share."""
    with asyncio.Runner() as runner:
        yield runner


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests; this is all the plugin we need."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    pyfuncitem.funcargs["runner"].run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(params=["memory", "sqlite"])
def store(request, runner, tmp_path):
    """Every store in turn: they keep the same promises."""
    if request.param == "memory":
        yield MemoryStore()
        return
    store = runner.run(SqliteStore.open(tmp_path / "minitill.db"))
    yield store
    runner.run(store.close())


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the simulation runs, and which of its stories alone."""
    parser.addoption("--simulate-seconds", type=int, default=0, help="run fresh stories for so long")
    parser.addoption("--simulate-seed", default="", help="run this one story of the simulation")
