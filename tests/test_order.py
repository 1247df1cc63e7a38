"""The rules of an order, with nothing around them."""

from datetime import timedelta
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import (
    FeeMismatch,
    OrderEnded,
    OrderPaid,
    OrderStillOpen,
    PayeeMismatch,
    RefundNotAllowed,
    TradeConflict,
)
from domain.order import MEANING, TRADE_STATE, TRANSITIONS, Order, Status
from domain.trade import BEIJING, Trade, TradeState
from tests.shop import INSTANT, LATER, NOW, a_draft, a_report, a_trade, an_order

# The contract's table, cell by cell.
ALLOWED = {
    ("PENDING", "PAID"),
    ("PENDING", "CANCELLED"),
    ("PENDING", "FAILED"),
    ("FAILED", "CANCELLED"),
    ("CANCELLED", "PAID"),
    ("FAILED", "PAID"),
    ("PAID", "REFUNDED"),
}
# What becomes of an order in each status (left) at each word of WeChat (top).
ENDS = """
           NOTPAY    USERPAYING ACCEPT    PAYERROR  CLOSED    REVOKED   SUCCESS  REFUND
PENDING    PENDING   PENDING    PENDING   FAILED    CANCELLED CANCELLED PAID     PAID
FAILED     FAILED    FAILED     FAILED    FAILED    CANCELLED CANCELLED PAID     PAID
CANCELLED  CANCELLED CANCELLED  CANCELLED CANCELLED CANCELLED CANCELLED PAID     PAID
PAID       PAID      PAID       PAID      PAID      PAID      PAID      PAID     PAID
REFUNDED   REFUNDED  REFUNDED   REFUNDED  REFUNDED  REFUNDED  REFUNDED  REFUNDED REFUNDED
"""
WORDS, *ROWS = [line.split() for line in ENDS.split("\n") if line]
CELLS = [(status, word, end) for status, *ends in ROWS for word, end in zip(WORDS, ends, strict=True)]


def an_order_that_is(status: str) -> Order:
    """One order for each status; REFUNDED is told from PAID here by its status alone."""
    words = {"PENDING": "NOTPAY", "FAILED": "PAYERROR", "CANCELLED": "CLOSED"}
    order = an_order().apply(a_trade(words.get(status, "SUCCESS")), NOW, "notify")
    return evolve(order, status=Status(status))


# -- the table -----------------------------------------------------------------------------


@pytest.mark.parametrize("old", Status)
@pytest.mark.parametrize("new", Status)
def test_each_cell_of_the_table_is_the_contract(old, new):
    assert (new in TRANSITIONS[old]) == ((old.value, new.value) in ALLOWED)


@pytest.mark.parametrize(("status", "word", "end"), CELLS)
def test_each_word_of_wechat_moves_each_order_where_the_contract_says(status, word, end):
    order = an_order_that_is(status)
    told = order.apply(a_trade(word), LATER, "query")
    assert told.status == end
    assert (told is order) == (status == end)


def test_an_order_only_climbs():
    ladder = ["PENDING", "FAILED", "CANCELLED", "PAID", "REFUNDED"]
    assert set(ladder) == set(Status)
    for status, further in TRANSITIONS.items():
        assert all(ladder.index(status) < ladder.index(higher) for higher in further)


def test_every_word_has_a_meaning():
    assert set(TRANSITIONS) == set(Status)
    assert set(MEANING) == set(TradeState) == set(WORDS)


def test_a_status_is_told_in_the_words_of_wechat():
    assert TRADE_STATE == {
        "PENDING": "NOTPAY",
        "FAILED": "PAYERROR",
        "CANCELLED": "CLOSED",
        "PAID": "SUCCESS",
        "REFUNDED": "REFUND",
    }


# -- news in any order ---------------------------------------------------------------------

NEWS = st.lists(st.sampled_from(list(TradeState)), min_size=1, max_size=12)
REFUND_PATHS = st.sampled_from(
    [
        "PROCESSING",
        "PROCESSING SUCCESS",
        "PROCESSING CLOSED",
        "PROCESSING ABNORMAL SUCCESS",
        "ABNORMAL CLOSED",
    ]
)


def reports(number, path):
    """WeChat's words on one refund of 25 fen, one after the other."""
    told = {"refund_id": f"50{number}", "refund_fee": 25, "success_at": NOW}
    return [a_report(word, f"R{number}", **told) for word in path.split()]


def heard(letters) -> Order:
    """An order that took in all letters; what comes before its payment comes again, as WeChat repeats it."""
    order = an_order()
    while letters:
        again = []
        for letter in letters:
            take_in = order.apply if isinstance(letter, Trade) else order.apply_refund
            try:
                order = take_in(letter, LATER, "notify")
            except RefundNotAllowed:
                again.append(letter)
        letters = again if order.is_paid else []
    return order


