"""Creating an order, hearing WeChat's word on it, telling where it stands."""

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest
from attrs import evolve

from application.errors import Busy, WechatRefused, WechatSilent
from application.pacing import ASK_INTERVAL
from domain.errors import (
    FeeMismatch,
    FeeOutOfRange,
    InvalidBody,
    InvalidExpiry,
    InvalidFee,
    InvalidOpenid,
    OrderNotFound,
    StaleOrder,
)
from domain.fee import FeeLimits
from domain.order import Status
from tests.shop import (
    INSTANT,
    NO_ANSWER,
    NO_RIGHTS,
    NO_SUCH_ORDER,
    NOW,
    TAKEN,
    TEA,
    TOO_FAST,
    Clock,
    Shelf,
    Wechat,
    a_trade,
    the_payments,
)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def wechat():
    return Wechat()


@pytest.fixture
def payments(shelf, wechat, clock):
    return the_payments(shelf, wechat, clock)


# -- creating ------------------------------------------------------------------------------


async def test_an_order_is_written_down_and_can_be_paid(payments, shelf):
    checkout = await payments.create(TEA, "api")
    assert checkout.pay_params == {"package": "prepay_id=wx1", "timeStamp": "1704164645"}
    order = await shelf.get("PAY001")
    assert order == checkout.order
    assert (order.status, order.prepay_id, order.prepaid_at) == (Status.PENDING, "wx1", NOW)
    assert (order.openid, order.total_fee, order.body, order.attach) == ("o1", 100, "茶", "桌 7")
    assert (order.placement.client_ip, order.created_at) == ("203.0.113.7", NOW)
    (event,) = shelf.events
    assert (event.name, event.cause, event.at) == ("order.created", "api", NOW)


async def test_no_pay_params_go_out_for_an_order_that_was_not_written_down(payments, shelf):
    shelf.races = 1
    with pytest.raises(StaleOrder):
        await payments.create(TEA, "api")
    assert shelf.rows == {}


@pytest.mark.parametrize(("asked", "minutes"), [(None, 30), (2, 2), (15, 15), (10_080, 10_080)])
async def test_the_time_to_pay_is_whole_seconds_on_the_wire_and_here(payments, wechat, clock, asked, minutes):
    clock.now = NOW + timedelta(microseconds=678_901)
    await payments.create(evolve(TEA, expire_minutes=asked), "api")
    assert wechat.placed[0].created_at == clock.now
    assert wechat.placed[0].expires_at == NOW + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"total_fee": 0}, FeeOutOfRange),
        ({"total_fee": 1_000_001}, FeeOutOfRange),
        *(({"total_fee": no_fee}, InvalidFee) for no_fee in (True, 1.0, "100", None)),
        ({"body": ""}, InvalidBody),
        ({"openid": ""}, InvalidOpenid),
        ({"expire_minutes": 1}, InvalidExpiry),
        ({"expire_minutes": 10_081}, InvalidExpiry),
        ({"expire_minutes": 0}, InvalidExpiry),
    ],
)
async def test_what_cannot_be_an_order_never_reaches_wechat(payments, shelf, wechat, asked, refusal):
    with pytest.raises(refusal):
        await payments.create(evolve(TEA, **asked), "api")
    assert (wechat.placed, shelf.saves) == ([], 0)


async def test_a_fee_the_shop_does_not_take_never_reaches_wechat(payments, wechat):
    narrow = evolve(payments, limits=FeeLimits(low=10, high=99))
    for total_fee in (9, 100):
        with pytest.raises(FeeOutOfRange, match="from 10 to 99 fen"):
            await narrow.create(evolve(TEA, total_fee=total_fee), "api")
    assert wechat.placed == []
    assert (await narrow.create(evolve(TEA, total_fee=99), "api")).order.total_fee == 99


async def test_a_refused_order_is_written_down_with_its_reason(payments, shelf, wechat):
    wechat.answers.append(NO_RIGHTS)
    with pytest.raises(WechatRefused, match="PAY001: WeChat refused: NOAUTH 商户无权限") as refusal:
        await payments.create(TEA, "api")
    assert refusal.value.answer is NO_RIGHTS
    order = await shelf.get("PAY001")
    assert (order.status, order.failure, order.prepay_id) == (Status.FAILED, "NOAUTH 商户无权限", "")
    assert shelf.names == ["order.failed"]
    assert len(wechat.placed) == 1


async def test_silence_is_no_refusal_and_the_order_stays_pending(payments, shelf, wechat):
    wechat.answers.append(NO_ANSWER)
    with pytest.raises(WechatSilent, match="PAY001: no certain answer from WeChat: timed out") as silence:
        await payments.create(TEA, "api")
    assert silence.value.answer is NO_ANSWER
    order = await shelf.get("PAY001")
    assert (order.status, order.prepay_id, order.is_unanswered) == (Status.PENDING, "", True)
    assert shelf.names == ["order.created"]
    assert len(wechat.placed) == 1  # no retry that could make a second order (R13)


