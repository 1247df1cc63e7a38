"""The payer comes back: pays the same order again, gives it up, repeats a call, or pays too late."""

import asyncio
from datetime import timedelta

import pytest
from attrs import evolve

from application.answers import Keyed, KeyReused
from application.errors import Busy, WechatRefused, WechatSilent
from application.payments import LATE_REASON, late_refund_no
from application.ports import Meaning, Refused
from application.refunds import NewRefund, Refunds
from domain.errors import InvalidFee, OrderEnded, OrderNotFound, OrderPaid
from domain.order import PREPAY_TTL, Status
from tests.shop import (
    INSTANT,
    NO_ANSWER,
    NO_RIGHTS,
    NO_SUCH_ORDER,
    NOW,
    TEA,
    TOO_FAST,
    Clock,
    Shelf,
    Wechat,
    a_report,
    a_trade,
    the_payments,
)

LONG_TEA = evolve(TEA, expire_minutes=24 * 60)
ALREADY_PAID = Refused(meaning=Meaning.ALREADY_PAID, err_code="ORDERPAID")
ALREADY_CLOSED = Refused(meaning=Meaning.ALREADY_CLOSED, err_code="ORDERCLOSED")


class UnhurriedWechat(Wechat):
    """Lets every caller who is waiting go ahead before it answers."""

    async def prepay(self, order):
        await asyncio.sleep(0)
        return await super().prepay(order)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def wechat():
    return UnhurriedWechat()


@pytest.fixture
def payments(shelf, wechat, clock):
    return the_payments(shelf, wechat, clock)


# -- the same order again ------------------------------------------------------------------


async def test_a_fresh_prepay_id_is_handed_out_again_without_asking_wechat(payments, shelf, wechat, clock):
    first = await payments.create(LONG_TEA, "api")
    clock.now = NOW + PREPAY_TTL - INSTANT
    again = await payments.pay("PAY001", "api")
    assert again.pay_params["package"] == first.pay_params["package"] == "prepay_id=wx1"
    assert (len(wechat.placed), shelf.names) == (1, ["order.created"])


async def test_a_spent_prepay_id_is_renewed_with_identical_parameters(payments, shelf, wechat, clock):
    await payments.create(LONG_TEA, "api")
    clock.now = NOW + PREPAY_TTL
    again = await payments.pay("PAY001", "api")
    assert again.pay_params["package"] == "prepay_id=wx2"
    first, second = wechat.placed
    assert evolve(second, status=first.status, prepay_id="", prepaid_at=None, version=0) == first
    assert shelf.rows["PAY001"] == again.order
    assert (shelf.names, shelf.rows["PAY001"].prepaid_at) == (["order.created", "order.prepared"], clock.now)


async def test_an_unanswered_order_goes_on_under_its_number(payments, shelf, wechat):
    wechat.answers.append(NO_ANSWER)
    with pytest.raises(WechatSilent):
        await payments.create(TEA, "api")
    checkout = await payments.pay("PAY001", "api")
    assert checkout.pay_params["package"] == "prepay_id=wx2"
    assert [order.out_trade_no for order in wechat.placed] == ["PAY001", "PAY001"]
    assert not shelf.rows["PAY001"].is_unanswered


@pytest.mark.parametrize(
    ("word", "refusal"), [("SUCCESS", OrderPaid), ("CLOSED", OrderEnded), ("PAYERROR", OrderEnded)]
)
async def test_nobody_pays_a_decided_order_again(payments, wechat, clock, word, refusal):
    await payments.create(LONG_TEA, "api")
    await payments.record(a_trade(word), "notify")
    clock.now = NOW + PREPAY_TTL
    with pytest.raises(refusal):
        await payments.pay("PAY001", "api")
    assert len(wechat.placed) == 1


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("SUCCESS", (OrderPaid, "PAID")),
        ("CLOSED", (OrderEnded, "CANCELLED")),
        ("NOTPAY", (WechatRefused, "PENDING")),
    ],
)
async def test_when_wechat_refuses_to_renew_it_is_asked_why(payments, wechat, clock, word, end):
    await payments.create(LONG_TEA, "api")
    clock.now = NOW + PREPAY_TTL
    wechat.answers.append(ALREADY_PAID)
    wechat.word = a_trade(word)
    refusal, status = end
    with pytest.raises(refusal):
        await payments.pay("PAY001", "api")
    assert (await payments.find("PAY001")).status == status