@given(NEWS, st.lists(REFUND_PATHS, max_size=4), st.randoms(use_true_random=False))
def test_news_may_come_in_any_order_and_repeat(news, paths, chance):
    letters = [a_trade(word) for word in news]
    letters += [letter for number, path in enumerate(paths) for letter in reports(number, path)]
    shuffled = letters + chance.choices(letters, k=4)
    chance.shuffle(shuffled)
    first, second = heard(letters), heard(shuffled)
    assert (first.status, first.transaction_id, first.paid_at) == (
        second.status,
        second.transaction_id,
        second.paid_at,
    )
    assert set(first.refunds) == set(second.refunds)


def test_an_order_is_the_same_order_with_or_without_its_history():
    order = an_order()
    assert order == evolve(order, events=())
    assert "order.created" not in repr(order)


def test_the_message_that_brought_a_step_stays_with_it_and_out_of_logs():
    order = an_order().apply(a_trade(evidence="<xml>…</xml>"), LATER, "notify")
    assert [event.evidence for event in order.events] == ["", "<xml>…</xml>"]
    assert "xml" not in repr(order.events)
    assert "xml" not in repr(a_trade(evidence="<xml>…</xml>"))


@given(NEWS)
def test_each_version_has_exactly_one_event_that_follows_the_one_before(news):
    order = an_order()
    for word in news:
        order = order.apply(a_trade(word), LATER, "notify")
    events = order.events
    assert [event.version for event in events] == list(range(1, order.version + 1))
    assert [event.id for event in events] == [f"PAY001-{number}" for number in range(1, order.version + 1)]
    assert events[0].status_before is None
    assert all(after.status_before == before.facts["status"] for before, after in pairwise(events))
    assert events[-1].facts["status"] == order.status


def test_an_event_tells_the_order_as_it_stood_then():
    created, paid = an_order(attach="桌 7").apply(a_trade(), LATER, "notify 2f1c").events
    assert (created.name, created.at, created.cause) == ("order.created", NOW, "api")
    assert (paid.name, paid.at, paid.cause) == ("order.paid", LATER, "notify 2f1c")
    assert (paid.out_trade_no, paid.version, paid.status_before) == ("PAY001", 2, "PENDING")
    assert created.facts["transaction_id"] is None
    assert paid.facts == {
        "out_trade_no": "PAY001",
        "transaction_id": "42",
        "openid": "o1",
        "status": "PAID",
        "total_fee": 100,
        "refunded_fee": 0,
        "body": "茶",
        "attach": "桌 7",
    }


def test_the_shop_hears_of_every_step_but_the_internal_ones():
    order = an_order().prepared("wx43", LATER, "api").apply(a_trade(), LATER, "notify")
    heard = [event.name for event in order.events if event.is_public]
    assert heard == ["order.created", "order.paid"]


def test_the_same_word_is_the_same_whatever_message_brought_it():
    assert a_trade(evidence="<xml>…</xml>") == a_trade()
    assert a_report(evidence="{…}") == a_report()
    assert a_trade("CLOSED") != a_trade()


def test_the_clock_of_wechat_is_eight_hours_ahead():
    assert NOW.astimezone(BEIJING).isoformat() == "2024-01-02T11:04:05+08:00"


# -- a word that contradicts what we hold --------------------------------------------------


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize(
    ("contradiction", "refusal", "sides"),
    [
        ({"total_fee": 99}, FeeMismatch, "ours 100 fen, WeChat's 99 CNY"),
        ({"total_fee": None}, FeeMismatch, "ours 100 fen, WeChat's None CNY"),
        ({"currency": "USD"}, FeeMismatch, "ours 100 fen, WeChat's 100 USD"),
        ({"appid": "wx2"}, PayeeMismatch, "ours is appid wx1, WeChat's wx2"),
        ({"mch_id": "1900000109"}, PayeeMismatch, "ours is mch_id 1230000109, WeChat's 1900000109"),
        ({"transaction_id": ""}, TradeConflict, "now ''"),
    ],
)
def test_a_payment_that_is_not_ours_is_refused(status, contradiction, refusal, sides):
    with pytest.raises(refusal, match=sides):
        an_order_that_is(status).apply(a_trade(**contradiction), LATER, "notify")


@pytest.mark.parametrize("status", ["PAID", "REFUNDED"])
def test_an_order_is_paid_by_one_transaction(status):
    with pytest.raises(TradeConflict, match="paid as '42', now '43'"):
        an_order_that_is(status).apply(a_trade(transaction_id="43"), LATER, "notify")


@pytest.mark.parametrize("word", ["NOTPAY", "CLOSED", "PAYERROR"])
def test_the_payee_is_compared_whatever_the_word(word):
    for contradiction in ({"appid": "wx2"}, {"mch_id": "1900000109"}):
        with pytest.raises(PayeeMismatch):
            an_order().apply(a_trade(word, **contradiction), LATER, "query")


