"""The rules of refunds: never more than was paid, one number for one refund, an end that stays."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import (
    FeeMismatch,
    FeeOutOfRange,
    InvalidFee,
    InvalidReason,
    InvalidRefundNo,
    PayeeMismatch,
    RefundConflict,
    RefundExceedsPayment,
    RefundNotAllowed,
    RefundNotFound,
    RefundNumberReused,
    RefundTooLate,
    TooManyRefunds,
)
from domain.order import Order
from domain.refund import REFUND_TRANSITIONS, SETTLED
from domain.trade import RefundStatus
from tests.shop import INSTANT, LATER, NOW, a_refund, a_report, a_trade, an_order

YEAR = timedelta(days=365)

# What becomes of a refund in each status (left) at each word of WeChat (top).
ENDS = """
           PROCESSING ABNORMAL CLOSED   SUCCESS
PROCESSING PROCESSING ABNORMAL CLOSED   SUCCESS
ABNORMAL   ABNORMAL   ABNORMAL CLOSED   SUCCESS
CLOSED     CLOSED     CLOSED   CLOSED   refused
SUCCESS    SUCCESS    SUCCESS  refused  SUCCESS
"""
WORDS, *ROWS = [line.split() for line in ENDS.split("\n") if line]
CELLS = [(status, word, end) for status, *ends in ROWS for word, end in zip(WORDS, ends, strict=True)]


def a_paid_order(total_fee=100) -> Order:
    return an_order(total_fee=total_fee).apply(a_trade(total_fee=total_fee), NOW, "notify")


def promised(order: Order, refund_fee=60, out_refund_no="R1", now=LATER) -> Order:
    return order.request_refund(a_refund(refund_fee, out_refund_no), now, "api")


def told(order: Order, refund_status="SUCCESS", out_refund_no="R1", **changes) -> Order:
    return order.apply_refund(a_report(refund_status, out_refund_no, **changes), LATER, "notify")


# -- promising -----------------------------------------------------------------------------


def test_a_promised_refund_is_reserved_and_not_yet_returned():
    order = promised(a_paid_order())
    assert (order.status, order.refundable_fee, order.refunded_fee) == ("PAID", 40, 0)
    assert order.refund("R1") == (refund := a_refund())
    assert (refund.reason, refund.refund_id, refund.success_at, refund.failure) == ("", "", None, "")
    assert order.refund("R2") is None
    event = order.events[-1]
    assert (event.name, event.at, event.cause, event.is_public) == ("refund.processing", LATER, "api", True)
    assert (
        event.facts.items()
        >= {
            "out_refund_no": "R1",
            "refund_id": None,
            "refund_fee": 60,
            "refund_status": "PROCESSING",
        }.items()
    )


@pytest.mark.parametrize("status", ["PROCESSING", "ABNORMAL", "CLOSED", "SUCCESS"])
def test_the_same_number_and_amount_is_the_same_refund_whatever_became_of_it(status):
    order = told(promised(a_paid_order()), status)
    assert promised(order, now=NOW + 2 * YEAR) is order


def test_a_number_is_for_one_amount_only():
    order = promised(a_paid_order())
    for refund_fee in (59, 40, 61):
        with pytest.raises(RefundNumberReused, match="R1 is already for 60 fen"):
            promised(order, refund_fee)


@given(total_fee=st.integers(1, 1000), asked=st.lists(st.integers(1, 1000), max_size=8))
def test_refunds_never_exceed_what_was_paid(total_fee, asked):
    order = a_paid_order(total_fee)
    for number, refund_fee in enumerate(asked):
        left = order.refundable_fee
        try:
            order = promised(order, refund_fee, f"R{number}")
        except RefundExceedsPayment:
            assert refund_fee > left
        else:
            assert order.refundable_fee == left - refund_fee
    assert sum(refund.refund_fee for refund in order.refunds) <= total_fee


def test_one_fen_more_than_is_left_is_refused():
    order = promised(a_paid_order())
    with pytest.raises(RefundExceedsPayment, match="40 fen left, 41 asked"):
        promised(order, 41, "R2")
    assert promised(order, 40, "R2").refundable_fee == 0


def test_an_order_has_fifty_refunds_at_most():
    order = a_paid_order()
    for number in range(50):
        order = promised(order, 1, f"R{number}")
    with pytest.raises(TooManyRefunds, match="50 refunds"):
        promised(order, 1, "R50")
    assert promised(order, 1, "R49") is order


def test_a_refund_may_be_asked_for_within_a_year_to_the_instant():
    order = a_paid_order()
    assert promised(order, now=NOW + YEAR).refundable_fee == 40
    with pytest.raises(RefundTooLate, match="over 365 days ago"):
        promised(order, now=NOW + YEAR + INSTANT)


@pytest.mark.parametrize(
    ("word", "status"), [("NOTPAY", "PENDING"), ("PAYERROR", "FAILED"), ("CLOSED", "CANCELLED")]
)
def test_only_what_was_paid_can_be_refunded(word, status):
    order = an_order().apply(a_trade(word), NOW, "query")
    with pytest.raises(RefundNotAllowed, match=f"PAY001 is {status}"):
        promised(order)


def test_an_order_refunded_in_full_takes_no_further_refund():
    order = told(promised(a_paid_order(), 100))
    with pytest.raises(RefundNotAllowed, match="PAY001 is REFUNDED"):
        promised(order, 1, "R2")
    assert promised(order, 100) is order


# -- WeChat's word -------------------------------------------------------------------------


def test_a_refund_only_climbs_and_every_word_has_a_meaning():
    assert set(REFUND_TRANSITIONS) == set(RefundStatus) == set(WORDS)
    assert {"CLOSED", "SUCCESS"} == SETTLED


@pytest.mark.parametrize(("status", "word", "end"), CELLS)
def test_each_word_of_wechat_moves_each_refund_where_the_contract_says(status, word, end):
    order = told(promised(a_paid_order()), status)
    assert order.refund("R1").is_settled == (status in ("CLOSED", "SUCCESS"))
    if end == "refused":
        with pytest.raises(RefundConflict, match=f"R1: was {status}, now {word}"):
            told(order, word)
        return
    after = told(order, word)
    assert after.refund("R1").refund_status == end
    assert (after is order) == (status == end)


@pytest.mark.parametrize(
    ("status", "left", "back"),
    [("PROCESSING", 40, 0), ("ABNORMAL", 40, 0), ("SUCCESS", 40, 60), ("CLOSED", 100, 0)],
)
def test_only_a_closed_refund_gives_its_amount_back_to_the_order(status, left, back):
    order = told(promised(a_paid_order()), status)
    assert (order.status, order.refundable_fee, order.refunded_fee) == ("PAID", left, back)


@pytest.mark.parametrize(("status", "name"), [(word, f"refund.{word.lower()}") for word in WORDS[1:]])
def test_each_step_of_a_refund_is_one_event(status, name):
    order = told(promised(a_paid_order()), status, refund_id="50")
    event = order.events[-1]
    assert (event.name, event.version, event.cause, event.at) == (name, 4, "notify", LATER)
    assert (event.facts["refund_status"], event.facts["refund_id"]) == (status, "50")
    assert event.status_before == "PAID"


def test_the_last_fen_returned_makes_the_order_refunded_in_two_steps():
    order = promised(promised(a_paid_order()), 40, "R2")
    order = told(order)
    assert (order.status, order.version, order.refunded_fee) == ("PAID", 5, 60)
    order = told(order, out_refund_no="R2")
    assert (order.status, order.version, order.refunded_fee) == ("REFUNDED", 7, 100)
    returned, refunded = order.events[-2:]
    assert (returned.name, returned.version, returned.facts["status"]) == ("refund.success", 6, "PAID")
    assert (refunded.name, refunded.version, refunded.status_before) == ("order.refunded", 7, "PAID")
    assert (refunded.facts["status"], refunded.facts["refunded_fee"]) == ("REFUNDED", 100)
    assert told(order) is order


def test_an_order_becomes_refunded_once():
    order = told(promised(a_paid_order(), 100))
    after = told(order, "CLOSED", "X1", refund_fee=30)
    assert [event.name for event in after.events[order.version :]] == ["refund.closed"]
    assert (after.status, after.refunded_fee) == ("REFUNDED", 100)


def test_the_message_that_brought_a_step_stays_with_it():
    order = told(promised(a_paid_order(), 100), evidence="{…}")
    assert [event.evidence for event in order.events] == ["", "", "", "{…}", ""]
    assert "{…}" not in repr((order.events, a_report(evidence="{…}")))


def test_a_refund_on_its_way_does_not_make_the_order_refunded():
    for status in ("PROCESSING", "ABNORMAL", "CLOSED"):
        assert told(promised(a_paid_order(), 100), status).status == "PAID"


def test_success_is_dated_by_wechat_or_by_when_we_heard():
    order = promised(a_paid_order())
    assert told(order, success_at=NOW).refund("R1").success_at == NOW
    assert told(order).refund("R1").success_at == LATER
    assert told(order, "CLOSED", success_at=NOW).refund("R1").success_at is None


def test_learning_the_number_wechat_gave_a_refund_is_an_internal_step():
    order = told(promised(a_paid_order()), "PROCESSING", refund_id="50")
    assert (order.refund("R1").refund_id, order.version) == ("50", 4)
    assert (order.events[-1].name, order.events[-1].is_public) == ("refund.accepted", False)
    assert told(order, "PROCESSING", refund_id="50") is order
    assert told(order, "PROCESSING") is order
    assert told(order, "SUCCESS").refund("R1").refund_id == "50"


@pytest.mark.parametrize(
    ("contradiction", "refusal", "sides"),
    [
        ({"total_fee": 99}, FeeMismatch, "ours 100, WeChat's 99 fen"),
        ({"mch_id": "1900000109"}, PayeeMismatch, "ours is mch_id 1230000109, WeChat's 1900000109"),
        ({"refund_fee": 59}, RefundConflict, "ours 60, WeChat's 59 fen"),
        ({"refund_id": "51"}, RefundConflict, "known as 50, now 51"),
    ],
)
@pytest.mark.parametrize("word", WORDS)
def test_a_word_that_contradicts_what_we_hold_is_refused(word, contradiction, refusal, sides):
    order = told(promised(a_paid_order()), "PROCESSING", refund_id="50")
    with pytest.raises(refusal, match=sides):
        told(order, word, **contradiction)


def test_a_word_that_names_all_we_hold_is_taken():
    same = {"total_fee": 100, "mch_id": "1230000109", "refund_fee": 60, "refund_id": "50"}
    assert told(promised(a_paid_order()), **same).refunded_fee == 60


# -- refused by WeChat ---------------------------------------------------------------------


def test_a_refund_wechat_refused_gives_its_amount_back_under_a_new_number():
    order = promised(a_paid_order()).refund_refused("R1", "USER_ACCOUNT_ABNORMAL", LATER, "api")
    refund = order.refund("R1")
    assert (refund.refund_status, refund.failure) == ("CLOSED", "USER_ACCOUNT_ABNORMAL")
    assert (order.refundable_fee, order.events[-1].name) == (100, "refund.closed")
    assert promised(order, 100, "R2").refundable_fee == 0


@pytest.mark.parametrize("status", ["ABNORMAL", "CLOSED", "SUCCESS"])
def test_a_late_refusal_is_no_news_to_a_refund_that_wechat_took(status):
    order = told(promised(a_paid_order()), status)
    assert order.refund_refused("R1", "ERROR", LATER, "api") is order


def test_a_refusal_of_a_refund_we_do_not_know_is_refused():
    with pytest.raises(RefundNotFound, match="R9"):
        a_paid_order().refund_refused("R9", "ERROR", LATER, "api")


# -- refunds made by staff in WeChat's own platform ----------------------------------------


@pytest.mark.parametrize("word", WORDS)
def test_a_refund_made_elsewhere_is_taken_in_under_its_number(word):
    order = told(a_paid_order(), word, "X1", refund_fee=30, refund_id="70")
    (refund,) = order.refunds
    assert (refund.out_refund_no, refund.refund_fee, refund.refund_status) == ("X1", 30, word)
    assert (refund.foreign, refund.refund_id, refund.created_at) == (True, "70", LATER)
    assert (order.version, order.events[-1].name) == (3, f"refund.{word.lower()}")
    assert order.refundable_fee == (100 if word == "CLOSED" else 70)


def test_refunds_made_elsewhere_may_return_the_last_fen():
    order = told(a_paid_order(), "SUCCESS", "X1", refund_fee=100)
    assert order.status == "REFUNDED"
    assert [event.name for event in order.events[-2:]] == ["refund.success", "order.refunded"]


def test_a_refund_of_ours_is_not_foreign():
    assert not told(promised(a_paid_order())).refund("R1").foreign


def test_an_unknown_refund_without_an_amount_is_not_found():
    with pytest.raises(RefundNotFound, match="X1"):
        told(a_paid_order(), "SUCCESS", "X1")


def test_a_payment_is_heard_before_its_refunds():
    with pytest.raises(RefundNotAllowed, match="PAY001 is PENDING"):
        told(an_order(), "SUCCESS", "X1", refund_fee=30)


@pytest.mark.parametrize("word", ["PROCESSING", "ABNORMAL", "SUCCESS"])
def test_more_refunded_elsewhere_than_was_left_is_for_a_person_to_look_at(word):
    order = promised(a_paid_order())
    with pytest.raises(RefundConflict, match="40 fen left, WeChat refunded 41"):
        told(order, word, "X1", refund_fee=41)
    assert told(order, word, "X1", refund_fee=40).refundable_fee == 0


def test_a_closed_refund_made_elsewhere_takes_nothing_from_what_is_left():
    order = told(promised(a_paid_order()), "CLOSED", "X1", refund_fee=100)
    assert order.refundable_fee == 40


# -- what cannot be a refund ---------------------------------------------------------------


@pytest.mark.parametrize("out_refund_no", ["R", "0" * 64, "aZ9_-|*@"])
def test_a_refund_number_is_up_to_64_of_the_characters_wechat_takes(out_refund_no):
    assert a_refund(out_refund_no=out_refund_no).out_refund_no == out_refund_no


@pytest.mark.parametrize("out_refund_no", ["", "0" * 65, "退款", "R 1", "R1\n", "R.1", "\u0661"], ids=ascii)
def test_what_is_no_refund_number_is_refused(out_refund_no):
    with pytest.raises(InvalidRefundNo) as refusal:
        a_refund(out_refund_no=out_refund_no)
    assert (refusal.value.code, refusal.value.field) == ("REFUND_NO_INVALID", "out_refund_no")


@pytest.mark.parametrize("reason", ["", "x" * 80, "退" * 26 + "xx", "😀" * 20], ids=ascii)
def test_a_reason_is_80_bytes_at_most(reason):
    assert a_refund(reason=reason).reason == reason


@pytest.mark.parametrize("reason", ["x" * 81, "退" * 27, "😀" * 20 + "x", "a\x00", "a\ud800"], ids=ascii)
def test_a_reason_that_cannot_be_shown_is_refused(reason):
    with pytest.raises(InvalidReason) as refusal:
        a_refund(reason=reason)
    assert (refusal.value.code, refusal.value.field) == ("REASON_INVALID", "reason")


@pytest.mark.parametrize(
    ("refund_fee", "refusal"),
    [(True, InvalidFee), (1.0, InvalidFee), ("60", InvalidFee), (None, InvalidFee)]
    + [(fee, FeeOutOfRange) for fee in (0, -1, 1_000_001)],
)
def test_a_refund_is_of_whole_fen(refund_fee, refusal):
    with pytest.raises(refusal) as refused:
        a_refund(refund_fee)
    assert refused.value.field == "refund_fee"


def test_a_refund_given_up_here_is_open_again_when_wechat_speaks_of_it():
    """R34: of two calls under one number, one may be refused and the other taken."""
    order = promised(a_paid_order(), 60).refund_refused("R1", "refused", NOW, "job")
    assert order.refund("R1").is_given_up
    order = told(order, "SUCCESS", "R1", refund_fee=60)
    assert (order.refund("R1").refund_status, order.refund("R1").failure) == ("SUCCESS", "")
    assert order.refundable_fee == 40


def test_a_refund_given_up_here_is_not_open_again_where_its_money_was_promised_anew():
    order = promised(a_paid_order(), 60).refund_refused("R1", "refused", NOW, "job")
    order = promised(order, 60, "R2")
    with pytest.raises(RefundConflict):
        told(order, "PROCESSING", "R1", refund_fee=60)


def test_a_refund_that_wechat_itself_closed_stays_closed():
    order = told(promised(a_paid_order(), 60), "CLOSED", "R1", refund_fee=60)
    with pytest.raises(RefundConflict):
        told(order, "SUCCESS", "R1", refund_fee=60)