async def test_silence_while_renewing_leaves_the_order_as_it_is(payments, shelf, wechat, clock):
    order = (await payments.create(LONG_TEA, "api")).order
    clock.now = NOW + PREPAY_TTL
    wechat.answers.append(NO_ANSWER)
    with pytest.raises(WechatSilent):
        await payments.pay("PAY001", "api")
    assert shelf.rows["PAY001"] == order


async def test_a_lost_race_while_renewing_is_run_again(payments, shelf, wechat, clock):
    await payments.create(LONG_TEA, "api")
    clock.now, shelf.races = NOW + PREPAY_TTL, 3
    assert (await payments.pay("PAY001", "api")).order == shelf.rows["PAY001"]
    assert (len(wechat.placed), shelf.names) == (5, ["order.created", "order.prepared"])


async def test_after_a_hundred_lost_races_the_payer_may_come_again(payments, shelf, clock):
    await payments.create(LONG_TEA, "api")
    clock.now, shelf.races = NOW + PREPAY_TTL, 100
    with pytest.raises(Busy, match="PAY001"):
        await payments.pay("PAY001", "api")
    assert shelf.races == 0


# -- giving up -----------------------------------------------------------------------------


async def test_an_order_is_closed_at_wechat_first_and_closing_again_is_fine(payments, shelf, wechat):
    await payments.create(TEA, "api")
    wechat.closing = a_trade("CLOSED")
    closed = [await payments.close("PAY001", "api") for _ in range(3)]
    assert {order.status for order in closed} == {Status.CANCELLED}
    assert wechat.closed == ["PAY001"]
    assert shelf.names == ["order.created", "order.cancelled"]


async def test_silence_while_closing_leaves_the_order_open(payments, shelf, wechat):
    await payments.create(TEA, "api")
    with pytest.raises(WechatSilent):
        await payments.close("PAY001", "api")
    assert shelf.rows["PAY001"].status is Status.PENDING


async def test_a_paid_order_is_not_closed(payments, wechat):
    await payments.create(TEA, "api")
    await payments.record(a_trade(), "notify")
    with pytest.raises(OrderPaid, match="refund it instead"):
        await payments.close("PAY001", "api")
    assert wechat.closed == []


async def test_an_order_that_was_paid_while_it_was_closed_is_paid(payments, shelf, wechat):
    await payments.create(TEA, "api")
    wechat.closing, wechat.word = ALREADY_PAID, a_trade()
    with pytest.raises(OrderPaid):
        await payments.close("PAY001", "api")
    assert shelf.rows["PAY001"].status is Status.PAID


async def test_an_order_that_was_closed_at_wechat_already_is_closed_here(payments, wechat):
    await payments.create(TEA, "api")
    wechat.closing, wechat.word = ALREADY_CLOSED, a_trade("CLOSED")
    assert (await payments.close("PAY001", "api")).status is Status.CANCELLED


@pytest.mark.parametrize(("word", "status"), [("NOTPAY", "PENDING"), ("PAYERROR", "FAILED")])
@pytest.mark.parametrize("refusal", [NO_RIGHTS, TOO_FAST])
async def test_an_order_wechat_will_not_close_is_not_called_closed(payments, wechat, refusal, word, status):
    await payments.create(TEA, "api")
    wechat.closing, wechat.word = refusal, a_trade(word)
    with pytest.raises(WechatRefused, match=refusal.err_code):
        await payments.close("PAY001", "api")
    assert (await payments.find("PAY001")).status == status


async def test_a_second_question_that_gets_no_answer_closes_nothing(payments, shelf, wechat):
    await payments.create(TEA, "api")
    wechat.closing = NO_SUCH_ORDER
    for wechat.word, refusal in ((NO_ANSWER, WechatSilent), (TOO_FAST, WechatRefused)):
        with pytest.raises(refusal):
            await payments.close("PAY001", "api")
    assert shelf.rows["PAY001"].status is Status.PENDING


