"""The book alone: rules that hold whatever is asked of it, in whatever order."""

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adapters.wechat.simulator.book import Book, chance
from adapters.wechat.simulator.codes import Refusal
from adapters.wechat.simulator.orders import Form, OrderRequest, RefundRequest
from domain.trade import RefundStatus, TradeState
from tests.simulator_side import START

NUMBERS = st.sampled_from(["PAY001", "PAY002"])
CLIMB = [TradeState.NOTPAY, TradeState.PAYERROR, TradeState.CLOSED, TradeState.SUCCESS, TradeState.REFUND]


def an_order(number="PAY001", **change):
    return OrderRequest(
        **{
            "appid": "wx1",
            "mch_id": "1",
            "out_trade_no": number,
            "total_fee": 100,
            "body": "茶",
            "openid": "o1",
            "notify_url": "http://shop/n",
            "form": Form.V2,
            "fingerprint": "same",
            **change,
        }
    )


def a_refund(number="REF1", fee=60, **change):
    return RefundRequest(
        **{
            "out_refund_no": number,
            "refund_fee": fee,
            "total_fee": 100,
            "out_trade_no": "PAY001",
            "form": Form.V3,
            **change,
        }
    )


class Bookkeeping(RuleBasedStateMachine):
    """Any acts at any time: an order only climbs, money is conserved, what ended stays ended."""

    def __init__(self):
        super().__init__()
        self.book = Book("wx1", "1", chance(1))
        self.now = START
        self.seen = {}
        self.ended = {}

    def act(self, act, *args, **how):
        try:
            return act(*args, now=self.now, **how)
        except Refusal:
            return None

    @rule(number=NUMBERS, same=st.booleans())
    def place(self, number, same):
        self.act(self.book.place, an_order(number, fingerprint="same" if same else "other"))

    @rule(number=NUMBERS, final=st.booleans())
    def fail(self, number, final):
        self.act(self.book.fail, number, final=final)

    @rule(number=NUMBERS)
    def pay(self, number):
        self.act(self.book.pay, number)

    @rule(number=NUMBERS)
    def close(self, number):
        self.act(self.book.close, number)

    @rule(number=NUMBERS, refund=st.sampled_from("ABC"), fee=st.integers(1, 101))
    def refund(self, number, refund, fee):
        self.act(self.book.refund, a_refund(refund, fee, out_trade_no=number))

    @precondition(lambda self: self.book.refunds)
    @rule(status=st.sampled_from([RefundStatus.SUCCESS, RefundStatus.ABNORMAL, RefundStatus.CLOSED]))
    def decide(self, status):
        for number in self.book.refunds:
            self.act(self.book.end_refund, number, status)

    @rule(hours=st.integers(0, 100))
    def time_passes(self, hours):
        self.now += timedelta(hours=hours)
        for number in self.book.refunds:
            self.book.settle_refund(number, self.now)

    @invariant()
    def an_order_only_climbs_and_is_paid_once(self):
        for number, order in self.book.orders.items():
            before = self.seen.get(number)
            if before is not None and before.is_paid:
                assert (order.transaction_id, order.paid_at) == (before.transaction_id, before.paid_at)
                assert CLIMB.index(order.trade_state) >= CLIMB.index(before.trade_state)
            if before is not None and before.trade_state is TradeState.CLOSED:
                assert order.trade_state is TradeState.CLOSED
            self.seen[number] = order

    @invariant()
    def refunds_never_exceed_their_payment(self):
        for order in self.book.orders.values():
            refunds = self.book.refunds_of(order)
            assert sum(each.refund_fee for each in refunds if each.holds_money) <= order.total_fee
            assert (order.trade_state is TradeState.REFUND) is bool(refunds)

    @invariant()
    def what_ended_stays_ended(self):
        for number, refund in self.book.refunds.items():
            assert self.ended.setdefault(number, refund.status) == refund.status or self.ended[number] in {
                RefundStatus.PROCESSING,
                RefundStatus.ABNORMAL,
            }
            self.ended[number] = refund.status


Bookkeeping.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestBookkeeping = Bookkeeping.TestCase


def a_book():
    book = Book("wx1", "1", chance(1))
    book.place(an_order(), START)
    return book


def test_the_same_seed_gives_the_same_numbers():
    def numbers(seed):
        book = Book("wx1", "1", chance(seed))
        prepay_id = book.place(an_order(), START)
        transaction_id = book.pay("PAY001", START).transaction_id
        return prepay_id, transaction_id, book.refund(a_refund(), START).refund_id

    assert numbers(1) == numbers(1) != numbers(2)
    prepay_id, transaction_id, refund_id = numbers(1)
    assert (len(prepay_id), len(transaction_id), len(refund_id)) == (36, 28, 29)


def test_an_abnormal_refund_goes_on_when_sent_again():
    book = a_book()
    book.pay("PAY001", START)
    refund = book.refund(a_refund(), START, outcome=RefundStatus.ABNORMAL)
    assert book.settle_refund("REF1", START) is None
    assert book.settle_refund("REF1", refund.due_at).status is RefundStatus.ABNORMAL
    with pytest.raises(Refusal, match="REFUND_NOT_EXIST"):
        book.retry_abnormal("other", "REF1", START)
    again = book.retry_abnormal(refund.refund_id, "REF1", refund.due_at)
    assert book.settle_refund("REF1", again.due_at).status is RefundStatus.SUCCESS
    assert book.settle_refund("REF1", again.due_at) is None


def test_the_last_moment_of_an_order_is_over():
    book = a_book()
    order = book.order("PAY001", START)
    assert order.expires_at == START + timedelta(days=7)
    assert book.order("PAY001", order.expires_at - timedelta(seconds=1)).trade_state is TradeState.NOTPAY
    with pytest.raises(Refusal, match="ORDER_CLOSED"):
        book.pay("PAY001", order.expires_at)
    assert book.order("PAY001", START).trade_state is TradeState.CLOSED


def test_a_refusal_names_its_code_and_field():
    with pytest.raises(Refusal, match="PARAM_ERROR 金额必须大于0") as refusal:
        Book("wx1", "1").place(an_order(total_fee=0), START)
    assert (refusal.value.code, refusal.value.field) == ("PARAM_ERROR", "total_fee")


def test_time_runs_out_for_a_year_after_payment_exactly():
    book = a_book()
    book.pay("PAY001", START)
    year = START + timedelta(days=365)
    assert book.refund(a_refund("REF1", 1), year)
    with pytest.raises(Refusal, match="TRADE_OVERDUE"):
        book.refund(a_refund("REF2", 1), year + timedelta(seconds=1))
