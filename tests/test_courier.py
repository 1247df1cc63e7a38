"""The courier over every store: in order, until heard, and never the same letter in two hands at once."""

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from attrs import Factory, define, evolve
from standardwebhooks import Webhook

from adapters.store.memory import LETTER_LEASE, MemoryStore
from adapters.store.sqlite import SqliteStore
from application.courier import ROUND_MAX, Courier, wait_of
from application.outbox import WAITS, Backend, Delivery, Letter, LetterState
from tests.sample_orders import NOW, paid, placed, promised, refunded
from tests.shop import INSTANT, Clock
from tests.webhook_shop import NEW, Shop

MANY = 999
WAITING, BEHIND, DELIVERED, SET_ASIDE = LetterState


@define
class Ear(Backend):
    """A shop that hears all but some orders, and remembers every try; never one letter twice at once."""

    clock: Clock
    deaf: set = Factory(set)
    slow: dict = Factory(dict)  # what to wait for, by the event's id
    takes: timedelta = timedelta(0)
    told: list = Factory(list)
    began: asyncio.Event = Factory(asyncio.Event)
    listening: Counter = Factory(Counter)
    most: int = 0  # letters in hand at once

    async def hear(self, event, now):
        self.told.append(event.id)
        self.began.set()
        self.listening[event.id] += 1
        assert self.listening[event.id] == 1, f"{event.id} is in two hands"
        self.most = max(self.most, self.listening.total())
        if event.id in self.slow:
            await self.slow[event.id].wait()
        await asyncio.sleep(0)  # let the others come
        self.listening[event.id] -= 1
        self.clock.now += self.takes
        heard = event.out_trade_no not in self.deaf
        return Delivery(event_id=event.id, at=now, heard=heard, status=200 if heard else 500, answer="so")


class PowerCut(Exception):
    """The process is gone."""


@define
class Watched:
    """An outbox that tells what was settled, or whose process dies just before."""

    outbox: object
    dies: bool = False
    settled: asyncio.Queue = Factory(asyncio.Queue)

    def due(self, now, limit):
        return self.outbox.due(now, limit)

    async def settle(self, letter, *outcome):
        if self.dies:
            raise PowerCut
        await self.outbox.settle(letter, *outcome)
        self.settled.put_nowait(letter.event.id)


@define
class Office:
    """One store where a shop listens, and how to get at it again."""

    open: object
    store: object = None

    async def restart(self):
        """What a new process finds: all that was written, and nothing else."""
        if isinstance(self.store, SqliteStore):
            await self.store.close()
            self.store = await self.open()

    async def second(self):
        """The store as another process has it, to be closed by `close`."""
        return await self.open() if isinstance(self.store, SqliteStore) else self.store

    @property
    def outbox(self):
        return self.store.outbox

    async def write(self, *orders):
        for order in orders:
            await self.store.orders.save(order)

    async def states(self):
        return {letter.event.id: letter.state for letter in await self.outbox.letters(None, MANY)}


@pytest.fixture(params=["memory", "sqlite"])
def office(request, runner, tmp_path):
    async def memory():
        return MemoryStore(listening=True)

    async def sqlite():
        return await SqliteStore.open(tmp_path / "minitill.db", listening=True)

    make = {"memory": memory, "sqlite": sqlite}[request.param]
    office = Office(make, runner.run(make()))
    yield office
    runner.run(office.store.close())


@pytest.fixture
def clock():
    return Clock(NOW)


@pytest.fixture
def ear(clock):
    return Ear(clock)


@pytest.fixture
def courier(office, ear, clock):
    return Courier(outbox=office.outbox, backend=ear, clock=clock)


def a_life(number):
    """An order of five public events, and two that are none of the shop's business."""
    order = paid(placed(number).prepared("wx43", NOW, "api"))
    order = refunded(promised(order, f"{number}R", 100), f"{number}R", "PROCESSING")
    return refunded(order, f"{number}R", "SUCCESS")