async def test_an_order_wechat_does_not_know_is_closed_after_a_second_question(payments, wechat):
    await payments.create(TEA, "api")
    wechat.closing = wechat.word = NO_SUCH_ORDER
    assert (await payments.close("PAY001", "api")).status is Status.CANCELLED
    assert (wechat.closed, wechat.asked) == (["PAY001"], ["PAY001"])


async def test_the_second_question_may_find_the_order_paid(payments, shelf, wechat):
    await payments.create(TEA, "api")
    wechat.closing, wechat.word = NO_SUCH_ORDER, a_trade()
    with pytest.raises(OrderPaid):
        await payments.close("PAY001", "api")
    assert shelf.rows["PAY001"].status is Status.PAID


async def test_a_failed_order_is_closed_at_wechat_after_all(payments, wechat):
    await payments.create(TEA, "api")
    await payments.record(a_trade("PAYERROR"), "query")
    wechat.closing = a_trade("CLOSED")
    assert (await payments.close("PAY001", "api")).status is Status.CANCELLED


async def test_an_order_nobody_knows_cannot_be_paid_or_closed(payments):
    for call in (payments.pay, payments.close):
        with pytest.raises(OrderNotFound):
            await call("PAY001", "api")


async def test_an_order_of_another_payer_is_told_like_one_that_does_not_exist(payments, wechat):
    await payments.create(TEA, "api")
    wechat.word, wechat.closing = a_trade("NOTPAY"), a_trade("CLOSED")
    for call, cause in ((payments.pay, ["api"]), (payments.query, []), (payments.close, ["api"])):
        with pytest.raises(OrderNotFound):
            await call("PAY001", *cause, openid="o2")
    assert (wechat.asked, wechat.closed) == ([], [])
    assert (await payments.pay("PAY001", "api", openid="o1")).order.openid == "o1"
    assert (await payments.query("PAY001", "o1")).status is Status.PENDING
    assert (await payments.close("PAY001", "api", openid="o1")).status is Status.CANCELLED


# -- the same call again -------------------------------------------------------------------


def keyed(caller="shop", key="k1", request_hash="h1") -> Keyed:
    return Keyed(caller=caller, key=key, request_hash=request_hash, write=written)


def written(outcome) -> tuple[int, bytes]:
    if isinstance(outcome, WechatRefused):
        return 502, str(outcome).encode()
    return 200, repr(outcome.pay_params).encode()


async def test_the_same_key_gets_the_same_answer_and_one_order(payments, shelf, wechat, clock):
    first = await payments.create_keyed(TEA, "api", keyed())
    clock.now += timedelta(minutes=1)
    again = await payments.create_keyed(TEA, "api", keyed())
    assert (again.status, again.body, again.number) == (first.status, first.body, "PAY001")
    assert (len(wechat.placed), list(shelf.rows)) == (1, ["PAY001"])


async def test_many_taps_at_once_make_one_payable_order(payments, shelf, wechat):
    answers = await asyncio.gather(*(payments.create_keyed(TEA, "api", keyed()) for _ in range(8)))
    assert len({(answer.number, answer.status, answer.body) for answer in answers}) == 1
    assert list(shelf.rows) == [answers[0].number]
    assert shelf.names == ["order.created"]
    assert len(wechat.placed) == 8  # nobody holds pay_params for the other seven: they are worth nothing


async def test_a_key_is_for_one_body_and_one_caller(payments, shelf):
    await payments.create_keyed(TEA, "api", keyed())
    with pytest.raises(KeyReused):
        await payments.create_keyed(evolve(TEA, total_fee=200), "api", keyed(request_hash="h2"))
    await payments.create_keyed(TEA, "api", keyed(caller="another"))
    await payments.create_keyed(TEA, "api", keyed(key="k2"))
    assert list(shelf.rows) == ["PAY001", "PAY002", "PAY003"]