async def test_a_taken_number_is_replaced_by_a_new_one(payments, shelf, wechat, caplog):
    wechat.answers.extend([TAKEN, TAKEN])
    checkout = await payments.create(TEA, "api")
    assert [order.out_trade_no for order in wechat.placed] == ["PAY001", "PAY002", "PAY003"]
    assert checkout.order.out_trade_no == "PAY003"
    assert list(shelf.rows) == ["PAY003"]
    assert "PAY001 is taken" in caplog.text
    assert "PAY002 is taken" in caplog.text


async def test_a_number_is_replaced_twice_at_most(payments, shelf, wechat):
    wechat.answers.extend([TAKEN] * 5)
    with pytest.raises(WechatRefused, match="PAY003"):
        await payments.create(TEA, "api")
    assert len(wechat.placed) == 3
    assert (await shelf.get("PAY003")).status is Status.FAILED


async def test_silence_after_a_taken_number_is_kept_under_the_new_one(payments, shelf, wechat):
    wechat.answers.extend([TAKEN, NO_ANSWER])
    with pytest.raises(WechatSilent, match="PAY002"):
        await payments.create(TEA, "api")
    assert (await shelf.get("PAY002")).is_unanswered


# -- WeChat's word -------------------------------------------------------------------------


async def test_the_same_word_many_times_is_one_payment_and_one_event(payments, shelf):
    await payments.create(TEA, "api")
    answers = [await payments.record(a_trade(), f"notify {number}") for number in range(5)]
    assert {(order.status, order.transaction_id, order.paid_at) for order in answers} == {
        (Status.PAID, "42", NOW)
    }
    assert await payments.find("PAY001") == answers[0] == answers[4] == shelf.rows["PAY001"]
    assert shelf.names == ["order.created", "order.paid"]
    assert shelf.events[-1].cause == "notify 0"
    assert [order.events for order in answers] == [()] * 5  # what is stored is no news any more


async def test_word_on_an_order_nobody_knows_is_not_found(payments):
    with pytest.raises(OrderNotFound):
        await payments.record(a_trade(), "notify")
    with pytest.raises(OrderNotFound):
        await payments.find("PAY001")
    with pytest.raises(OrderNotFound):
        await payments.query("PAY001")


async def test_a_word_that_contradicts_the_order_changes_nothing(payments, shelf):
    await payments.create(TEA, "api")
    with pytest.raises(FeeMismatch):
        await payments.record(a_trade(total_fee=1), "notify")
    assert (shelf.rows["PAY001"].status, shelf.names) == (Status.PENDING, ["order.created"])


@pytest.mark.parametrize("races", [1, 19])
async def test_a_lost_race_is_run_again_on_the_newer_order(payments, shelf, races):
    known = (await payments.create(TEA, "api")).order
    await payments.record(a_trade("CLOSED"), "janitor")
    shelf.races = races
    paid = await payments.record(a_trade(), "notify", known)
    assert (paid.status, paid.late, paid.version) == (Status.PAID, True, 3)
    assert shelf.names == ["order.created", "order.cancelled", "order.paid_late"]


async def test_after_a_hundred_lost_races_the_caller_may_come_again(payments, shelf):
    await payments.create(TEA, "api")
    shelf.races, shelf.saves = 100, 0
    with pytest.raises(Busy, match="PAY001 keeps changing"):
        await payments.record(a_trade(), "notify")
    assert shelf.saves == 100
    assert (await payments.record(a_trade(), "notify")).status is Status.PAID


async def test_many_at_once_make_one_payment(payments, shelf):
    order = (await payments.create(TEA, "api")).order
    known = await shelf.get(order.out_trade_no)
    words = [payments.record(a_trade(), f"notify {number}", known) for number in range(10)]
    assert {order.status for order in await asyncio.gather(*words)} == {Status.PAID}
    assert Counter(shelf.names) == {"order.created": 1, "order.paid": 1}


# -- asking WeChat -------------------------------------------------------------------------


async def test_a_query_asks_wechat_while_money_may_come(payments, shelf, wechat):
    await payments.create(TEA, "api")
    wechat.word = a_trade()
    order = await payments.query("PAY001")
    assert (order.status, order.transaction_id) == (Status.PAID, "42")
    assert order == await shelf.get("PAY001")
    assert shelf.events[-1].cause == "query"


@pytest.mark.parametrize("word", ["PAYERROR", "CLOSED", "SUCCESS"])
async def test_a_query_of_a_decided_order_asks_nobody(payments, wechat, word):
    await payments.create(TEA, "api")
    decided = await payments.record(a_trade(word), "notify")
    assert await payments.query("PAY001") == decided
    assert wechat.asked == []


