"""What every store promises about the agenda: who is on it, since when, and who may take it."""

import asyncio
from datetime import timedelta

import pytest

from adapters.store.sqlite import SqliteStore
from application.agenda import (
    DAY,
    HOUR,
    LEASE,
    MINUTE,
    DueOrder,
    DueRefund,
    first_check,
    first_look,
    next_look,
)
from domain.order import Status
from domain.trade import TradeState
from tests.sample_orders import (
    NOW,
    SECOND,
    closed,
    draft,
    paid,
    placed,
    promised,
    refunded,
    saved,
    told,
    unanswered,
)

INSTANT = timedelta(microseconds=1)
LATER = NOW + DAY
MANY = 99


def numbers(due):
    return [entry.order.out_trade_no for entry in due]


def refund_numbers(due):
    return [entry.refund.out_refund_no for entry in due]


async def with_refunds(store, *out_refund_nos, out_trade_no="PAY001", now=NOW):
    """A paid order with these refunds, as stored."""
    order = paid(placed(out_trade_no, now), now)
    for number in out_refund_nos:
        order = promised(order, number, 1, now)
    return await saved(store, order)


# -- orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [placed(), unanswered()], ids=["placed", "unanswered"])
async def test_a_pending_order_is_due_at_its_first_look(store, order):
    stored = await saved(store, order)
    assert await store.agenda.due_orders(first_look(order) - INSTANT, MANY) == []
    assert await store.agenda.due_orders(first_look(order), MANY) == [DueOrder(stored, 1)]


async def test_an_order_that_was_refused_at_once_is_never_due(store):
    await store.orders.save(draft().refused("NOAUTH", NOW, "api"))
    assert await store.agenda.due_orders(LATER, MANY) == []


@pytest.mark.parametrize(
    "step",
    [paid, closed, lambda o: told(o, TradeState.PAYERROR), lambda o: o.refused("no", NOW, "api")],
    ids=["paid", "closed", "payerror", "refused"],
)
async def test_an_order_that_is_no_longer_pending_leaves_the_agenda(store, step):
    order = await saved(store, placed())
    await store.orders.save(placed("PAY002"))
    assert (await saved(store, step(order))).status is not Status.PENDING
    await store.agenda.postpone_order("PAY001", NOW)
    assert numbers(await store.agenda.due_orders(LATER, MANY)) == ["PAY002"]


async def test_an_order_that_left_does_not_come_back(store):
    order = await saved(store, closed(placed()))
    order = await saved(store, paid(order))
    await store.orders.save(promised(order, "R1"))
    assert await store.agenda.due_orders(LATER, MANY) == []


async def test_a_step_that_leaves_the_order_pending_leaves_its_time_alone(store):
    order = await saved(store, unanswered())
    await store.agenda.postpone_order("PAY001", NOW + HOUR)
    await store.orders.save(order.prepared("wx43", NOW + MINUTE, "api"))
    assert await store.agenda.due_orders(NOW + HOUR - INSTANT, MANY) == []
    assert numbers(await store.agenda.due_orders(NOW + HOUR, MANY)) == ["PAY001"]


async def test_a_claim_moves_the_order_a_lease_ahead_and_counts(store):
    await store.orders.save(placed())
    for looks in range(1, 4):
        at = LATER + (looks - 1) * LEASE
        assert [due.looks for due in await store.agenda.due_orders(at, MANY)] == [looks]
        assert await store.agenda.due_orders(at + LEASE - INSTANT, MANY) == []


async def test_the_longest_overdue_order_comes_first(store):
    for n, number in enumerate(("PAY003", "PAY001", "PAY004", "PAY002")):
        await store.orders.save(placed(number))
        await store.agenda.postpone_order(number, NOW + n * SECOND)
    assert numbers(await store.agenda.due_orders(NOW + 2 * SECOND, MANY)) == ["PAY003", "PAY001", "PAY004"]


async def test_no_more_orders_are_claimed_than_asked_for(store):
    for n in range(5):
        await store.orders.save(placed(f"PAY{n:03}"))
        await store.agenda.postpone_order(f"PAY{n:03}", NOW - n * SECOND)
    rounds = [numbers(await store.agenda.due_orders(NOW, 2)) for _ in range(4)]
    assert rounds == [["PAY004", "PAY003"], ["PAY002", "PAY001"], ["PAY000"], []]


async def test_claims_at_the_same_time_never_share_an_order(store):
    for n in range(40):
        await store.orders.save(placed(f"PAY{n:03}"))
    rounds = await asyncio.gather(*(store.agenda.due_orders(LATER, 7) for _ in range(8)))
    claimed = [number for due in rounds for number in numbers(due)]
    assert sorted(claimed) == [f"PAY{n:03}" for n in range(40)]
    assert max(len(due) for due in rounds) == 7


