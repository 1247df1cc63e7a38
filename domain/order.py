"""The order: one purchase, its payment, its refunds, and the rules that bind them."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from attrs import evolve, field, frozen

from domain.errors import (
    FeeMismatch,
    InvalidAttach,
    InvalidBody,
    InvalidOpenid,
    InvalidOrder,
    OrderEnded,
    OrderPaid,
    OrderStillOpen,
    PayeeMismatch,
    RefundConflict,
    RefundExceedsPayment,
    RefundNotAllowed,
    RefundNotFound,
    RefundNumberReused,
    RefundTooLate,
    TooManyRefunds,
    TradeConflict,
)
from domain.events import Event
from domain.fee import valid_fee
from domain.refund import REFUND_WINDOW, REFUNDS_MAX, Refund
from domain.text import one_line, plain
from domain.trade import RefundReport, RefundStatus, Trade, TradeState

BODY_BYTES_MAX = 127  # of UTF-8: WeChat counts bytes, not characters (v2.md section 5)
ATTACH_BYTES_MAX = 127
PREPAY_TTL = timedelta(hours=2)  # a prepay_id's life, whatever time_expire says (R12)

OUT_TRADE_NO = re.compile(r"[0-9A-Za-z_\-]{6,32}\Z")  # v2.md section 4, the part all pages agree on
OPENID = re.compile(r"[0-9A-Za-z_\-]{1,128}\Z")


class Status(StrEnum):
    """Where an order stands; the values are the API's words."""

    PENDING = "PENDING"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    PAID = "PAID"
    REFUNDED = "REFUNDED"


# An order only climbs. So WeChat's news may repeat, come late or come out of
# turn, and the order still ends in the same place.
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.FAILED, Status.CANCELLED, Status.PAID}),
    Status.FAILED: frozenset({Status.CANCELLED, Status.PAID}),  # closed at WeChat after all
    Status.CANCELLED: frozenset({Status.PAID}),  # late money is still money
    Status.PAID: frozenset({Status.REFUNDED}),
    Status.REFUNDED: frozenset(),
}

MEANING: Mapping[TradeState, Status] = {
    TradeState.NOTPAY: Status.PENDING,  # one failed attempt leaves NOTPAY: never FAILED for that (R17)
    TradeState.USERPAYING: Status.PENDING,
    TradeState.ACCEPT: Status.PENDING,
    TradeState.PAYERROR: Status.FAILED,
    TradeState.CLOSED: Status.CANCELLED,
    TradeState.REVOKED: Status.CANCELLED,
    TradeState.SUCCESS: Status.PAID,
    TradeState.REFUND: Status.PAID,  # it was paid; its refunds speak for themselves
}

# WeChat's word for each status, as the query call answers it. No news of ours
# turns it back: FAILED and CANCELLED orders are still payable in the table above.
TRADE_STATE: Mapping[Status, TradeState] = {
    Status.PENDING: TradeState.NOTPAY,
    Status.FAILED: TradeState.PAYERROR,
    Status.CANCELLED: TradeState.CLOSED,
    Status.PAID: TradeState.SUCCESS,
    Status.REFUNDED: TradeState.REFUND,
}

LATE = frozenset({Status.FAILED, Status.CANCELLED})  # money that comes after these is late money


def valid_out_trade_no(_owner: object, _attribute: object, value: str) -> None:
    """6 to 32 letters, digits, _ or -; raises InvalidOrder."""
    if not OUT_TRADE_NO.match(value):
        raise InvalidOrder("out_trade_no must be 6 to 32 letters, digits, _ or -")


def valid_openid(_owner: object, _attribute: object, value: str) -> None:
    """1 to 128 letters, digits, _ or -; raises InvalidOpenid."""
    if not OPENID.match(value):
        raise InvalidOpenid("openid must be 1 to 128 letters, digits, _ or -")


def valid_body(_owner: object, _attribute: object, value: str) -> None:
    """Text a payer can read, 1 to 127 bytes; raises InvalidBody."""
    if not one_line(value) or not 0 < len(value.encode()) <= BODY_BYTES_MAX:
        raise InvalidBody(f"body must be one line of 1 to {BODY_BYTES_MAX} bytes of UTF-8")
    if not any(ord(mark) <= 0xFFFF and not mark.isspace() for mark in value):
        raise InvalidBody(
            "body must hold a character that WeChat can show: emoji and blanks alone will not do"
        )