def public(number):
    return [event.id for event in a_life(number).events if event.is_public]


def of(number, told):
    return [event_id for event_id in told if event_id.startswith(number)]


async def deliver_all(courier):
    while await courier.deliver():
        pass


# -- in order ------------------------------------------------------------------------------------


async def test_the_shop_hears_all_of_every_order_in_order(office, courier, ear):
    numbers = [f"PAY{n:03}" for n in range(5)]
    await office.write(*(a_life(number) for number in numbers))
    await deliver_all(courier)
    assert [name.rpartition("-")[2] for name in public("PAY000")] == ["1", "3", "4", "6", "7"]
    for number in numbers:
        assert of(number, ear.told) == public(number)
    assert set((await office.states()).values()) == {DELIVERED}


async def test_where_nothing_is_due_nobody_is_told(office, courier, ear):
    assert await courier.deliver() == 0
    await office.write(placed("PAY001", NOW + INSTANT))
    assert await courier.deliver() == 0
    assert ear.told == []


async def test_a_letter_waits_until_the_one_before_it_was_heard(office, courier, ear, clock):
    ear.deaf.add("PAY001")
    await office.write(paid(placed("PAY001")))
    await deliver_all(courier)
    assert ear.told == ["PAY001-1"]
    assert await office.states() == {"PAY001-1": WAITING, "PAY001-2": BEHIND}
    ear.deaf.clear()
    clock.now += 2 * WAITS[0]
    await deliver_all(courier)
    assert ear.told == ["PAY001-1", "PAY001-1", "PAY001-2"]


async def test_a_deaf_order_never_holds_back_another(office, courier, ear):
    ear.deaf.add("PAY001")
    await office.write(a_life("PAY001"), a_life("PAY002"))
    await deliver_all(courier)
    assert of("PAY002", ear.told) == public("PAY002")
    assert of("PAY001", ear.told) == ["PAY001-1"]


async def test_a_slow_order_never_holds_back_another(office, ear, clock):
    watched = Watched(office.outbox)
    courier = Courier(outbox=watched, backend=ear, clock=clock)
    ear.slow["PAY001-1"] = asyncio.Event()
    await office.write(a_life("PAY001"), a_life("PAY002"))
    round_ = asyncio.ensure_future(courier.deliver())
    assert [await watched.settled.get() for _ in public("PAY002")] == public("PAY002")
    assert of("PAY002", ear.told) == public("PAY002")
    assert of("PAY001", ear.told) == ["PAY001-1"]
    assert not round_.done()
    ear.slow["PAY001-1"].set()
    assert await round_ == len(public("PAY001")) + len(public("PAY002"))
    assert of("PAY001", ear.told) == public("PAY001")


async def test_while_the_shop_sleeps_a_payment_is_written_down_at_once(office, courier, ear):
    """R24: what WeChat waits for never waits for the shop."""
    ear.slow["PAY001-1"] = asyncio.Event()
    order = placed("PAY001")
    await office.write(order)
    round_ = asyncio.ensure_future(courier.deliver())
    await ear.began.wait()
    await office.write(paid(evolve(order, events=())))
    assert not round_.done()
    assert set(await office.states()) == {"PAY001-1", "PAY001-2"}
    ear.slow["PAY001-1"].set()
    assert await round_ == 2


async def test_a_round_is_bounded(office, courier, ear):
    await office.write(*(placed(f"PAY{n:03}") for n in range(ROUND_MAX + 6)))
    assert [await courier.deliver() for _ in range(2)] == [ROUND_MAX + 6, 0]
    assert ear.most == ROUND_MAX
    assert len(set(ear.told)) == len(ear.told) == ROUND_MAX + 6


# -- until heard ---------------------------------------------------------------------------------