async def test_a_refusal_is_an_answer_too(payments, shelf, wechat):
    wechat.answers.append(NO_RIGHTS)
    answers = [await payments.create_keyed(TEA, "api", keyed()) for _ in range(2)]
    assert [answer.status for answer in answers] == [502, 502]
    assert answers[0].body == answers[1].body
    assert (len(wechat.placed), shelf.names) == (1, ["order.failed"])


async def test_an_unanswered_call_goes_on_under_the_same_number(payments, shelf, wechat):
    wechat.answers.append(NO_ANSWER)
    with pytest.raises(WechatSilent):
        await payments.create_keyed(TEA, "api", keyed())
    answers = await asyncio.gather(*(payments.create_keyed(TEA, "api", keyed()) for _ in range(4)))
    assert len({(answer.number, answer.status, answer.body) for answer in answers}) == 1
    assert {order.out_trade_no for order in wechat.placed} == {"PAY001"}
    assert list(shelf.rows) == ["PAY001"]
    assert shelf.names == ["order.created", "order.prepared"]


async def test_an_answer_found_in_what_we_hold_is_remembered_too(payments, shelf, wechat):
    wechat.answers.append(NO_ANSWER)
    with pytest.raises(WechatSilent):
        await payments.create_keyed(TEA, "api", keyed())
    await payments.pay("PAY001", "the payer, without a key")
    answer = await payments.create_keyed(TEA, "api", keyed())
    assert await shelf.recall("shop", "k1") == answer
    assert len(wechat.placed) == 2


async def test_a_refusal_to_go_on_is_the_answer_from_then_on(payments, shelf, wechat):
    wechat.answers.extend([NO_ANSWER, NO_RIGHTS])
    wechat.word = NO_SUCH_ORDER
    with pytest.raises(WechatSilent):
        await payments.create_keyed(TEA, "api", keyed())
    answer = await payments.create_keyed(TEA, "api", keyed())
    assert (answer.status, answer.number) == (502, "PAY001")
    assert await shelf.recall("shop", "k1") == answer


async def test_a_number_someone_else_saved_first_is_replaced_by_a_new_one(payments, shelf):
    shelf.races = 1
    answer = await payments.create_keyed(TEA, "api", keyed())
    assert (answer.status, answer.number, list(shelf.rows)) == (200, "PAY002", ["PAY002"])


