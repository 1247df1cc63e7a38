"""A refund: part of a payment on its way back to the payer."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from attrs import evolve, field, frozen

from domain.errors import InvalidReason, InvalidRefundNo, RefundConflict
from domain.fee import valid_fee
from domain.text import plain
from domain.trade import RefundReport, RefundStatus

REFUNDS_MAX = 50  # an order, R36
REFUND_WINDOW = timedelta(days=365)  # after the payment, R37
REASON_BYTES_MAX = 80  # v2.md section 9, v3.md section 8

# A refund only climbs. ABNORMAL waits for the operator (R39), so only CLOSED
# gives the money back to the order's balance.
REFUND_TRANSITIONS: Mapping[RefundStatus, frozenset[RefundStatus]] = {
    RefundStatus.PROCESSING: frozenset({RefundStatus.ABNORMAL, RefundStatus.CLOSED, RefundStatus.SUCCESS}),
    RefundStatus.ABNORMAL: frozenset({RefundStatus.CLOSED, RefundStatus.SUCCESS}),
    RefundStatus.CLOSED: frozenset(),
    RefundStatus.SUCCESS: frozenset(),
}
SETTLED = frozenset(status for status, further in REFUND_TRANSITIONS.items() if not further)

OUT_REFUND_NO = re.compile(r"[0-9A-Za-z_\-|*@]{1,64}\Z")


def valid_out_refund_no(_owner: object, _attribute: object, value: str) -> None:
    """1 to 64 of the characters WeChat takes (v2.md section 4); raises InvalidRefundNo."""
    if not OUT_REFUND_NO.match(value):
        raise InvalidRefundNo("out_refund_no must be 1 to 64 of 0-9 A-Z a-z _ - | * @")


def valid_reason(_owner: object, _attribute: object, value: str) -> None:
    """At most 80 bytes of text without control characters; raises InvalidReason."""
    if not plain(value) or len(value.encode()) > REASON_BYTES_MAX:
        raise InvalidReason(f"reason must be at most {REASON_BYTES_MAX} bytes of plain text")


@frozen(kw_only=True)
class Refund:
    """One refund of one order, known everywhere by its out_refund_no (R34). Amounts in fen."""

    out_refund_no: str = field(validator=valid_out_refund_no)
    refund_fee: int = field(validator=valid_fee)
    reason: str = field(default="", validator=valid_reason)
    refund_status: RefundStatus = RefundStatus.PROCESSING
    refund_id: str = ""
    created_at: datetime
    success_at: datetime | None = None
    failure: str = ""  # WeChat's code and words when it refused or closed it
    foreign: bool = False  # made by staff in WeChat's merchant platform, not here

    @property
    def is_settled(self) -> bool:
        """Whether WeChat's word on it is final."""
        return self.refund_status in SETTLED

    @property
    def is_given_up(self) -> bool:
        """Whether it is CLOSED by our belief: the call was refused, and WeChat knew of no such refund."""
        return self.refund_status is RefundStatus.CLOSED and bool(self.failure)

    @property
    def holds_money(self) -> bool:
        """Whether its amount is taken from what may still be refunded: all but CLOSED."""
        return self.refund_status is not RefundStatus.CLOSED

    def told(self, report: RefundReport, now: datetime) -> "Refund":
        """Take in WeChat's word; nothing new returns self.

        A refund that is CLOSED here only because its call was refused is open again
        when WeChat speaks of it after all: another call under its number was taken.
        Raises RefundConflict when it names another amount, another refund_id,
        or another end than the one already known.
        """
        if report.refund_fee not in (None, self.refund_fee):
            raise RefundConflict(
                f"{self.out_refund_no}: ours {self.refund_fee}, WeChat's {report.refund_fee} fen"
            )
        if report.refund_id and self.refund_id not in ("", report.refund_id):
            raise RefundConflict(f"{self.out_refund_no}: known as {self.refund_id}, now {report.refund_id}")
        if self.is_given_up and report.refund_status is not RefundStatus.CLOSED:
            return evolve(self, refund_status=RefundStatus.PROCESSING, failure="").told(report, now)
        if self.is_settled and report.refund_status in SETTLED - {self.refund_status}:
            raise RefundConflict(
                f"{self.out_refund_no}: was {self.refund_status}, now {report.refund_status}"
            )
        refund_id = self.refund_id or report.refund_id
        if report.refund_status not in REFUND_TRANSITIONS[self.refund_status]:
            return self if refund_id == self.refund_id else evolve(self, refund_id=refund_id)
        done = report.refund_status is RefundStatus.SUCCESS
        return evolve(
            self,
            refund_status=report.refund_status,
            refund_id=refund_id,
            success_at=(report.success_at or now) if done else None,
        )
