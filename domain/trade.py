"""What WeChat says, whichever road it came by: notification, query, close answer or bill."""

from datetime import datetime, timedelta, timezone
from enum import StrEnum

from attrs import field, frozen

BEIJING = timezone(timedelta(hours=8))  # WeChat's clock and calendar


class TradeState(StrEnum):
    """WeChat's word on an order (v2.md section 7, v3.md section 7)."""

    SUCCESS = "SUCCESS"
    REFUND = "REFUND"
    NOTPAY = "NOTPAY"
    USERPAYING = "USERPAYING"
    ACCEPT = "ACCEPT"
    CLOSED = "CLOSED"
    REVOKED = "REVOKED"
    PAYERROR = "PAYERROR"


class RefundStatus(StrEnum):
    """WeChat's word on a refund (v3.md section 8); V2's CHANGE and REFUNDCLOSE are translated to these."""

    PROCESSING = "PROCESSING"
    ABNORMAL = "ABNORMAL"
    CLOSED = "CLOSED"
    SUCCESS = "SUCCESS"


@frozen(kw_only=True)
class Trade:
    """WeChat's verified word on one order. Amounts in fen; they and transaction_id are known once it is paid.

    `appid`, `mch_id` and `currency` are compared with the order's when WeChat names them (R28).
    """

    out_trade_no: str
    trade_state: TradeState
    total_fee: int | None = None
    transaction_id: str = ""
    time_end: datetime | None = None
    openid: str = ""
    appid: str = ""
    mch_id: str = ""
    currency: str = "CNY"
    evidence: str = field(default="", eq=False, repr=False)  # the message as it came, masked, for the history


@frozen(kw_only=True)
class RefundReport:
    """WeChat's verified word on one refund. Amounts in fen."""

    out_trade_no: str
    out_refund_no: str
    refund_status: RefundStatus
    refund_id: str = ""
    refund_fee: int | None = None
    total_fee: int | None = None
    success_at: datetime | None = None
    mch_id: str = ""
    evidence: str = field(default="", eq=False, repr=False)
