"""What every store promises. The `store` fixture brings each of them in turn."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from application.ports import Position
from domain.errors import OrderNotFound, PaymentError, RefundNumberReused, StaleOrder
from domain.order import Order, Placement, Status
from domain.refund import Refund
from domain.trade import RefundReport, RefundStatus, Trade, TradeState

NOW = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PLACEMENT = Placement(
    appid="wx1",
    mch_id="1900000109",
    api_version="v2",
    sign_type="MD5",
    notify_url="https://e.cn/n",
    client_ip="::1",
)
serial = count(1)


def an_order(out_trade_no="PAY001", now=NOW, openid="o1", total_fee=100) -> Order:
    order = Order(
        out_trade_no=out_trade_no,
        openid=openid,
        total_fee=total_fee,
        body="茶",
        attach="user 1",
        placement=PLACEMENT,
        created_at=now,
        expires_at=now + timedelta(minutes=30),
    )
    return order.placed("wx42", now, "test")


def paid(order, transaction_id="42") -> Order:
    trade = Trade(
        out_trade_no=order.out_trade_no,
        trade_state=TradeState.SUCCESS,
        total_fee=order.total_fee,
        transaction_id=transaction_id,
        time_end=NOW,
    )
    return order.apply(trade, NOW, "test")


def refunded(order, out_refund_no, refund_fee) -> Order:
    refund = Refund(out_refund_no=out_refund_no, refund_fee=refund_fee, created_at=NOW, reason="退")
    return order.request_refund(refund, NOW, "test")


def returned(order, out_refund_no, refund_id="50") -> Order:
    report = RefundReport(
        out_trade_no=order.out_trade_no,
        out_refund_no=out_refund_no,
        refund_status=RefundStatus.SUCCESS,
        refund_id=refund_id,
    )
    return order.apply_refund(report, NOW, "test")


async def saved(store, order):
    await store.orders.save(order)
    return await store.orders.get(order.out_trade_no)


def stored(order):
    return evolve(order, events=())


async def test_an_order_comes_back_as_it_went_in(store):
    for order in (an_order(), paid(an_order("PAY002")), refunded(paid(an_order("PAY003")), "R1", 60)):
        assert await saved(store, order) == stored(order)


async def test_each_step_comes_back_as_it_went_in(store):
    order = await saved(store, an_order())
    for step in (
        paid,
        lambda o: refunded(o, "R1", 60),
        lambda o: refunded(o, "R2", 40),
        lambda o: returned(o, "R2"),
        lambda o: returned(o, "R1"),
    ):
        order = step(order)
        assert await saved(store, order) == stored(order)
        order = stored(order)
    assert order.status is Status.REFUNDED
    assert [refund.out_refund_no for refund in order.refunds] == ["R1", "R2"]


async def test_an_unknown_order_is_not_found(store):
    with pytest.raises(OrderNotFound):
        await store.orders.get("PAY404")


async def test_whoever_saves_second_is_refused(store):
    order = await saved(store, an_order())
    await store.orders.save(paid(order))
    with pytest.raises(StaleOrder):
        await store.orders.save(refunded(paid(order, "43"), "R1", 1))
    assert (await store.orders.get("PAY001")).transaction_id == "42"
    assert (await store.orders.get("PAY001")).refunds == ()


async def test_an_out_trade_no_is_taken_once(store):
    """R7."""
    await store.orders.save(an_order())
    with pytest.raises(StaleOrder):
        await store.orders.save(an_order(total_fee=7))
    assert (await store.orders.get("PAY001")).total_fee == 100


async def test_an_out_refund_no_is_taken_once_over_all_orders(store):
    """R34."""
    await store.orders.save(refunded(paid(an_order("PAY001")), "R1", 1))
    with pytest.raises(RefundNumberReused):
        await store.orders.save(refunded(paid(an_order("PAY002")), "R1", 1))
    with pytest.raises(OrderNotFound):
        await store.orders.get("PAY002")
    assert (await store.orders.counts())[Status.PAID] == 1


async def test_of_many_at_once_one_wins_and_the_others_leave_no_trace(store):
    order = await saved(store, an_order())
    rivals = [paid(order, transaction_id=str(n)) for n in range(20)]
    results = await asyncio.gather(*(store.orders.save(rival) for rival in rivals), return_exceptions=True)
    assert Counter(type(result) for result in results) == {type(None): 1, StaleOrder: 19}
    winner = rivals[results.index(None)]
    assert await store.orders.get("PAY001") == stored(winner)
    assert (await store.orders.counts())[Status.PAID] == 1


async def test_neighbours_do_not_erase_each_other(store):
    await asyncio.gather(*(store.orders.save(an_order(f"PAY{n:03}")) for n in range(300)))
    for n in range(300):
        assert (await store.orders.get(f"PAY{n:03}")).version == 1
    assert (await store.orders.counts())[Status.PENDING] == 300


async def test_a_refused_write_does_not_take_its_neighbours_down(store):
    await store.orders.save(an_order("PAY007"))
    orders = [an_order(f"PAY{n:03}") for n in range(20)]
    results = await asyncio.gather(*(store.orders.save(order) for order in orders), return_exceptions=True)
    assert [type(result) for result in results].count(StaleOrder) == 1
    assert (await store.orders.counts())[Status.PENDING] == 20


async def test_saving_an_unchanged_order_is_nothing(store):
    order = await saved(store, paid(an_order()))
    await store.orders.save(paid(order))
    assert await store.orders.get("PAY001") == order


async def test_a_caller_who_left_does_not_stop_the_others(store):
    leaver = asyncio.ensure_future(store.orders.save(an_order("PAY001")))
    stayer = asyncio.ensure_future(store.orders.save(an_order("PAY002")))
    await asyncio.sleep(0)
    leaver.cancel()
    await stayer
    assert (await store.orders.get("PAY002")).version == 1


async def test_a_payer_s_orders_come_newest_first_page_by_page(store):
    expected = []
    for n in range(10):  # two of each moment, so that the number decides
        order = an_order(f"PAY{n:03}", now=NOW + timedelta(seconds=n // 2))
        await store.orders.save(order)
        await store.orders.save(an_order(f"PAX{n:03}", openid="o2"))
        expected.insert(0, order.out_trade_no)
    seen, after = [], None
    while page := await store.orders.of_openid("o1", limit=3, after=after):
        seen += [order.out_trade_no for order in page]
        after = Position(page[-1].created_at, page[-1].out_trade_no)
    assert seen == expected


async def test_a_payer_s_orders_can_be_asked_for_by_status(store):
    for n in range(6):
        order = an_order(f"PAY{n:03}", now=NOW + timedelta(seconds=n))
        await store.orders.save(refunded(refunded(paid(order), f"A{n}", 1), f"B{n}", 2) if n % 2 else order)
    page = await store.orders.of_openid("o1", limit=2, status=Status.PAID)
    assert [order.out_trade_no for order in page] == ["PAY005", "PAY003"]
    assert [len(order.refunds) for order in page] == [2, 2]
    rest = await store.orders.of_openid(
        "o1", limit=9, status=Status.PAID, after=Position(page[-1].created_at, page[-1].out_trade_no)
    )
    assert [order.out_trade_no for order in rest] == ["PAY001"]
    assert await store.orders.of_openid("nobody", limit=9) == []


async def test_an_operator_sees_the_newest_orders_of_all_payers(store):
    for n, openid in enumerate(["o1", "o2", "o1"]):
        order = an_order(f"PAY{n:03}", now=NOW + timedelta(seconds=n), openid=openid)
        await store.orders.save(paid(order) if n == 1 else order)
    assert [order.out_trade_no for order in await store.orders.newest(2)] == ["PAY002", "PAY001"]
    assert [order.openid for order in await store.orders.newest(9, Status.PAID)] == ["o2"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["pay", "refund", "return", "fail"])), max_size=12
    )
)
def test_the_counts_are_what_counting_would_give(store, runner, steps):
    before = runner.run(store.orders.counts())
    numbers = [f"PAYC{next(serial):06}" for _ in range(4)]

    async def walk():
        for number in numbers:
            await store.orders.save(an_order(number, openid="counts"))
        for which, what in steps:
            order = await store.orders.get(numbers[which])
            try:
                if what == "pay":
                    order = paid(order)
                elif what == "fail":
                    order = order.refused("no", NOW, "test")
                elif what == "refund":
                    order = refunded(order, f"{order.out_trade_no}R{len(order.refunds)}", 50)
                else:
                    for refund in order.refunds:
                        order = returned(order, refund.out_refund_no)
            except PaymentError:
                continue
            await store.orders.save(order)
        return Counter([(await store.orders.get(number)).status for number in numbers])

    counted = runner.run(walk())
    after = runner.run(store.orders.counts())
    assert {status: after[status] - before[status] for status in Status} == {s: counted[s] for s in Status}


async def test_a_store_that_answers_passes_its_check(store):
    await store.orders.check()
