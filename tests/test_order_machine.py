"""One order beside a small model of WeChat: whatever comes in whatever order, the two agree in the end."""

from datetime import timedelta
from itertools import pairwise

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from domain.errors import NotNow, OrderStillOpen, RefundConflict, RefundNotAllowed
from domain.trade import RefundReport, RefundStatus, Trade
from tests.shop import NOW, a_draft, a_refund, a_report, a_trade

TOTAL = 100
LADDER = ["PENDING", "FAILED", "CANCELLED", "PAID", "REFUNDED"]
REFUND_LADDER = {"PROCESSING": 0, "ABNORMAL": 1, "CLOSED": 2, "SUCCESS": 2}
FEES = st.sampled_from([40, 60, TOTAL])


class Mail(RuleBasedStateMachine):
    """WeChat acts and writes letters about it; they arrive in any order, more than once, or late.

    `wechat` holds what is true there: the fee and status of each refund it has taken.
    """

    letters = Bundle("letters")

    def __init__(self) -> None:
        super().__init__()
        self.order = a_draft()
        self.now = NOW
        self.paid = False
        self.wechat: dict[str, tuple[int, str]] = {}
        self.sent: list[Trade | RefundReport] = []
        self.before = self.order

    # -- what happens here -----------------------------------------------------------------

    @initialize(answer=st.sampled_from(["placed", "unanswered", "refused"]), paid_at_once=st.booleans())
    def place(self, answer, paid_at_once):
        said = {"placed": ["wx42"], "unanswered": [], "refused": ["NOAUTH"]}[answer]
        self.order = getattr(self.order, answer)(*said, self.now, "api")
        if paid_at_once:
            self.deliver(self.the_payer_pays())

    @rule(minutes=st.sampled_from([-600_000, -31, -1, 1, 31, 600_000]))
    def the_clock_is_moved(self, minutes):
        self.now += timedelta(minutes=minutes)

    @rule()
    def place_again(self):
        try:
            self.order = self.order.prepared("wx43", self.now, "api")
        except NotNow:
            assert self.order.status != "PENDING" or self.now >= self.order.expires_at

    @rule()
    def wechat_does_not_know_it(self):
        try:
            self.order = self.order.lapsed(self.now, "janitor")
        except OrderStillOpen:
            assert self.order.status == "PENDING"
            assert self.now < self.order.expires_at

    @rule(number=st.integers(1, 4), refund_fee=FEES)
    def ask_for_a_refund(self, number, refund_fee):
        left, known = self.order.refundable_fee, self.order.refund(f"R{number}")
        refund = a_refund(refund_fee, f"R{number}")
        try:
            self.order = self.order.request_refund(refund, self.now, "api")
        except RefundNotAllowed:
            late = self.order.is_paid and self.now > self.order.paid_at + timedelta(days=365)
            reused = known is not None and known.refund_fee != refund_fee
            assert reused or late or self.order.status != "PAID" or refund_fee > left
        else:
            assert known is not None or self.order.refundable_fee == left - refund_fee

    # -- what happens at WeChat ------------------------------------------------------------

    @rule(target=letters, word=st.sampled_from(["NOTPAY", "USERPAYING", "PAYERROR", "CLOSED", "REVOKED"]))
    def wechat_tells_of_no_payment(self, word):
        return self.written(a_trade(word, total_fee=None, transaction_id="", time_end=None))

    @rule(target=letters)
    def wechat_takes_the_payment(self):
        return self.the_payer_pays()

    @precondition(lambda self: self.paid and self.wechat)
    @rule(target=letters)
    def wechat_calls_it_refunded_in_part(self):
        return self.payment_told("REFUND")

    @precondition(lambda self: self.promises())
    @rule(target=letters, data=st.data())
    def wechat_takes_a_refund_or_not(self, data):
        return self.carried(data.draw(st.sampled_from(self.promises())))

    @precondition(lambda self: self.paid)
    @rule(target=letters, number=st.integers(1, 3), refund_fee=FEES)
    def staff_refunds_in_the_platform_of_wechat(self, number, refund_fee):
        left = self.left_at_wechat()
        if f"X{number}" not in self.wechat and left:
            self.wechat[f"X{number}"] = (min(refund_fee, left), "PROCESSING")
        return self.refund_told(f"X{number}")

    @precondition(lambda self: self.wechat)
    @rule(target=letters, word=st.sampled_from(list(RefundStatus)), data=st.data())
    def a_refund_goes_its_way(self, word, data):
        number = data.draw(st.sampled_from(sorted(self.wechat)))
        refund_fee, status = self.wechat[number]
        if REFUND_LADDER[word] > REFUND_LADDER[status]:
            self.wechat[number] = (refund_fee, str(word))
        return self.refund_told(number)

    # -- letters ---------------------------------------------------------------------------

    @rule(letter=letters)
    def a_letter_arrives(self, letter):
        self.deliver(letter)

    @rule()
    def the_post_brings_all_letters_again_the_newest_first(self):
        for letter in reversed(self.sent):
            self.deliver(letter)

    def deliver(self, letter):
        """Our side reads a letter; the only refusals are those that a later delivery heals."""
        try:
            if isinstance(letter, Trade):
                self.order = self.order.apply(letter, self.now, "notify")
            elif letter is not None:
                self.order = self.order.apply_refund(letter, self.now, "notify")
        except RefundNotAllowed:
            assert not self.order.is_paid
        except RefundConflict:
            assert self.order.refund(letter.out_refund_no) is None
            assert letter.refund_fee > self.order.refundable_fee

    def written(self, letter):
        self.sent.append(letter)
        return letter

    def the_payer_pays(self):
        self.paid = True
        return self.payment_told("SUCCESS")

    def payment_told(self, word):
        return self.written(a_trade(word, appid="wx1", mch_id="1230000109"))

    def refund_told(self, number):
        if number not in self.wechat:
            return None
        refund_fee, status = self.wechat[number]
        told = {"refund_id": f"50{number}", "refund_fee": refund_fee, "total_fee": TOTAL, "success_at": NOW}
        return self.written(a_report(status, number, **told))

    def carried(self, refund):
        """WeChat hears of a promised refund: takes it while it has the money, refuses it otherwise."""
        number = refund.out_refund_no
        if refund.refund_fee > self.left_at_wechat():
            self.order = self.order.refund_refused(number, "NOTENOUGH", self.now, "api")
            return None
        self.wechat[number] = (refund.refund_fee, "PROCESSING")
        return self.refund_told(number)

    def promises(self):
        """What we promised and WeChat has not heard of yet."""
        return [r for r in self.order.refunds if not r.is_settled and r.out_refund_no not in self.wechat]

    def left_at_wechat(self):
        return TOTAL - sum(refund_fee for refund_fee, status in self.wechat.values() if status != "CLOSED")

    # -- what is true at every moment --------------------------------------------------------

    @invariant()
    def nothing_ever_steps_down(self):
        before, order = self.before, self.order
        self.before = order
        assert LADDER.index(order.status) >= LADDER.index(before.status)
        assert order.version >= before.version
        for old, new in zip(before.refunds, order.refunds, strict=False):
            assert (old.out_refund_no, old.refund_fee) == (new.out_refund_no, new.refund_fee)
            assert REFUND_LADDER[old.refund_status] <= REFUND_LADDER[new.refund_status]
        assert len(before.refunds) <= len(order.refunds)

    @invariant()
    def each_version_has_one_event(self):
        events = self.order.events
        assert [event.version for event in events] == list(range(1, self.order.version + 1))
        assert all(b.status_before == a.facts["status"] for a, b in pairwise(events))

    @invariant()
    def nothing_is_paid_that_wechat_does_not_call_paid(self):
        assert self.paid or not self.order.is_paid
        told = ("42", NOW) if self.order.is_paid else ("", None)
        assert (self.order.transaction_id, self.order.paid_at) == told

    @invariant()
    def never_more_goes_back_than_was_paid(self):
        held = [r for r in self.order.refunds if r.refund_status != "CLOSED"]
        assert sum(r.refund_fee for r in held) == TOTAL - self.order.refundable_fee <= TOTAL
        assert (self.order.status == "REFUNDED") == (self.order.refunded_fee == TOTAL)

    @invariant()
    def nothing_came_back_that_wechat_did_not_return(self):
        for refund in self.order.refunds:
            if refund.refund_status == "SUCCESS":
                assert self.wechat[refund.out_refund_no] == (refund.refund_fee, "SUCCESS")

    def teardown(self):
        """Once every refund has found its end and every letter comes again, both sides say the same."""
        for refund in self.promises():
            self.carried(refund)
        for number, (refund_fee, status) in list(self.wechat.items()):
            if REFUND_LADDER[status] < REFUND_LADDER["SUCCESS"]:
                self.wechat[number] = (refund_fee, "SUCCESS")
                self.refund_told(number)
        for _ in range(2):  # a letter refused in the first round finds its payment or its money in the next
            for letter in self.sent:
                self.deliver(letter)
        assert self.order.is_paid == self.paid
        ours = {r.out_refund_no: (r.refund_fee, str(r.refund_status)) for r in self.order.refunds}
        refused = {r.out_refund_no for r in self.order.refunds if r.failure}
        assert {number: kept for number, kept in ours.items() if number not in refused} == self.wechat
        self.never_more_goes_back_than_was_paid()
        settled = (self.order, self.order.version)
        for letter in self.sent:
            self.deliver(letter)
        assert (self.order, self.order.version) == settled


def test_any_interleaving_of_news_and_refunds_keeps_the_order_true():
    run_state_machine_as_test(Mail)