async def test_processes_that_share_a_file_never_share_an_order_or_a_refund(tmp_path):
    stores = [await SqliteStore.open(tmp_path / "minitill.db") for _ in range(2)]
    for n in range(20):
        await stores[0].orders.save(placed(f"PAY{n:03}"))
        await with_refunds(stores[0], f"R{n:03}", out_trade_no=f"PAZ{n:03}")
    orders = await asyncio.gather(*(stores[n % 2].agenda.due_orders(LATER, 4) for n in range(6)))
    refunds = await asyncio.gather(*(stores[n % 2].agenda.due_refunds(LATER, 4) for n in range(6)))
    assert sorted(n for due in orders for n in numbers(due)) == [f"PAY{n:03}" for n in range(20)]
    assert sorted(n for due in refunds for n in refund_numbers(due)) == [f"R{n:03}" for n in range(20)]
    for store in stores:
        await store.close()


async def test_a_postponed_order_is_due_when_it_was_put(store):
    order = await saved(store, placed())
    (due,) = await store.agenda.due_orders(LATER, MANY)
    at = next_look(order, due.looks, NOW + MINUTE * 2)
    await store.agenda.postpone_order("PAY001", at)
    assert await store.agenda.due_orders(at - INSTANT, MANY) == []
    assert await store.agenda.due_orders(at, MANY) == [DueOrder(order, 2)]


async def test_only_what_is_still_there_is_postponed(store):
    await store.orders.save(placed("PAY002"))
    await store.orders.save(closed(placed("PAY001")))
    await store.agenda.postpone_order("PAY001", NOW)
    await store.agenda.postpone_order("PAY404", NOW)
    assert numbers(await store.agenda.due_orders(LATER, MANY)) == ["PAY002"]


async def test_an_order_paid_while_it_is_claimed_stays_off(store):
    order = await saved(store, placed())
    await store.agenda.due_orders(LATER, MANY)
    await store.orders.save(paid(order))
    await store.agenda.postpone_order("PAY001", LATER)
    assert await store.agenda.due_orders(LATER + DAY, MANY) == []


# -- refunds -------------------------------------------------------------------------------------


async def test_a_promised_refund_is_due_at_its_first_check(store):
    order = await with_refunds(store, "R1")
    refund = order.refund("R1")
    assert await store.agenda.due_refunds(first_check(refund) - INSTANT, MANY) == []
    assert await store.agenda.due_refunds(first_check(refund), MANY) == [DueRefund(order, refund, 1)]


@pytest.mark.parametrize("end", ["SUCCESS", "CLOSED"])
async def test_a_settled_refund_leaves_the_agenda(store, end):
    order = await with_refunds(store, "R1", "R2")
    await store.orders.save(refunded(order, "R1", end))
    await store.agenda.postpone_refund("R1", NOW)
    # Nor does it take another's place.
    assert refund_numbers(await store.agenda.due_refunds(LATER, 1)) == ["R2"]


async def test_a_refused_refund_leaves_the_agenda(store):
    order = await with_refunds(store, "R1")
    await store.orders.save(order.refund_refused("R1", "no", NOW, "api"))
    assert await store.agenda.due_refunds(LATER, MANY) == []


async def test_an_abnormal_refund_stays_on_the_agenda_and_keeps_its_time(store):
    """R39."""
    order = await with_refunds(store, "R1")
    await store.agenda.postpone_refund("R1", NOW + HOUR)
    order = await saved(store, refunded(order, "R1", "ABNORMAL"))
    assert await store.agenda.due_refunds(NOW + HOUR - INSTANT, MANY) == []
    assert await store.agenda.due_refunds(NOW + HOUR, MANY) == [DueRefund(order, order.refund("R1"), 1)]
    await store.orders.save(refunded(order, "R1", "SUCCESS"))
    assert await store.agenda.due_refunds(LATER + DAY, MANY) == []


@pytest.mark.parametrize(("status", "due"), [("PROCESSING", ["S1"]), ("ABNORMAL", ["S1"]), ("SUCCESS", [])])
async def test_a_refund_made_at_wechat_is_on_the_agenda_until_it_is_settled(store, status, due):
    order = await with_refunds(store)
    await store.orders.save(refunded(order, "S1", status, refund_fee=5))
    assert refund_numbers(await store.agenda.due_refunds(LATER, MANY)) == due


