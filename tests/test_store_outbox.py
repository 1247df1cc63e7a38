"""What every store promises about the letters to the shop's backend."""

import asyncio
from datetime import timedelta

import pytest

from adapters.store.memory import LETTER_LEASE, MemoryStore
from adapters.store.sqlite import SqliteStore
from application.outbox import Delivery, Letter, LetterState
from domain.errors import StaleOrder
from tests.sample_orders import NOW, SECOND, closed, paid, placed, promised, refunded, saved

INSTANT = timedelta(microseconds=1)
LATER = NOW + timedelta(days=1)
MANY = 99
WAITING, BEHIND, DELIVERED, SET_ASIDE = LetterState


@pytest.fixture(params=["memory", "sqlite"])
def listening_store(request, runner, tmp_path):
    """Every store in turn, where a shop listens."""
    if request.param == "memory":
        yield MemoryStore(listening=True)
        return
    store = runner.run(SqliteStore.open(tmp_path / "minitill.db", listening=True))
    yield store
    runner.run(store.close())


@pytest.fixture
def outbox(listening_store):
    return listening_store.outbox


def delivery_of(letter, at, *, heard):
    return Delivery(
        event_id=letter.event.id,
        at=at,
        heard=heard,
        status=200 if heard else 503,
        answer="好" if heard else "",
        error="" if heard else "busy",
        milliseconds=12,
    )


async def deliver(outbox, letter, at=NOW):
    await outbox.settle(letter, delivery_of(letter, at, heard=True), DELIVERED, at)


async def fail(outbox, letter, at, until):
    await outbox.settle(letter, delivery_of(letter, at, heard=False), WAITING, until)


async def give_up(outbox, letter, at=NOW):
    await outbox.settle(letter, delivery_of(letter, at, heard=False), SET_ASIDE, at)


async def claim(outbox, at=NOW):
    """The one letter that is due."""
    (letter,) = await outbox.due(at, MANY)
    return letter


async def standing(outbox):
    """Every letter's state by its event's id."""
    return {letter.event.id: letter.state for letter in await outbox.letters(None, MANY)}


def ids(letters):
    return [letter.event.id for letter in letters]


# -- writing -------------------------------------------------------------------------------------


async def test_where_nobody_listens_no_letter_is_written(store):
    await store.orders.save(paid(placed()))
    assert await store.outbox.letters(None, MANY) == []
    assert await store.outbox.due(LATER, MANY) == []
    assert await store.outbox.oldest_waiting() is None


async def test_a_letter_is_written_with_its_order_and_due_at_once(listening_store, outbox):
    order = placed()
    await listening_store.orders.save(order)
    assert await outbox.letters(None, MANY) == [Letter(order.events[0], 0, WAITING, NOW)]
    assert await outbox.due(NOW - INSTANT, MANY) == []
    assert await outbox.due(NOW, MANY) == [Letter(order.events[0], 0, WAITING, NOW + LETTER_LEASE)]


async def test_an_order_that_is_not_saved_has_no_letter(listening_store, outbox):
    order = await saved(listening_store, placed())
    await listening_store.orders.save(paid(order))
    with pytest.raises(StaleOrder):
        await listening_store.orders.save(closed(order))
    assert ids(await outbox.letters(None, MANY)) == ["PAY001-2", "PAY001-1"]
    assert (await outbox.letters(None, 1))[0].event.name == "order.paid"


async def test_only_what_concerns_the_shop_is_written(listening_store, outbox):
    order = await saved(listening_store, placed())
    order = await saved(listening_store, order.prepared("wx43", NOW, "api"))
    order = await saved(listening_store, promised(paid(order), "R1"))
    await listening_store.orders.save(refunded(order, "R1", "PROCESSING"))
    names = {letter.event.name for letter in await outbox.letters(None, MANY)}
    assert names == {"order.created", "order.paid", "refund.processing"}


async def test_of_each_order_one_letter_waits_and_the_others_stay_behind(listening_store, outbox):
    await listening_store.orders.save(promised(paid(placed("PAY001")), "R1"))
    order = await saved(listening_store, placed("PAY002"))
    await listening_store.orders.save(paid(order))
    assert await standing(outbox) == {
        "PAY001-1": WAITING,
        "PAY001-2": BEHIND,
        "PAY001-3": BEHIND,
        "PAY002-1": WAITING,
        "PAY002-2": BEHIND,
    }
    assert sorted(ids(await outbox.due(LATER, MANY))) == ["PAY001-1", "PAY002-1"]


async def test_a_letter_after_all_were_delivered_waits_in_front(listening_store, outbox):
    order = await saved(listening_store, placed())
    await deliver(outbox, await claim(outbox))
    await listening_store.orders.save(paid(order))
    assert (await claim(outbox)).event.name == "order.paid"


# -- claiming ------------------------------------------------------------------------------------


