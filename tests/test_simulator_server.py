"""The simulator as a server: it starts, stops and can be embedded without leaving anything behind."""

import asyncio
from datetime import timedelta

import aiohttp
import pytest

from adapters.wechat.simulator import SimClock, Simulator
from adapters.wechat.simulator.clock import Agenda
from tests.simulator_side import NUMBER, START, account, merchant


async def test_it_stops_while_a_caller_waits_for_an_answer_that_never_comes():
    async with merchant() as shop:
        await shop.sim("faults", {"calls": {"timeout_before": {"next": 1}}})
        waiting = asyncio.ensure_future(shop.place_v2())
        while shop.simulator.faults.in_force["calls"]["timeout_before"].next:  # noqa: ASYNC110 - see below
            # Nothing tells that the call has come in: that is what this fault is about.
            await asyncio.sleep(0)
        await shop.simulator.stop()
        with pytest.raises(aiohttp.ClientError):
            await waiting


async def test_it_stops_in_the_middle_of_a_notification():
    async with merchant() as shop:
        shop.silent = True
        await shop.place_v3()
        await shop.sim("pay", {"out_trade_no": NUMBER})
        await shop.rang.wait()
        await shop.simulator.stop()
        assert shop.simulator.notifier.sent[0].heard is False


async def test_a_reset_breaks_off_what_is_under_way():
    async with merchant() as shop:
        shop.silent = True
        await shop.place_v3()
        await shop.sim("pay", {"out_trade_no": NUMBER})
        await shop.rang.wait()
        await shop.sim("reset", {})
        await shop.simulator.settle()
        shop.silent = False
        await shop.place_v3()
        await shop.pay()
        assert len(shop.heard) == 2


async def test_it_starts_again_with_its_book_as_it_was():
    async with merchant() as shop:
        await shop.place_v3()
        await shop.simulator.stop()
        await shop.simulator.start("127.0.0.1", 0)
        assert (await shop.query_v3())[1]["trade_state"] == "NOTPAY"
        await shop.pay()
        assert len(shop.heard) == 1


async def test_a_taken_port_is_an_os_error():
    async with merchant() as shop:
        port = int(shop.simulator.url.rpartition(":")[2])
        second = Simulator(account())
        with pytest.raises(OSError, match="address already in use"):
            await second.start("127.0.0.1", port)
        await second.stop()


async def test_stopping_what_never_started_is_nothing():
    await Simulator(account()).stop()


async def test_a_plain_function_serves_as_the_clock():
    simulator = Simulator(account(), clock=lambda: START)
    assert simulator.clock.now() == START
    assert Simulator(account(), clock=SimClock(lambda: START)).clock.wire_now() == START
    assert Simulator(account()).clock.now().tzinfo is not None


async def test_two_simulators_do_not_share_a_book():
    async with merchant() as one, merchant() as other:
        await one.place_v3()
        assert (await other.query_v3())[0] == 404


async def test_calls_side_by_side_are_all_answered():
    async with merchant() as shop:
        answers = await asyncio.gather(*(shop.place_v2(f"PAY{n:06}") for n in range(50)))
        assert {answer["result_code"] for answer in answers} == {"SUCCESS"}
        assert len({answer["prepay_id"] for answer in answers}) == 50


async def test_of_many_payments_of_one_order_one_goes_through():
    async with merchant() as shop:
        await shop.place_v3()

        async def pay():
            url = f"{shop.simulator.url}/_sim/pay"
            async with shop.session.post(url, json={"out_trade_no": NUMBER}) as response:
                return response.status

        assert sorted(await asyncio.gather(*(pay() for _ in range(10)))) == [200] + [400] * 9
        await shop.simulator.settle()
        assert len(shop.heard) == 1


async def test_the_agenda_does_each_thing_at_its_moment():
    clock = SimClock(lambda: START)
    agenda, done = Agenda(clock), []

    def at(seconds):
        async def act():
            done.append(seconds)

        agenda.at(START + timedelta(seconds=seconds), act)

    for seconds in (20, 0, 10):
        at(seconds)
    agenda.start()
    await agenda.settle()
    assert done == [0]
    clock.advance(timedelta(seconds=15))
    await agenda.settle()
    assert done == [0, 10]
    clock.advance(timedelta(seconds=5))
    await agenda.settle()
    assert done == [0, 10, 20]
    await agenda.stop()


async def test_what_an_action_raises_is_raised_when_settling():
    clock = SimClock(lambda: START)
    agenda = Agenda(clock)

    async def breaks():
        raise ZeroDivisionError

    agenda.at(START, breaks)
    agenda.start()
    with pytest.raises(ZeroDivisionError):
        await agenda.settle()
    await agenda.stop()


async def test_it_waits_for_real_moments_by_itself():
    agenda, done = Agenda(SimClock()), asyncio.Event()

    async def act():
        done.set()

    agenda.start()
    agenda.at(agenda.clock.now() + timedelta(milliseconds=20), act)
    await done.wait()
    await agenda.stop()