def test_what_wechat_does_not_name_is_not_compared():
    unpaid = a_trade("CLOSED", total_fee=None, transaction_id="", time_end=None)
    assert an_order().apply(unpaid, LATER, "query").status == "CANCELLED"
    same = a_trade(appid="wx1", mch_id="1230000109")
    assert an_order().apply(same, LATER, "query").status == "PAID"


# -- placing -------------------------------------------------------------------------------


def test_an_order_that_wechat_took_can_be_paid():
    order = an_order()
    assert (order.status, order.version, order.prepay_id, order.prepaid_at) == ("PENDING", 1, "wx42", NOW)
    assert (order.late, order.failure, order.refunds, order.attach) == (False, "", (), "")
    assert not order.is_unanswered
    order.check_payable(order.expires_at - INSTANT)


def test_an_unanswered_order_is_held_as_pending():
    order = a_draft().unanswered(NOW, "api")
    assert (order.status, order.version, order.prepay_id, order.is_unanswered) == ("PENDING", 1, "", True)
    assert [event.name for event in order.events] == ["order.created"]
    assert not order.prepay_is_fresh(NOW)
    assert not order.apply(a_trade(), LATER, "query").is_unanswered


def test_a_refused_order_is_failed_with_its_reason():
    order = a_draft().refused("NOAUTH 无权限", NOW, "api")
    (event,) = order.events
    assert (order.status, order.version, order.failure) == ("FAILED", 1, "NOAUTH 无权限")
    assert (event.name, event.status_before, event.facts["failure"]) == (
        "order.failed",
        None,
        "NOAUTH 无权限",
    )


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED", "PAID", "REFUNDED"])
def test_a_refusal_is_no_news_to_an_order_past_pending(status):
    order = an_order_that_is(status)
    assert order.refused("ORDERCLOSED", LATER, "api") is order


def test_a_pending_order_may_still_be_refused():
    order = a_draft().unanswered(NOW, "api").refused("NOAUTH", LATER, "janitor")
    assert (order.status, order.version, order.events[-1].status_before) == ("FAILED", 2, "PENDING")


def test_placing_again_gives_a_fresh_prepay_id():
    order = an_order().prepared("wx43", LATER, "api")
    assert (order.prepay_id, order.prepaid_at, order.status) == ("wx43", LATER, "PENDING")
    assert order.events[-1].name == "order.prepared"


def test_a_prepay_id_is_fresh_for_two_hours_to_the_instant():
    order = an_order()
    assert order.prepay_is_fresh(NOW + timedelta(hours=2) - INSTANT)
    assert not order.prepay_is_fresh(NOW + timedelta(hours=2))


@pytest.mark.parametrize("status", ["PAID", "REFUNDED"])
def test_nobody_is_asked_to_pay_a_paid_order_again(status):
    order = an_order_that_is(status)
    assert order.is_paid
    for ask in (order.check_payable, lambda now: order.prepared("wx43", now, "api")):
        with pytest.raises(OrderPaid, match=f"PAY001 is {status}"):
            ask(NOW)


@pytest.mark.parametrize(
    ("status", "now"), [("FAILED", NOW), ("CANCELLED", NOW), ("PENDING", NOW + timedelta(minutes=30))]
)
def test_nobody_is_asked_to_pay_an_order_that_has_ended(status, now):
    order = an_order_that_is(status)
    assert not order.is_paid
    with pytest.raises(OrderEnded, match=f"PAY001 is {status}"):
        order.check_payable(now)
    with pytest.raises(OrderEnded):
        order.prepared("wx43", now, "api")


# -- late money, lapsed orders -------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "late", "name"),
    [
        ("PENDING", False, "order.paid"),
        ("FAILED", True, "order.paid_late"),
        ("CANCELLED", True, "order.paid_late"),
    ],
)
def test_money_that_comes_after_an_order_was_given_up_is_marked_late(status, late, name):
    order = an_order_that_is(status).apply(a_trade(), LATER, "notify")
    assert (order.status, order.late, order.events[-1].name) == ("PAID", late, name)
    assert (order.transaction_id, order.paid_at) == ("42", NOW)
    assert order.apply(a_trade(), LATER, "query") is order


def test_a_payment_without_a_time_counts_from_when_we_heard():
    assert an_order().apply(a_trade(time_end=None), LATER, "bill").paid_at == LATER


def test_an_order_wechat_does_not_know_fails_once_its_time_has_run_out():
    order = a_draft().unanswered(NOW, "api")
    with pytest.raises(OrderStillOpen, match="PAY001 can be paid until 2024-01-02 03:34:05 UTC"):
        order.lapsed(order.expires_at - INSTANT, "janitor")
    lapsed = order.lapsed(order.expires_at, "janitor")
    assert (lapsed.status, lapsed.failure) == ("FAILED", "WeChat does not know the order")


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED", "PAID", "REFUNDED"])
def test_only_a_pending_order_lapses(status):
    order = an_order_that_is(status)
    assert order.lapsed(NOW, "janitor") is order