async def test_a_letter_nobody_hears_is_set_aside_after_three_days(office, courier, ear, clock, caplog):
    caplog.set_level(logging.INFO)
    ear.deaf.add("PAY001")
    await office.write(paid(placed("PAY001")))
    for tries, wait in enumerate(WAITS):
        assert await courier.deliver() == 1
        [letter] = await office.outbox.letters(WAITING, MANY)
        assert (letter.event.id, letter.tries) == ("PAY001-1", tries + 1)
        assert wait <= letter.due_at - clock.now <= wait * 1.25
        clock.now = letter.due_at - INSTANT
        assert await courier.deliver() == 0
        clock.now = letter.due_at
    assert "set aside" not in caplog.text
    assert timedelta(days=2.5) < clock.now - NOW < timedelta(days=3.6)
    assert await courier.deliver() == 2  # and the next one goes on
    assert ear.told == ["PAY001-1"] * 13 + ["PAY001-2"]
    assert (await office.states())["PAY001-1"] is SET_ASIDE
    assert [(record.levelname, record.args) for record in caplog.records] == [("ERROR", ("PAY001-1", 13))]


async def test_the_next_letter_goes_on_where_one_was_set_aside(office, courier, ear, clock):
    ear.deaf.add("PAY001")
    await office.write(paid(placed("PAY001")))
    while (await office.states())["PAY001-1"] is WAITING:
        await courier.deliver()
        clock.now += timedelta(days=2)
    ear.deaf.clear()
    await deliver_all(courier)
    assert await office.states() == {"PAY001-1": SET_ASIDE, "PAY001-2": DELIVERED}


async def test_each_try_is_kept(office, courier, ear, clock):
    ear.deaf.add("PAY001")
    await office.write(placed("PAY001"))
    at = []
    for _ in range(3):
        at.append(clock.now)
        await courier.deliver()
        clock.now += timedelta(hours=1)
    ear.deaf.clear()
    at.append(clock.now)
    await courier.deliver()
    tries = await office.outbox.deliveries("PAY001")
    assert [(one.event_id, one.at, one.heard, one.status, one.answer) for one in tries] == [
        ("PAY001-1", moment, heard, 200 if heard else 500, "so")
        for moment, heard in zip(at, [False, False, False, True], strict=True)
    ]


async def test_the_wait_begins_when_the_try_has_ended(office, courier, ear, clock):
    ear.deaf.add("PAY001")
    ear.takes = timedelta(seconds=9)
    await office.write(placed("PAY001"))
    await courier.deliver()
    [letter] = await office.outbox.letters(WAITING, MANY)
    assert letter.due_at >= NOW + timedelta(seconds=9) + WAITS[0]
    [delivery] = await office.outbox.deliveries("PAY001")
    assert delivery.at == NOW


def test_the_waits_grow_whatever_the_jitter():
    for event in (placed(f"PAY{n:03}").events[0] for n in range(50)):
        waits = [wait_of(Letter(event, tries)) for tries in range(len(WAITS))]
        assert waits == sorted(set(waits))
        assert waits == [wait_of(Letter(event, tries)) for tries in range(len(WAITS))]
        assert all(low <= wait <= low * 1.25 for low, wait in zip(WAITS, waits, strict=True))
    assert timedelta(days=2.5) < sum(WAITS, timedelta(0)) < timedelta(days=3.5)


def test_letters_of_one_moment_do_not_come_back_as_one():
    waits = {wait_of(Letter(placed(f"PAY{n:03}").events[0], 5)) for n in range(100)}
    assert len(waits) > 80
    assert max(waits) - min(waits) > WAITS[5] / 8


# -- once more -----------------------------------------------------------------------------------


