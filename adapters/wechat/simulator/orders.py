"""What WeChat holds about an order or a refund, and the rules a new order has to meet."""

import re
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from attrs import field, frozen

from adapters.wechat.simulator.codes import Refusal
from domain.trade import RefundStatus, TradeState

LIFE_OF_ORDER = timedelta(days=7)
LIFE_OF_PREPAY = timedelta(hours=2)  # whatever time_expire says (R12)
EXPIRY_MIN = timedelta(minutes=1)
EXPIRY_MAX = timedelta(days=90)
TEXT_BYTES_MAX = 127  # body and attach; the gateway counts bytes (v2.md section 5)
NOTIFY_URL_MAX = 256
OUT_TRADE_NO = re.compile(r"[0-9A-Za-z_\-|*]{6,32}")
OUT_REFUND_NO = re.compile(r"[0-9A-Za-z_\-|*@]{1,64}")
OPENID = re.compile(r"[0-9A-Za-z_-]{1,128}")
FOREIGN_OPENID = "other-appid-"  # a payer of somebody else's mini-program


class Form(StrEnum):
    """The version an order or refund was made with; its notifications speak it too."""

    V2 = "v2"
    V3 = "v3"


@frozen(kw_only=True)
class OrderRequest:
    """What a merchant asks for, whichever version it was asked in. Amounts in fen.

    `fingerprint` is everything that has to be identical when the number is used again (R11).
    """

    appid: str
    mch_id: str
    out_trade_no: str
    total_fee: int
    body: str
    openid: str
    notify_url: str
    attach: str = ""
    expires_at: datetime | None = None
    form: Form
    sign_type: str = "MD5"  # V2 only: answers, notifications and pay_params use the request's
    fingerprint: str


@frozen(kw_only=True)
class PlatformOrder:
    """An order in WeChat's book."""

    request: OrderRequest
    created_at: datetime
    expires_at: datetime
    trade_state: TradeState = TradeState.NOTPAY
    prepays: tuple[tuple[str, datetime], ...] = ()  # each prepay_id, and until when it can be paid with
    failed_attempts: int = 0
    transaction_id: str = ""
    paid_at: datetime | None = None
    bank_type: str = ""

    @property
    def out_trade_no(self) -> str:
        return self.request.out_trade_no

    @property
    def total_fee(self) -> int:
        return self.request.total_fee

    @property
    def is_paid(self) -> bool:
        return self.trade_state in {TradeState.SUCCESS, TradeState.REFUND}

    @property
    def is_payable(self) -> bool:
        return self.trade_state in {TradeState.NOTPAY, TradeState.PAYERROR}


@frozen(kw_only=True)
class RefundRequest:
    """What a merchant wants back to its payer. Amounts in fen; one of the two numbers names the order."""

    out_refund_no: str
    refund_fee: int
    total_fee: int
    transaction_id: str = ""
    out_trade_no: str = ""
    reason: str = ""
    notify_url: str = ""
    form: Form


@frozen(kw_only=True)
class PlatformRefund:
    """A refund in WeChat's book; `outcome` is what becomes of it at `due_at`, None when decided."""

    request: RefundRequest
    order: PlatformOrder = field(repr=False)  # as it stood when the refund was taken
    refund_id: str
    created_at: datetime
    due_at: datetime
    outcome: RefundStatus | None
    status: RefundStatus = RefundStatus.PROCESSING
    success_at: datetime | None = None
    received_account: str

    @property
    def out_refund_no(self) -> str:
        return self.request.out_refund_no

    @property
    def out_trade_no(self) -> str:
        return self.order.out_trade_no

    @property
    def refund_fee(self) -> int:
        return self.request.refund_fee

    @property
    def holds_money(self) -> bool:
        return self.status is not RefundStatus.CLOSED


def check_order(request: OrderRequest, now: datetime) -> None:
    """WeChat's own limits (v2.md section 5, v3.md section 6); raise Refusal naming the field."""
    if not OUT_TRADE_NO.fullmatch(request.out_trade_no):
        raise Refusal("PARAM_ERROR", "商户订单号不符合规则", field="out_trade_no")
    if request.total_fee < 1:
        raise Refusal("PARAM_ERROR", "金额必须大于0", field="total_fee")
    if not 1 <= len(request.body.encode()) <= TEXT_BYTES_MAX:
        raise Refusal("PARAM_ERROR", "商品描述必须为1到127字节", field="body")
    if len(request.attach.encode()) > TEXT_BYTES_MAX:
        raise Refusal("PARAM_ERROR", "附加数据超过127字节", field="attach")
    if not OPENID.fullmatch(request.openid):
        raise Refusal("PARAM_ERROR", "无效的openid", field="openid")
    if request.openid.startswith(FOREIGN_OPENID):
        raise Refusal("OPENID_MISMATCH", field="openid")
    check_notify_url(request.notify_url)
    if request.expires_at is not None:
        ahead = request.expires_at - now
        if not EXPIRY_MIN < ahead <= EXPIRY_MAX:
            raise Refusal("PARAM_ERROR", "time_expire时间过短或过长", field="time_expire")


def check_notify_url(url: str) -> None:
    """http or https with a host and no query (R21). WeChat wants https and a public host; we don't."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    good = parts.scheme in {"http", "https"} and host and not parts.query and not parts.fragment
    if not good or len(url) > NOTIFY_URL_MAX or any(letter.isspace() for letter in url):
        raise Refusal("PARAM_ERROR", "无效的notify_url", field="notify_url")
