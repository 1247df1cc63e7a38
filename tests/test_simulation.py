"""Shops on bad days: whatever fails, nothing is lost and nothing happens twice.

A failure names its seed and step; the same story again: pytest tests/test_simulation.py --simulate-seed=SEED
(or SIMULATION_SEED=SEED). `make simulate SECONDS=600` tells fresh stories for as long as wanted.
"""

import os
import secrets
import time

import pytest
from attrs import evolve

from application.refunds import Refunds
from domain.order import Order
from tests.simulated_wire import WireStory
from tests.simulation import SafetyBroken, Story

pytestmark = pytest.mark.slow

STEPS = 120
IN_MEMORY, ON_DISK, ON_THE_WIRE = range(200), range(12), range(6)  # with STEPS each: 26,160 steps


@pytest.fixture
def chosen(request):
    """The one seed that is asked for, if one is."""
    return request.config.getoption("--simulate-seed") or os.environ.get("SIMULATION_SEED", "")


@pytest.fixture
def seconds(request):
    """How long fresh stories are told; 0: the usual ones, for all time the same."""
    return request.config.getoption("--simulate-seconds")


def a_story(seed, folder):
    """The story of that seed; its first letter tells where it plays."""
    folder = folder / seed
    folder.mkdir()
    odd = {"refund_late": seed[-1] in "13579bdf"}
    if seed.startswith("wire"):
        return WireStory(seed, path=folder, **odd)
    if seed.startswith("disk"):
        return Story(seed, path=folder / "minitill.db", crowded=False, **odd)
    return Story(seed, **odd)


async def tell(kind, seeds, folder, chosen, seconds):
    """The usual stories of a kind, the one that is asked for, or fresh ones until time is up."""
    if chosen:
        seeds = [chosen] if chosen.startswith(kind) else []
    until = time.monotonic() + seconds / 3
    names = (f"{kind}-{seed}" for seed in seeds) if not chosen else iter(seeds)
    told = 0
    while seed := f"{kind}-{secrets.token_hex(6)}" if seconds and not chosen else next(names, None):
        await a_story(seed, folder).run(STEPS)
        told += 1
        if seconds and time.monotonic() > until:
            break
    return told


async def test_nothing_is_lost_when_many_things_happen_at_once(tmp_path, chosen, seconds):
    """R10, R12, R13, R16, R25, R29, R30, R34 to R40, R45: crowded stories, with crashes, in memory."""
    await tell("memory", IN_MEMORY, tmp_path, chosen, seconds)


async def test_nothing_is_lost_over_restarts_on_one_file(tmp_path, chosen, seconds):
    """The same on SQLite, where every restart opens the file anew."""
    await tell("disk", ON_DISK, tmp_path, chosen, seconds)


async def test_nothing_is_lost_on_the_wire(tmp_path, chosen, seconds):
    """R13, R25, R29, R30: the real V2 and V3 lines and the real handler, over sockets that break."""
    await tell("wire", ON_THE_WIRE, tmp_path, chosen, seconds)


async def test_the_same_seed_tells_the_same_story():
    one, other = Story("again"), Story("again")
    await one.run(STEPS)
    await other.run(STEPS)
    assert one.store.events == other.store.events
    assert one.shop.heard == other.shop.heard


# -- the rules notice what they are there for --------------------------------------------------


async def tell_until_broken(match):
    with pytest.raises(SafetyBroken, match=match) as broken:
        for seed in range(60):
            await Story(f"broken-{seed}").run(STEPS)
    assert "seed broken-" in str(broken.value)
    assert ", step " in str(broken.value)


async def test_a_status_that_runs_ahead_of_wechat_is_noticed(monkeypatch):
    rightly = Order.apply
    monkeypatch.setattr(
        Order, "apply", lambda order, trade, *how: rightly(order, evolve(trade, mch_id="", appid=""), *how)
    )
    await tell_until_broken("at WeChat")


async def test_a_refund_that_forgets_its_number_is_noticed(monkeypatch):
    async def careless(self, order, refund, *how, **named):
        await self.gateway.refund(order, evolve(refund, out_refund_no=f"X{refund.out_refund_no}"))
        return await rightly(self, order, refund, *how, **named)

    rightly = Refunds._carry
    monkeypatch.setattr(Refunds, "_carry", careless)
    await tell_until_broken("never wrote down")
