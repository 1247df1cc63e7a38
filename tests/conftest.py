"""The event loop that a test and its fixtures share."""

import asyncio
import inspect
import logging
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import settings

from adapters.store.memory import MemoryStore
from adapters.store.sqlite import SqliteStore
from tests.watched_logs import WATCH

# A busy machine is slow, not wrong; on CI hypothesis says the same of the same code.
settings.register_profile("house", parent=settings(), deadline=None)
settings.load_profile("house")


@pytest.fixture(scope="session", autouse=True)
def watched_logs() -> Iterator[None]:
    """Every log line of the whole suite is read, and what started processes write to standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.Logger, "callHandlers", WATCH.around(logging.Logger.callHandlers))
        patch.setattr(subprocess.Popen, "communicate", WATCH.behind(subprocess.Popen.communicate))
        yield


@pytest.fixture(autouse=True)
def no_secret_in_any_log(watched_logs: None) -> Iterator[None]:
    """R46: a test whose log lines hold a secret has failed, whatever else it shows."""
    WATCH.found.clear()
    yield
    assert not WATCH.found, f"{len(WATCH.found)} log lines hold a secret"


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


# Tests that open sockets: milliseconds each, and thousands of them.
ON_THE_WIRE = (
    "access",
    "attacks",
    "certificates",
    "client",
    "docs_page",
    "doctor",
    "gateway",
    "http",
    "independent",
    "login",
    "metrics",
    "notify",
    "openapi",
    "quotes",
    "simulator",
    "v2_gateway",
    "v2_refunds",
    "v3_gateway",
    "v3_refunds",
    "webhook",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what goes over the wire, so that `make quick` can leave it out."""
    for item in items:
        if item.path.stem.removeprefix("test_").startswith(ON_THE_WIRE):
            item.add_marker("wire")