async def test_the_word_that_wechat_took_a_refund_keeps_its_time(store):
    order = await with_refunds(store, "R1")
    await store.agenda.postpone_refund("R1", NOW + HOUR)
    await store.orders.save(refunded(order, "R1", "PROCESSING"))
    assert await store.agenda.due_refunds(NOW + HOUR - INSTANT, MANY) == []
    (due,) = await store.agenda.due_refunds(NOW + HOUR, MANY)
    assert due.refund.refund_id == "50R1"


async def test_refunds_of_one_order_each_have_their_own_time(store):
    await with_refunds(store, "R1", "R2", "R3")
    await store.agenda.postpone_refund("R2", NOW)
    assert refund_numbers(await store.agenda.due_refunds(NOW, MANY)) == ["R2"]
    assert refund_numbers(await store.agenda.due_refunds(LATER, MANY)) == ["R1", "R3", "R2"]


async def test_a_claim_moves_the_refund_a_lease_ahead_and_counts(store):
    await with_refunds(store, "R1")
    for checks in range(1, 4):
        at = LATER + (checks - 1) * LEASE
        assert [due.checks for due in await store.agenda.due_refunds(at, MANY)] == [checks]
        assert await store.agenda.due_refunds(at + LEASE - INSTANT, MANY) == []


async def test_the_longest_overdue_refunds_come_first_and_no_more_than_asked_for(store):
    await with_refunds(store, "R1", "R2", "R3", "R4")
    for n, number in enumerate(("R3", "R1", "R4", "R2")):
        await store.agenda.postpone_refund(number, NOW + n * SECOND)
    rounds = [refund_numbers(await store.agenda.due_refunds(NOW + MINUTE, 3)) for _ in range(3)]
    assert rounds == [["R3", "R1", "R4"], ["R2"], []]


async def test_claims_at_the_same_time_never_share_a_refund(store):
    for n in range(30):
        await with_refunds(store, f"R{n:03}", out_trade_no=f"PAY{n:03}")
    rounds = await asyncio.gather(*(store.agenda.due_refunds(LATER, 7) for _ in range(6)))
    claimed = [number for due in rounds for number in refund_numbers(due)]
    assert sorted(claimed) == [f"R{n:03}" for n in range(30)]


async def test_only_a_refund_that_is_still_there_is_postponed(store):
    order = await with_refunds(store, "R1", "R2")
    await store.agenda.due_refunds(LATER, MANY)
    await store.orders.save(refunded(order, "R1", "SUCCESS"))
    for number in ("R1", "R2", "R404"):
        await store.agenda.postpone_refund(number, LATER)
    assert refund_numbers(await store.agenda.due_refunds(LATER, MANY)) == ["R2"]


async def test_another_order_s_step_leaves_a_refund_s_time_alone(store):
    await with_refunds(store, "R1")
    await with_refunds(store, "R2", out_trade_no="PAY002", now=NOW + HOUR)
    order = await store.orders.get("PAY002")
    await store.orders.save(refunded(order, "R2", "SUCCESS"))
    assert refund_numbers(await store.agenda.due_refunds(NOW + HOUR, MANY)) == ["R1"]


# -- the oldest ----------------------------------------------------------------------------------


async def test_without_pending_orders_none_is_the_oldest(store):
    assert await store.agenda.oldest_pending() is None
    await store.orders.save(paid(placed()))
    assert await store.agenda.oldest_pending() is None


async def test_the_oldest_pending_order_is_told_however_its_next_look_was_put(store):
    for n in (2, 1, 3):
        await store.orders.save(placed(f"PAY{n:03}", NOW + n * SECOND))
    await store.agenda.due_orders(LATER, 1)
    await store.agenda.postpone_order("PAY001", LATER + DAY)
    assert await store.agenda.oldest_pending() == NOW + SECOND
    order = await store.orders.get("PAY001")
    await store.orders.save(closed(order))
    assert await store.agenda.oldest_pending() == NOW + 2 * SECOND


async def test_a_refund_that_is_open_again_is_looked_at_again(store):
    """R40: it was given up here, and WeChat speaks of it after all."""
    order = await saved(store, promised(paid(placed()), "R1", 1))
    order = await saved(store, order.refund_refused("R1", "no such refund", NOW, "job"))
    later = NOW + timedelta(days=1)
    assert await store.agenda.due_refunds(later, 9) == []
    await store.orders.save(refunded(order, "R1", "PROCESSING", refund_fee=1))
    (due,) = await store.agenda.due_refunds(later, 9)
    assert (due.refund.out_refund_no, due.refund.refund_status) == ("R1", "PROCESSING")
