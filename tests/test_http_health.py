"""Alive is one thing, ready another."""

import asyncio
import logging

import pytest

from adapters.http.health import Health
from application.errors import StoreUnavailable
from tests.http_till import Till, refusal


async def well():
    """A check that passes."""


async def broken():
    raise OSError(28, "No space left on device: /var/lib/till.db")


async def refusing():
    raise StoreUnavailable("database is locked")


async def stuck():
    await asyncio.Event().wait()


@pytest.fixture
def served(runner):
    tills = []

    async def open_till(**checks):
        health = Health(checks=checks, seconds_max=0 if stuck in checks.values() else 2)
        tills.append(await Till().open(*health.routes()))
        return tills[-1].client

    yield open_till
    for till in tills:
        runner.run(till.close())


async def test_a_process_that_answers_is_alive_whatever_else_fails(served):
    answer = await (await served(store=broken)).get("/healthz")
    assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_it_is_ready_when_every_check_passes(served):
    answer = await (await served(store=well, wechat=well)).get("/readyz")
    assert (answer.status, await answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("check", [broken, refusing, stuck])
async def test_it_is_not_ready_when_one_fails_and_says_which_but_not_why(served, caplog, check):
    caplog.set_level(logging.WARNING, "minitill.http")
    answer = await (await served(keys=well, store=check)).get("/readyz")
    error = await refusal(answer, 503, "NOT_READY")
    assert error["failed"] == ["store"]
    assert answer.headers["Retry-After"] == "5"
    assert "device" not in await answer.text()
    assert caplog.records[0].getMessage().startswith("not ready: store: ")


async def test_a_check_that_breaks_is_a_fault_of_ours(served):
    async def faulty():
        raise ValueError("nobody foresaw this")

    await refusal(await (await served(store=faulty)).get("/readyz"), 500, "INTERNAL_ERROR")