async def test_a_claimed_letter_is_due_again_when_its_lease_runs_out(listening_store, outbox):
    await listening_store.orders.save(placed())
    for tries in range(3):
        at = LATER + tries * LETTER_LEASE
        letter = await claim(outbox, at)
        assert (letter.tries, letter.due_at) == (tries, at + LETTER_LEASE)
        assert await outbox.due(at + LETTER_LEASE - INSTANT, MANY) == []
    assert [letter.tries for letter in await outbox.letters(WAITING, MANY)] == [3]


async def test_the_longest_overdue_letters_are_claimed_first(listening_store, outbox):
    for n in (3, 1, 4, 2):
        await listening_store.orders.save(placed(f"PAY{n:03}", NOW + n * SECOND))
    rounds = [sorted(ids(await outbox.due(LATER, 2))) for _ in range(3)]
    assert rounds == [["PAY001-1", "PAY002-1"], ["PAY003-1", "PAY004-1"], []]


async def test_claims_at_the_same_time_never_share_a_letter(listening_store, outbox):
    for n in range(30):
        await listening_store.orders.save(paid(placed(f"PAY{n:03}")))
    rounds = await asyncio.gather(*(outbox.due(NOW, 7) for _ in range(6)))
    assert sorted(key for letters in rounds for key in ids(letters)) == [f"PAY{n:03}-1" for n in range(30)]


# -- settling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settle", [deliver, give_up])
async def test_a_settled_letter_lets_the_next_one_of_its_order_through(listening_store, outbox, settle):
    await listening_store.orders.save(promised(paid(placed()), "R1"))
    await listening_store.orders.save(paid(placed("PAY002", NOW + timedelta(days=9))))
    seen = []
    for n in range(3):
        at = LATER + n * SECOND
        letter = await claim(outbox, at)
        seen.append(letter.event.name)
        await settle(outbox, letter, at)
    assert seen == ["order.created", "order.paid", "refund.processing"]
    assert await outbox.due(LATER + 3 * SECOND, MANY) == []
    assert (await standing(outbox))["PAY002-2"] is BEHIND


async def test_a_letter_that_was_not_heard_waits_and_holds_the_others_back(listening_store, outbox):
    await listening_store.orders.save(paid(placed()))
    await fail(outbox, await claim(outbox), NOW, NOW + 30 * SECOND)
    assert await outbox.due(NOW + 30 * SECOND - INSTANT, MANY) == []
    letter = await claim(outbox, NOW + 30 * SECOND)
    assert (letter.event.id, letter.tries) == ("PAY001-1", 1)


async def test_a_settled_letter_is_not_due_any_more(listening_store, outbox):
    await listening_store.orders.save(placed("PAY001"))
    await listening_store.orders.save(placed("PAY002"))
    first, second = await outbox.due(NOW, MANY)
    await deliver(outbox, first)
    await give_up(outbox, second)
    assert await outbox.due(LATER, MANY) == []
    assert await standing(outbox) == {first.event.id: DELIVERED, second.event.id: SET_ASIDE}


async def test_whoever_comes_back_late_takes_nothing_back(listening_store, outbox):
    await listening_store.orders.save(paid(placed()))
    slow = await claim(outbox, NOW)
    quick = await claim(outbox, NOW + LETTER_LEASE)
    await deliver(outbox, quick, NOW + LETTER_LEASE)
    await fail(outbox, slow, NOW + LETTER_LEASE + SECOND, LATER)
    assert await standing(outbox) == {"PAY001-1": DELIVERED, "PAY001-2": WAITING}
    assert [one.heard for one in await outbox.deliveries("PAY001")] == [True, False]


async def test_what_was_heard_late_is_heard_all_the_same(listening_store, outbox):
    await listening_store.orders.save(paid(placed()))
    slow = await claim(outbox, NOW)
    quick = await claim(outbox, NOW + LETTER_LEASE)
    await give_up(outbox, quick, NOW + LETTER_LEASE)
    await deliver(outbox, slow, NOW + LETTER_LEASE + SECOND)
    assert await standing(outbox) == {"PAY001-1": DELIVERED, "PAY001-2": WAITING}


async def test_letters_and_settling_at_the_same_time_leave_one_waiting(listening_store, outbox):
    order = await saved(listening_store, placed())
    letter = await claim(outbox)
    await asyncio.gather(listening_store.orders.save(paid(order)), deliver(outbox, letter))
    assert await standing(outbox) == {"PAY001-1": DELIVERED, "PAY001-2": WAITING}


async def test_every_try_is_written_down_oldest_first(listening_store, outbox):
    await listening_store.orders.save(paid(placed()))
    await listening_store.orders.save(placed("PAY002", LATER))
    letter = await claim(outbox, NOW)
    await fail(outbox, letter, NOW, NOW + SECOND)
    again = await claim(outbox, NOW + SECOND)
    await deliver(outbox, again, NOW + SECOND)
    paid_letter = await claim(outbox, NOW + 2 * SECOND)
    await deliver(outbox, paid_letter, NOW + 2 * SECOND)
    await outbox.replay("PAY001-1", NOW + 3 * SECOND)
    replayed = await claim(outbox, NOW + 3 * SECOND)
    await deliver(outbox, replayed, NOW + 3 * SECOND)
    assert list(await outbox.deliveries("PAY001")) == [
        delivery_of(letter, NOW, heard=False),
        delivery_of(again, NOW + SECOND, heard=True),
        delivery_of(paid_letter, NOW + 2 * SECOND, heard=True),
        delivery_of(replayed, NOW + 3 * SECOND, heard=True),
    ]
    assert await outbox.deliveries("PAY002") == []