def valid_attach(_owner: object, _attribute: object, value: str) -> None:
    """The merchant's own text, at most 127 bytes; raises InvalidAttach."""
    if not plain(value) or len(value.encode()) > ATTACH_BYTES_MAX:
        raise InvalidAttach(f"attach must be at most {ATTACH_BYTES_MAX} bytes of UTF-8")


@frozen(kw_only=True)
class Placement:
    """How the order was placed at WeChat: what an identical repeat of the call needs (R11, R12)."""

    appid: str
    mch_id: str
    api_version: str  # "v2" or "v3"
    sign_type: str  # "MD5", "HMAC-SHA256" or "RSA": also decides how its notifications are verified
    notify_url: str
    client_ip: str


@frozen(kw_only=True)
class Order:
    """One purchase by one payer. Immutable: every step returns the next order, "nothing new" returns self.

    Amounts in fen, moments aware UTC. `prepay_id` is empty while WeChat's answer
    to the order call is unknown. `late` marks money that came after the order
    had been given up.
    """

    out_trade_no: str = field(validator=valid_out_trade_no)
    openid: str = field(validator=valid_openid)
    total_fee: int = field(validator=valid_fee)
    body: str = field(validator=valid_body)
    attach: str = field(default="", validator=valid_attach)
    placement: Placement
    created_at: datetime
    expires_at: datetime
    status: Status = Status.PENDING
    prepay_id: str = ""
    prepaid_at: datetime | None = None
    transaction_id: str = ""
    paid_at: datetime | None = None
    late: bool = False
    failure: str = ""  # WeChat's code and words when it refused the order
    refunds: tuple[Refund, ...] = ()
    version: int = 0
    events: tuple[Event, ...] = field(default=(), eq=False, repr=False)

    # -- placing ---------------------------------------------------------------------------

    def placed(self, prepay_id: str, now: datetime, cause: str) -> "Order":
        """WeChat took the order."""
        return self._step("order.created", now, cause, prepay_id=prepay_id, prepaid_at=now)

    def unanswered(self, now: datetime, cause: str) -> "Order":
        """WeChat gave no answer: the order may exist there, and is written down as if it did."""
        return self._step("order.created", now, cause)

    def refused(self, reason: str, now: datetime, cause: str) -> "Order":
        """WeChat definitely refused to take the order; the first step or a later one."""
        if self.version and Status.FAILED not in TRANSITIONS[self.status]:
            return self
        return self._step("order.failed", now, cause, status=Status.FAILED, failure=reason)

    def prepared(self, prepay_id: str, now: datetime, cause: str) -> "Order":
        """The same order placed again gave a fresh prepay_id (R12). Raises as `check_payable` does."""
        self.check_payable(now)
        return self._step("order.prepared", now, cause, prepay_id=prepay_id, prepaid_at=now)

    def lapsed(self, now: datetime, cause: str) -> "Order":
        """WeChat does not know the order after its time has run out. Raises OrderStillOpen before that."""
        if self.status is not Status.PENDING:
            return self
        if now < self.expires_at:
            raise OrderStillOpen(
                f"{self.out_trade_no} can be paid until {self.expires_at:%Y-%m-%d %H:%M:%S} UTC"
            )
        return self.refused("WeChat does not know the order", now, cause)

    def check_payable(self, now: datetime) -> None:
        """Raise OrderPaid or OrderEnded unless the payer may still be asked to pay."""
        if self.is_paid:
            raise OrderPaid(f"{self.out_trade_no} is {self.status}")
        if self.status is not Status.PENDING or now >= self.expires_at:
            raise OrderEnded(f"{self.out_trade_no} is {self.status} and can't be paid any more")

    # -- WeChat's word ---------------------------------------------------------------------

    def apply(self, trade: Trade, now: datetime, cause: str) -> "Order":
        """Take in WeChat's word on the payment: the one door for every road it comes by.

        Raises PayeeMismatch, FeeMismatch or TradeConflict when a verified word
        contradicts what we hold (R28): no status changes then.
        """
        self._check_payee(trade.appid, trade.mch_id)
        status = MEANING[trade.trade_state]
        paid: dict[str, Any] = {}
        name = f"order.{status.lower()}"
        if status is Status.PAID:
            self._check_payment(trade)
            late = self.status in LATE
            paid = {"transaction_id": trade.transaction_id, "paid_at": trade.time_end or now, "late": late}
            name = "order.paid_late" if late else name
        if status not in TRANSITIONS[self.status]:
            return self
        return self._step(name, now, cause, evidence=trade.evidence, status=status, **paid)

    # -- refunds ---------------------------------------------------------------------------

    def request_refund(self, refund: Refund, now: datetime, cause: str) -> "Order":
        """Promise a refund: reserve part of the balance under its number.

        The same number and amount again is the same refund and returns self.
        Raises RefundNumberReused, RefundNotAllowed, RefundTooLate (R37),
        TooManyRefunds (R36) or RefundExceedsPayment (R35).
        """
        known = self.refund(refund.out_refund_no)
        if known is not None:
            if known.refund_fee != refund.refund_fee:
                raise RefundNumberReused(f"{refund.out_refund_no} is already for {known.refund_fee} fen")
            return self
        if self.status is not Status.PAID:
            raise RefundNotAllowed(f"{self.out_trade_no} is {self.status}")
        if self.paid_at is not None and now > self.paid_at + REFUND_WINDOW:
            raise RefundTooLate(f"{self.out_trade_no} was paid over {REFUND_WINDOW.days} days ago")
        if len(self.refunds) >= REFUNDS_MAX:
            raise TooManyRefunds(f"{self.out_trade_no} has had {REFUNDS_MAX} refunds")
        if refund.refund_fee > self.refundable_fee:
            raise RefundExceedsPayment(f"{self.refundable_fee} fen left, {refund.refund_fee} asked")
        refunds = (*self.refunds, refund)
        return self._step("refund.processing", now, cause, told=refund.out_refund_no, refunds=refunds)

    def apply_refund(self, report: RefundReport, now: datetime, cause: str) -> "Order":
        """Take in WeChat's word on a refund; the last fen returned makes the order REFUNDED.

        A refund made by staff in WeChat's own platform is taken in under its
        number; while another one still holds the money it needs, it is refused
        and taken in when WeChat says it again. Raises RefundNotFound when WeChat
        names no amount for one we don't know, RefundNotAllowed when the order is
        not paid here yet, RefundConflict, FeeMismatch or PayeeMismatch when the
        word contradicts what we hold.
        """
        self._check_payee("", report.mch_id)
        if report.total_fee not in (None, self.total_fee):
            raise FeeMismatch(f"{self.out_trade_no}: ours {self.total_fee}, WeChat's {report.total_fee} fen")
        old = self.refund(report.out_refund_no)
        new = self._adopted(report, now).told(report, now) if old is None else old.told(report, now)
        if old is not None and new.holds_money and not old.holds_money:
            self._check_left(new.refund_fee)
        return self._settle(old, new, now, cause, report.evidence)

    def refund_refused(self, out_refund_no: str, reason: str, now: datetime, cause: str) -> "Order":
        """WeChat definitely refused the refund: its amount may be refunded again, under a new number."""
        old = self.refund(out_refund_no)
        if old is None:
            raise RefundNotFound(out_refund_no)
        if old.refund_status is not RefundStatus.PROCESSING:
            return self
        new = evolve(old, refund_status=RefundStatus.CLOSED, failure=reason)
        return self._settle(old, new, now, cause, reason)

    def refund(self, out_refund_no: str) -> Refund | None:
        """The refund of that number, if the order has it."""
        return next((r for r in self.refunds if r.out_refund_no == out_refund_no), None)

    # -- what follows ----------------------------------------------------------------------

    @property
    def is_paid(self) -> bool:
        """Whether the payer's money arrived, refunded or not."""
        return self.status in (Status.PAID, Status.REFUNDED)

    @property
    def is_unanswered(self) -> bool:
        """Whether nobody knows yet if WeChat took the order."""
        return self.status is Status.PENDING and not self.prepay_id

    @property
    def refundable_fee(self) -> int:
        """Fen that may still be refunded: what is neither returned nor on its way (R35)."""
        return self.total_fee - sum(r.refund_fee for r in self.refunds if r.holds_money)

    @property
    def refunded_fee(self) -> int:
        """Fen that have reached the payer again."""
        return sum(r.refund_fee for r in self.refunds if r.refund_status is RefundStatus.SUCCESS)

    def prepay_is_fresh(self, now: datetime) -> bool:
        """Whether the prepay_id we hold can still start a payment (R12)."""
        return bool(self.prepay_id) and self.prepaid_at is not None and now < self.prepaid_at + PREPAY_TTL

    # -- inside ----------------------------------------------------------------------------

    def _check_payee(self, appid: str, mch_id: str) -> None:
        if appid not in ("", self.placement.appid):
            raise PayeeMismatch(
                f"{self.out_trade_no}: ours is appid {self.placement.appid}, WeChat's {appid}"
            )
        if mch_id not in ("", self.placement.mch_id):
            raise PayeeMismatch(
                f"{self.out_trade_no}: ours is mch_id {self.placement.mch_id}, WeChat's {mch_id}"
            )

    def _check_payment(self, trade: Trade) -> None:
        if trade.total_fee != self.total_fee or trade.currency != "CNY":
            raise FeeMismatch(
                f"{self.out_trade_no}: ours {self.total_fee} fen, WeChat's {trade.total_fee} {trade.currency}"
            )
        if not trade.transaction_id or self.transaction_id not in ("", trade.transaction_id):
            raise TradeConflict(
                f"{self.out_trade_no}: paid as {self.transaction_id!r}, now {trade.transaction_id!r}"
            )

    def _check_left(self, refund_fee: int) -> None:
        if refund_fee > self.refundable_fee:
            raise RefundConflict(
                f"{self.out_trade_no}: {self.refundable_fee} fen left, WeChat refunded {refund_fee}"
            )

    def _adopted(self, report: RefundReport, now: datetime) -> Refund:
        if report.refund_fee is None:
            raise RefundNotFound(report.out_refund_no)
        if not self.is_paid:
            raise RefundNotAllowed(f"{self.out_trade_no} is {self.status} here: its payment comes first")
        if report.refund_status is not RefundStatus.CLOSED:
            self._check_left(report.refund_fee)
        return Refund(
            out_refund_no=report.out_refund_no, refund_fee=report.refund_fee, created_at=now, foreign=True
        )

    def _settle(self, old: Refund | None, new: Refund, now: datetime, cause: str, evidence: str) -> "Order":
        """Put `new` in `old`'s place; one step for the refund, one more if the whole fee is back."""
        if new is old:
            return self
        refunds = (*self.refunds, new) if old is None else tuple(new if r is old else r for r in self.refunds)
        moved = old is None or new.refund_status is not old.refund_status
        name = f"refund.{new.refund_status.lower()}" if moved else "refund.accepted"
        order = self._step(name, now, cause, told=new.out_refund_no, evidence=evidence, refunds=refunds)
        if order.status is Status.PAID and order.refunded_fee == order.total_fee:
            return order._step("order.refunded", now, cause, status=Status.REFUNDED)
        return order

    def _step(
        self, name: str, now: datetime, cause: str, *, told: str = "", evidence: str = "", **changes: Any
    ) -> "Order":
        """The next version of this order, with the one event that tells of it; `told` names its refund."""
        order = evolve(self, version=self.version + 1, **changes)
        event = Event(
            name=name,
            out_trade_no=order.out_trade_no,
            version=order.version,
            at=now,
            cause=cause,
            facts=order._facts(told),
            status_before=self.status.value if self.version else None,
            evidence=evidence,
        )
        return evolve(order, events=(*self.events, event))

    def _facts(self, out_refund_no: str) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "out_trade_no": self.out_trade_no,
            "transaction_id": self.transaction_id or None,
            "openid": self.openid,
            "status": self.status.value,
            "total_fee": self.total_fee,
            "refunded_fee": self.refunded_fee,
            "body": self.body,
            "attach": self.attach,
        }
        if self.failure:
            facts["failure"] = self.failure
        refund = self.refund(out_refund_no)
        if refund is not None:
            facts |= {
                "out_refund_no": refund.out_refund_no,
                "refund_id": refund.refund_id or None,
                "refund_fee": refund.refund_fee,
                "refund_status": refund.refund_status.value,
            }
        return facts