async def test_many_unanswered_taps_leave_one_order(payments, shelf, wechat):
    wechat.answers.extend([NO_ANSWER] * 20)
    taps = (payments.create_keyed(TEA, "api", keyed()) for _ in range(4))
    outcomes = await asyncio.gather(*taps, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {WechatSilent}
    assert len(shelf.rows) == 1


async def test_a_bad_request_does_not_use_up_its_key(payments, shelf):
    with pytest.raises(InvalidFee):
        await payments.create_keyed(evolve(TEA, total_fee=1.0), "api", keyed())
    assert (await payments.create_keyed(TEA, "api", keyed())).status == 200
    assert len(shelf.rows) == 1


# -- late money ----------------------------------------------------------------------------


async def test_late_money_is_kept_unless_the_shop_says_otherwise(payments, shelf):
    await payments.create(TEA, "api")
    await payments.record(a_trade("CLOSED"), "janitor")
    order = await payments.record(a_trade(), "notify")
    assert (order.status, order.late, order.refunds) == (Status.PAID, True, ())
    assert shelf.names[-1] == "order.paid_late"


async def test_late_money_is_sent_straight_back_once(payments, shelf):
    shop = evolve(payments, refund_late=True)
    await shop.create(TEA, "api")
    await shop.record(a_trade("CLOSED"), "janitor")
    orders = [await shop.record(a_trade(), "notify") for _ in range(3)]
    (refund,) = shelf.rows["PAY001"].refunds
    assert orders == [shelf.rows["PAY001"]] * 3
    assert (refund.out_refund_no, refund.refund_fee, refund.reason) == ("REF001", 100, LATE_REASON)
    assert shelf.names == ["order.created", "order.cancelled", "order.paid_late", "refund.processing"]


async def test_late_money_that_was_kept_stays_when_the_shop_changes_its_mind(payments):
    await payments.create(TEA, "api")
    await payments.record(a_trade("CLOSED"), "janitor")
    kept = await payments.record(a_trade(), "notify")
    assert await evolve(payments, refund_late=True).record(a_trade(), "query") == kept


async def test_money_in_time_is_never_sent_back(payments):
    shop = evolve(payments, refund_late=True)
    await shop.create(TEA, "api")
    assert (await shop.record(a_trade(), "notify")).refunds == ()


async def test_late_money_that_cannot_go_back_is_recorded_all_the_same(payments, caplog):
    shop = evolve(payments, refund_late=True)
    await shop.create(TEA, "api")
    await shop.record(a_trade("CLOSED"), "janitor")
    order = await shop.record(a_trade(time_end=NOW - timedelta(days=366)), "bill")
    assert (order.status, order.refunds) == (Status.PAID, ())
    assert "late money can not be sent back" in caplog.text


def test_late_money_goes_back_under_one_number_for_ever():
    assert late_refund_no("PAY17041643450000000001") == "REF17041643450000000001"


async def test_an_order_is_not_called_closed_while_the_second_question_finds_it_unpaid():
    shelf, wechat = Shelf(), Wechat()
    payments = the_payments(shelf, wechat, Clock())
    await payments.create(TEA, "api")
    wechat.closing, wechat.word = NO_SUCH_ORDER, a_trade("NOTPAY")
    with pytest.raises(WechatRefused):
        await payments.close("PAY001", "api")


class Ticking(Clock):
    """Goes back a second each time it is read, as a clock being set right does."""

    def __call__(self):
        self.now -= timedelta(seconds=1)
        return self.now


async def test_a_clock_set_back_while_asking_is_survived():
    shelf, wechat, clock = Shelf(), Wechat(), Ticking()
    payments = the_payments(shelf, wechat, clock)
    order = (await payments.create(TEA, "api")).order
    wechat.word, clock.now = NO_SUCH_ORDER, order.expires_at + timedelta(seconds=1)
    assert (await payments.ask(order, "query")).status in (Status.PENDING, Status.FAILED)


async def test_a_refusal_that_may_pass_is_no_last_word_under_a_key():
    """R10, R13: the order goes on under the same number as soon as WeChat takes it again."""
    shelf, wechat, clock = Shelf(), Wechat(), Clock()
    payments = the_payments(shelf, wechat, clock)
    wechat.answers.extend([NO_ANSWER, TOO_FAST])
    with pytest.raises(WechatSilent):
        await payments.create_keyed(TEA, "api", keyed())
    wechat.word = a_trade("NOTPAY")
    with pytest.raises(WechatRefused):
        await payments.create_keyed(TEA, "api", keyed())
    answer = await payments.create_keyed(TEA, "api", keyed())
    assert (answer.number, answer.status) == ("PAY001", 200)
    assert [order.out_trade_no for order in wechat.placed] == ["PAY001"] * 3


class AnotherRefund(Wechat):
    """WeChat has a refund of 30 fen under every number."""

    async def refund(self, order, refund):  # noqa: ARG002 - the port's names
        return Refused(meaning=Meaning.NUMBER_USED, err_code="REFUND_FEE_MISMATCH")

    async def query_refund(self, order, refund):  # noqa: ARG002 - the port's names
        return a_report("SUCCESS", refund.out_refund_no, refund_id="50", refund_fee=30)


async def test_a_refund_number_used_for_another_amount_gives_the_money_free_again():
    """R34, R35."""
    shelf, wechat, clock = Shelf(), AnotherRefund(), Clock()
    payments = the_payments(shelf, wechat, clock)
    await payments.create(TEA, "api")
    await payments.record(a_trade(), "notify")
    refunds = Refunds(
        orders=shelf,
        answers=shelf,
        agenda=shelf,
        gateway=wechat,
        payments=payments,
        clock=clock,
        mint=lambda: "REF1",
    )
    with pytest.raises(WechatRefused):
        await refunds.request(NewRefund(out_trade_no="PAY001", refund_fee=70, out_refund_no="OLD1"), "api")
    order = await shelf.get("PAY001")
    assert (order.refund("OLD1").refund_status, order.refundable_fee) == ("CLOSED", 100)