async def test_a_letter_set_aside_can_be_replayed_from_the_beginning(office, courier, ear, clock):
    ear.deaf.add("PAY001")
    await office.write(placed("PAY001"))
    while (await office.states())["PAY001-1"] is WAITING:
        await courier.deliver()
        clock.now += timedelta(days=2)
    assert await office.outbox.replay("PAY001-1", clock.now)
    assert await courier.deliver() == 1
    [letter] = await office.outbox.letters(WAITING, MANY)
    assert letter.due_at - clock.now <= WAITS[0] * 1.25
    ear.deaf.clear()
    clock.now = letter.due_at
    assert await courier.deliver() == 1
    assert await office.states() == {"PAY001-1": DELIVERED}
    assert set(ear.told) == {"PAY001-1"}
    assert len(await office.outbox.deliveries("PAY001")) == len(ear.told) == 15


async def test_a_letter_that_was_heard_can_be_replayed(office, courier, ear, clock):
    await office.write(paid(placed("PAY001")))
    await deliver_all(courier)
    clock.now += INSTANT
    assert await office.outbox.replay("PAY001-1", clock.now)
    await deliver_all(courier)
    assert ear.told == ["PAY001-1", "PAY001-2", "PAY001-1"]
    assert len(await office.outbox.deliveries("PAY001")) == 3


async def test_a_crash_after_the_shop_heard_makes_it_hear_again(office, ear, clock):
    await office.write(paid(placed("PAY001")))
    with pytest.raises(PowerCut):
        await Courier(outbox=Watched(office.outbox, dies=True), backend=ear, clock=clock).deliver()
    await office.restart()
    courier = Courier(outbox=office.outbox, backend=ear, clock=clock)
    clock.now += LETTER_LEASE - INSTANT
    assert await courier.deliver() == 0
    clock.now += INSTANT
    await deliver_all(courier)
    assert ear.told == ["PAY001-1", "PAY001-1", "PAY001-2"]
    assert set((await office.states()).values()) == {DELIVERED}


async def test_a_stop_in_the_middle_of_a_try_loses_nothing(office, ear, clock):
    await office.write(paid(placed("PAY001")))
    arrived = ear.slow["PAY001-1"] = asyncio.Event()
    trying = asyncio.ensure_future(Courier(outbox=office.outbox, backend=ear, clock=clock).deliver())
    await ear.began.wait()
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    await office.restart()
    arrived.set()
    ear.listening.clear()
    clock.now += LETTER_LEASE
    await deliver_all(Courier(outbox=office.outbox, backend=ear, clock=clock))
    assert ear.told == ["PAY001-1", "PAY001-1", "PAY001-2"]


async def test_two_couriers_never_have_the_same_letter_in_hand(office, ear, clock):
    other = await office.second()
    couriers = [Courier(outbox=store.outbox, backend=ear, clock=clock) for store in (office.store, other)]
    numbers = [f"PAY{n:03}" for n in range(30)]
    await office.write(*(a_life(number) for number in numbers))
    while any(await asyncio.gather(*(courier.deliver() for courier in couriers))):
        pass
    for number in numbers:
        assert of(number, ear.told) == public(number)
    if other is not office.store:
        await other.close()


# -- all the way ---------------------------------------------------------------------------------


async def test_a_payment_reaches_a_shop_that_was_down_at_first(office):
    """Over real HTTP, verified by the library."""
    shop = await Shop().open()
    clock = Clock(datetime.now(UTC))  # the verifier's own
    courier = Courier(outbox=office.outbox, backend=shop.backend(), clock=clock)
    shop.answer = lambda _: web.Response(status=503, text="down")
    await office.write(paid(placed("PAY001")))
    await deliver_all(courier)
    shop.answer = lambda _: web.Response(text="up")
    clock.now += 2 * WAITS[0]
    await deliver_all(courier)
    heard = [Webhook(NEW).verify(body, dict(headers)) for _, _, headers, body in shop.heard]
    assert [(one["type"], one["data"]["version"]) for one in heard] == [
        ("order.created", 1),
        ("order.created", 1),
        ("order.paid", 2),
    ]
    tries = await office.outbox.deliveries("PAY001")
    assert [(one.status, one.answer) for one in tries] == [(503, "down"), (200, "up"), (200, "up")]
    await shop.close()