async def test_a_try_without_an_answer_is_written_down(listening_store, outbox):
    await listening_store.orders.save(placed())
    letter = await claim(outbox)
    nothing = Delivery(event_id="PAY001-1", at=NOW, heard=False, error="timed out", milliseconds=10_000)
    await outbox.settle(letter, nothing, WAITING, LATER)
    assert list(await outbox.deliveries("PAY001")) == [nothing]


async def test_the_same_try_told_twice_is_one_try(listening_store, outbox):
    await listening_store.orders.save(placed())
    letter = await claim(outbox)
    await deliver(outbox, letter)
    await deliver(outbox, letter)
    assert len(await outbox.deliveries("PAY001")) == 1


# -- replaying -----------------------------------------------------------------------------------


@pytest.mark.parametrize("settle", [deliver, give_up])
async def test_a_replayed_letter_is_due_at_once_with_its_tries_before_it(listening_store, outbox, settle):
    await listening_store.orders.save(placed())
    await settle(outbox, await claim(outbox))
    assert await outbox.replay("PAY001-1", LATER)
    assert await outbox.due(LATER - INSTANT, MANY) == []
    letter = await claim(outbox, LATER)
    assert (letter.tries, letter.state) == (0, WAITING)
    await deliver(outbox, letter, LATER)
    assert await standing(outbox) == {"PAY001-1": DELIVERED}


@pytest.mark.parametrize(
    "event_id",
    [
        *("PAY404-1", "PAY001-2", "PAY001-0", "PAY001-01", "PAY001-²", "PAY001-１", "PAY001-1\n"),
        *("PAY001-", "-1", "PAY001", "", "PAY001-9999999999999999999"),
    ],
)
async def test_a_letter_that_is_not_there_can_not_be_replayed(listening_store, outbox, event_id):
    await listening_store.orders.save(placed())
    await deliver(outbox, await claim(outbox))
    assert await outbox.replay(event_id, NOW) is False
    assert await standing(outbox) == {"PAY001-1": DELIVERED}


async def test_a_replayed_letter_comes_before_the_later_ones_of_its_order(listening_store, outbox):
    await listening_store.orders.save(promised(paid(placed()), "R1"))
    await deliver(outbox, await claim(outbox))
    assert await outbox.replay("PAY001-1", NOW + SECOND)
    seen = []
    for n in range(1, 4):
        letter = await claim(outbox, NOW + n * SECOND)
        seen.append(letter.event.id)
        assert (await standing(outbox))["PAY001-3"] is (BEHIND if n < 3 else WAITING)
        await deliver(outbox, letter, NOW + n * SECOND)
    assert seen == ["PAY001-1", "PAY001-2", "PAY001-3"]


# -- showing -------------------------------------------------------------------------------------


async def test_letters_are_shown_by_state_newest_first(listening_store, outbox):
    for n in (2, 1, 3):
        await listening_store.orders.save(paid(placed(f"PAY{n:03}", NOW + n * SECOND), NOW + n * SECOND))
    await deliver(outbox, await claim(outbox, NOW + SECOND), NOW + SECOND)
    assert ids(await outbox.letters(WAITING, MANY)) == ["PAY003-1", "PAY002-1", "PAY001-2"]
    assert ids(await outbox.letters(BEHIND, MANY)) == ["PAY003-2", "PAY002-2"]
    assert ids(await outbox.letters(DELIVERED, MANY)) == ["PAY001-1"]
    assert await outbox.letters(SET_ASIDE, MANY) == []
    assert ids(await outbox.letters(None, 3)) == ["PAY003-2", "PAY003-1", "PAY002-2"]
    assert ids(await outbox.letters(WAITING, 1)) == ["PAY003-1"]


async def test_the_oldest_waiting_letter_is_told_however_its_next_try_was_put(listening_store, outbox):
    await listening_store.orders.save(paid(placed("PAY001", NOW), NOW + 5 * SECOND))
    await listening_store.orders.save(placed("PAY002", NOW + 2 * SECOND))
    await fail(outbox, await claim(outbox, NOW), NOW, LATER)
    assert await outbox.oldest_waiting() == NOW
    await deliver(outbox, await claim(outbox, LATER - SECOND), LATER - SECOND)
    assert await outbox.oldest_waiting() == NOW
    await deliver(outbox, await claim(outbox, LATER), LATER)
    assert await outbox.oldest_waiting() == NOW + 5 * SECOND
    await deliver(outbox, await claim(outbox, LATER), LATER)
    assert await outbox.oldest_waiting() is None
