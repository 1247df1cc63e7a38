"""What goes over the wire: the one definition by which requests are checked and answers are written.

Amounts in fen. What a value must be beyond its JSON type, the domain says; the
limits noted here describe its rules and do not repeat the check.
"""

from typing import Annotated, Any, Generic, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from application.payments import EXPIRE_MINUTES_MAX, EXPIRE_MINUTES_MIN, PAGE_MAX
from domain.fee import FEE_MAX, FEE_MIN
from domain.order import ATTACH_BYTES_MAX, BODY_BYTES_MAX, OPENID, OUT_TRADE_NO, Status
from domain.trade import TradeState

Data = TypeVar("Data")

PAGE_DEFAULT = 20


def described(description: str, **schema: Any) -> Meta:
    """For the API's document only: these limits are the domain's to enforce."""
    return Meta(description=description, extra_json_schema=schema)


def ecma(python: str) -> str:
    """The same rule as JSON Schema writes it, whose `$` is the true end of the text."""
    return "^" + python.removesuffix(r"\Z") + "$"


OutTradeNo = Annotated[str, described("商户订单号", pattern=ecma(OUT_TRADE_NO.pattern))]
Openid = Annotated[str, described("付款人在小程序下的openid", pattern=ecma(OPENID.pattern))]
TotalFee = Annotated[int, described("金额，单位：分", minimum=FEE_MIN, maximum=FEE_MAX)]
TimeEnd = Annotated[str | None, described("支付完成时间，yyyyMMddHHmmss，UTC+8；未支付时为null")]


# -- requests ------------------------------------------------------------------------------------


class CreateOrder(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An order to be paid. An optional field given as null is one left out."""

    openid: Openid
    total_fee: TotalFee
    body: Annotated[str, described("商品描述，按UTF-8不超过127字节", minLength=1, maxLength=BODY_BYTES_MAX)]
    attach: Annotated[str | None, described("附加数据，按UTF-8不超过127字节", maxLength=ATTACH_BYTES_MAX)] = (
        None
    )
    expire_minutes: Annotated[
        int | None,
        described("多少分钟内可以支付", minimum=EXPIRE_MINUTES_MIN, maximum=EXPIRE_MINUTES_MAX),
    ] = None
    quote: Annotated[str | None, described("商家后台签名的报价（JWT，HS256）；付款人下单时必填")] = None


class Login(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A payer who logs in."""

    code: Annotated[str, described("wx.login得到的code", minLength=1, maxLength=128)]


# Parameters: those the path names come from the path, the others from the query.


class OneOrder(Struct, frozen=True, kw_only=True):
    """Which order."""

    out_trade_no: OutTradeNo


class OrdersOf(Struct, frozen=True, kw_only=True):
    """Which of a payer's orders, newest first."""

    openid: Openid
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX, description="每页条数")] = PAGE_DEFAULT
    cursor: Annotated[str | UnsetType, Meta(description="上一页的next_cursor")] = UNSET
    status: Annotated[Status | UnsetType, Meta(description="只列出该状态的订单")] = UNSET


# -- answers -------------------------------------------------------------------------------------


class Success(Struct, Generic[Data], frozen=True, kw_only=True):
    """The envelope of every answer but a refusal."""

    success: Annotated[bool, described("是否成功", const=True)] = True
    data: Data


class PayParams(Struct, frozen=True, kw_only=True, rename="camel"):
    """The parameters of wx.requestPayment, as they are."""

    app_id: str
    time_stamp: str
    nonce_str: str
    package: str
    sign_type: str
    pay_sign: str


class LoginView(Struct, frozen=True, kw_only=True):
    """Who the payer is, and the token that says so."""

    openid: Openid
    token: Annotated[str, described("登录凭证，放在请求头 Authorization: Bearer 之后")]
    expires_in: Annotated[int, described("凭证有效期，单位：秒", minimum=1)]


class CreatedView(Struct, frozen=True, kw_only=True):
    """A payable order."""

    out_trade_no: OutTradeNo
    pay_params: PayParams


class TradeView(Struct, frozen=True, kw_only=True):
    """Where the payment stands, as WeChat V2 prints it: total_fee is a string."""

    out_trade_no: OutTradeNo
    transaction_id: Annotated[str | None, described("微信支付订单号；未支付时为null")]
    trade_state: TradeState
    total_fee: Annotated[str, described("金额，单位：分", pattern="^[0-9]+$")]
    time_end: TimeEnd


class OrderView(Struct, frozen=True, kw_only=True):
    """One line of a payer's list."""

    out_trade_no: OutTradeNo
    total_fee: TotalFee
    body: str
    status: Status
    create_time: Annotated[str, described("下单时间，yyyy-MM-ddTHH:mm:ss，UTC+8")]
    time_end: TimeEnd


class OrdersAnswer(Success[list[OrderView]], frozen=True, kw_only=True):
    """A page of a payer's list."""

    next_cursor: Annotated[str | None, described("下一页的cursor；最后一页为null")]


class StatsView(Struct, frozen=True, kw_only=True):
    """How many orders there are, and how many of each status."""

    total: int
    pending: int
    paid: int
    cancelled: int
    failed: int
    refunded: int


class HealthAnswer(Struct, frozen=True, kw_only=True):
    """Alive, or ready."""

    status: Annotated[str, described("状态", const="ok")] = "ok"


class WechatView(Struct, frozen=True, kw_only=True):
    """WeChat's own words when it refused."""

    err_code: str
    err_code_des: str
    request_id: str


class ErrorView(Struct, frozen=True, kw_only=True):
    """A refusal: `code` for programs, `message` for the payer, `request_id` for whoever reads the log."""

    code: str
    message: str
    request_id: str
    field: Annotated[str | UnsetType, described("有问题的字段")] = UNSET
    wechat: WechatView | UnsetType = UNSET
    failed: Annotated[tuple[str, ...] | UnsetType, described("未通过的检查")] = UNSET


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """The envelope of every refusal."""

    success: Annotated[bool, described("是否成功", const=False)] = False
    error: ErrorView