async def test_a_caller_who_polls_asks_wechat_at_a_bounded_pace(payments, wechat, clock):
    wechat.word = a_trade("NOTPAY")
    for _ in range(2):
        await payments.create(TEA, "api")
    for elapsed in (timedelta(0), ASK_INTERVAL - INSTANT, ASK_INTERVAL):
        clock.now = NOW + elapsed
        for out_trade_no in ("PAY001", "PAY001", "PAY002"):
            assert (await payments.query(out_trade_no)).status is Status.PENDING
    assert wechat.asked == ["PAY001", "PAY002"] * 2


async def test_a_silent_wechat_leaves_what_we_hold_as_the_answer(payments, wechat, caplog):
    order = (await payments.create(TEA, "api")).order
    for wechat.word in (NO_ANSWER, TOO_FAST):
        assert await payments.ask(order, "janitor") == order
    assert "PAY001: asking WeChat gave no answer: timed out" in caplog.text
    assert "FREQUENCY_LIMITED" in caplog.text


async def test_an_order_wechat_does_not_know_fails_only_once_its_time_has_run_out(
    payments, shelf, wechat, clock
):
    wechat.answers.append(NO_ANSWER)
    wechat.word = NO_SUCH_ORDER
    with pytest.raises(WechatSilent):
        await payments.create(TEA, "api")
    expires_at = wechat.placed[0].expires_at
    clock.now = expires_at - INSTANT
    assert (await payments.query("PAY001")).status is Status.PENDING
    clock.now = expires_at + ASK_INTERVAL
    assert (await payments.query("PAY001")).status is Status.FAILED
    assert shelf.names == ["order.created", "order.failed"]
    assert shelf.events[-1].cause == "query"


@pytest.mark.parametrize("late_answer", [NO_SUCH_ORDER, "CLOSED", "PAYERROR"], ids=str)
async def test_an_order_that_was_paid_meanwhile_stays_paid(payments, wechat, clock, late_answer):
    known = (await payments.create(TEA, "api")).order
    paid = await payments.record(a_trade(), "notify")
    wechat.word = a_trade(late_answer) if isinstance(late_answer, str) else late_answer
    clock.now = known.expires_at
    assert await payments.ask(known, "janitor") == paid


async def test_a_contradiction_found_by_asking_is_told(payments, wechat):
    await payments.create(TEA, "api")
    wechat.word = a_trade(total_fee=1)
    with pytest.raises(FeeMismatch):
        await payments.query("PAY001")


# -- telling -------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "pages"), [(1, 7), (2, 4), (3, 3), (6, 2), (7, 1), (8, 1), (1000, 1)])
async def test_walking_the_pages_shows_every_order_once_newest_first(payments, clock, limit, pages):
    for number in range(7):
        clock.now = NOW + timedelta(seconds=number // 2)  # some in the same instant
        await payments.create(TEA, "api")
    await payments.create(evolve(TEA, openid="o2"), "api")
    seen, after = [], None
    for _ in range(pages):
        page = await payments.orders_of("o1", limit=limit, after=after)
        seen.extend((order.created_at, order.out_trade_no) for order in page.orders)
        after = page.next_position
    assert after is None
    assert len(seen) == 7
    assert all(newer > older for newer, older in pairwise(seen))


async def test_a_page_can_show_one_status_alone(payments):
    for _ in range(3):
        await payments.create(TEA, "api")
    await payments.record(a_trade(out_trade_no="PAY002"), "notify")
    page = await payments.orders_of("o1", limit=10, status=Status.PAID)
    assert [order.out_trade_no for order in page.orders] == ["PAY002"]
    assert (await payments.orders_of("o3", limit=10)).orders == []


async def test_a_page_has_a_hundred_orders_at_most(payments):
    for _ in range(102):
        await payments.create(TEA, "api")
    page = await payments.orders_of("o1", limit=101)
    assert len(page.orders) == 100
    rest = await payments.orders_of("o1", limit=101, after=page.next_position)
    assert [order.out_trade_no for order in rest.orders] == ["PAY002", "PAY001"]


async def test_the_stats_count_each_status(payments, wechat):
    wechat.answers.extend([NO_RIGHTS])
    with pytest.raises(WechatRefused):
        await payments.create(TEA, "api")
    for _ in range(3):
        await payments.create(TEA, "api")
    await payments.record(a_trade(out_trade_no="PAY003"), "notify")
    assert await payments.stats() == {
        Status.PENDING: 2,
        Status.PAID: 1,
        Status.CANCELLED: 0,
        Status.FAILED: 1,
        Status.REFUNDED: 0,
    }
