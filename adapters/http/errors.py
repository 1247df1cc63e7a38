"""The HTTP status and the payer's sentence of each refusal. The domain does not know that HTTP exists."""

import math
from collections.abc import Mapping

from msgspec import UNSET

from adapters.http.shapes import ErrorAnswer, ErrorView, WechatView
from application.access import Forbidden, QuoteExpired, QuoteMismatch, Unauthenticated
from application.answers import KeyReused, KeyTaken
from application.errors import Busy, StoreUnavailable, WechatRefused, WechatSilent
from application.login import (
    LoginBlocked,
    LoginCodeInvalid,
    LoginCodeUsed,
    LoginNoAnswer,
    LoginNotSetUp,
    LoginRefused,
    LoginTooOften,
)
from domain.errors import (
    Discrepancy,
    InvalidFee,
    InvalidOrder,
    NotNow,
    PaymentError,
    StaleOrder,
    Unknown,
)


class BadRequest(InvalidOrder):
    """The request is not shaped as the call wants it; `field` says where, if it is one field."""

    code = "BAD_REQUEST"


class BadJson(BadRequest):
    code = "BAD_JSON"


class InvalidCursor(BadRequest):
    code = "CURSOR_INVALID"
    field = "cursor"


class UnsupportedMediaType(PaymentError):
    code = "UNSUPPORTED_MEDIA_TYPE"


class BodyTooLarge(PaymentError):
    code = "BODY_TOO_LARGE"


class MethodNotAllowed(PaymentError):
    code = "METHOD_NOT_ALLOWED"


class RequestTimeout(PaymentError):
    """The request took too long to arrive."""

    code = "REQUEST_TIMEOUT"


class UrlTooLong(PaymentError):
    code = "URL_TOO_LONG"


class HeadersTooLarge(PaymentError):
    code = "HEADERS_TOO_LARGE"


class TooManyRequests(PaymentError):
    """This caller asks too often; `seconds` until it may again."""

    code = "TOO_MANY_REQUESTS"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds:.1f} s")
        self.seconds = seconds


class TooManyConnections(PaymentError):
    code = "TOO_MANY_CONNECTIONS"


class NotReady(PaymentError):
    """`failed` names the checks that did."""

    code = "NOT_READY"

    def __init__(self, *failed: str) -> None:
        super().__init__(", ".join(failed))
        self.failed = failed


class InternalError(PaymentError):
    """A fault of ours: the log tells which, the caller only hears the request_id."""

    code = "INTERNAL_ERROR"


STATUS: Mapping[type[PaymentError], int] = {
    InvalidOrder: 400,
    LoginCodeInvalid: 400,
    LoginCodeUsed: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    LoginBlocked: 403,
    QuoteExpired: 403,
    QuoteMismatch: 403,
    Unknown: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    Discrepancy: 409,
    KeyTaken: 409,
    NotNow: 409,
    StaleOrder: 409,
    BodyTooLarge: 413,
    UrlTooLong: 414,
    UnsupportedMediaType: 415,
    KeyReused: 422,
    LoginTooOften: 429,
    TooManyRequests: 429,
    HeadersTooLarge: 431,
    InternalError: 500,
    LoginRefused: 502,
    WechatRefused: 502,
    Busy: 503,
    LoginNotSetUp: 503,
    NotReady: 503,
    StoreUnavailable: 503,
    TooManyConnections: 503,
    LoginNoAnswer: 504,
    WechatSilent: 504,
}

RETRY_AFTER: Mapping[str, str] = {  # seconds
    "BUSY": "1",
    "LOGIN_NOT_SET_UP": "60",
    "LOGIN_TOO_OFTEN": "60",
    "NOT_READY": "5",
    "STORE_UNAVAILABLE": "5",
    "TOO_MANY_CONNECTIONS": "5",
}

MESSAGE: Mapping[str, str] = {
    "INVALID_ORDER": "订单信息不正确，请检查后重试。",
    "FEE_INVALID": "支付金额须为整数，单位为分。",
    "FEE_OUT_OF_RANGE": "支付金额须在0.01元到10000元之间。",
    "BODY_INVALID": "商品描述不能为空，且不能超过127个字节。",
    "ATTACH_INVALID": "附加数据不能超过127个字节，且不能包含特殊字符。",
    "OPENID_INVALID": "用户标识不正确，请重新登录后再试。",
    "EXPIRY_INVALID": "支付有效时间须在2分钟到7天之间。",
    "REFUND_NO_INVALID": "退款单号格式不正确。",
    "REASON_INVALID": "退款原因不能超过80个字节，且不能包含特殊字符。",
    "UNAUTHENTICATED": "请先登录。",
    "TOKEN_EXPIRED": "登录已过期，请重新登录。",
    "FORBIDDEN": "您没有权限进行该操作。",
    "OPENID_MISMATCH": "用户标识与登录用户不一致，请重新登录后再试。",
    "KEY_NOT_FOUND": "访问密钥不存在。",
    "QUOTE_REQUIRED": "缺少商家报价，请返回商家页面重新下单。",
    "QUOTE_INVALID": "商家报价无效，请重新下单。",
    "QUOTE_EXPIRED": "商家报价已过期，请重新下单。",
    "QUOTE_MISMATCH": "订单内容与商家报价不一致，请重新下单。",
    "QUOTE_USED": "该报价已下过单，请重新下单。",
    "LOGIN_REFUSED": "微信登录失败，请稍后再试。",
    "LOGIN_CODE_INVALID": "登录凭证无效或已过期，请重新登录。",
    "LOGIN_CODE_USED": "登录凭证已被使用，请重新登录。",
    "LOGIN_BLOCKED": "您的微信账号存在安全风险，暂时无法登录。",
    "LOGIN_TOO_OFTEN": "登录过于频繁，请一分钟后再试。",
    "LOGIN_NOT_SET_UP": "商家尚未完成登录设置，请联系商家。",
    "LOGIN_NO_ANSWER": "微信登录暂未响应，请稍后再试。",
    "BAD_REQUEST": "请求参数不正确，请检查后重试。",
    "BAD_JSON": "请求内容不是有效的JSON。",
    "CURSOR_INVALID": "翻页参数无效，请从第一页重新查看。",
    "NOT_FOUND": "您访问的内容不存在。",
    "ORDER_NOT_FOUND": "订单不存在。",
    "FAILURE_NOT_FOUND": "故障记录不存在。",
    "REFUND_NOT_FOUND": "退款记录不存在。",
    "METHOD_NOT_ALLOWED": "不支持该请求方式。",
    "REQUEST_TIMEOUT": "请求发送超时，请检查网络后重试。",
    "URL_TOO_LONG": "请求地址过长。",
    "HEADERS_TOO_LARGE": "请求头过大。",
    "TOO_MANY_REQUESTS": "请求过于频繁，请稍后再试。",
    "TOO_MANY_CONNECTIONS": "当前访问人数较多，请稍后再试。",
    "DISCREPANCY": "订单信息与微信支付不一致，请联系商家核实。",
    "FEE_MISMATCH": "订单金额与微信支付不一致，请联系商家核实。",
    "PAYEE_MISMATCH": "收款方与微信支付不一致，请联系商家核实。",
    "TRADE_CONFLICT": "订单的支付记录与微信支付不一致，请联系商家核实。",
    "REFUND_CONFLICT": "退款记录与微信支付不一致，请联系商家核实。",
    "STATE_CONFLICT": "订单当前状态不支持该操作。",
    "ORDER_PAID": "订单已支付。",
    "ORDER_ENDED": "订单已结束，无法继续支付，请重新下单。",
    "ORDER_STILL_OPEN": "订单仍可支付，请稍后再试。",
    "REFUND_NOT_ALLOWED": "订单当前状态不支持退款。",
    "REFUND_EXCEEDS_PAYMENT": "退款金额不能超过可退金额。",
    "TOO_MANY_REFUNDS": "该订单的退款次数已达上限。",
    "REFUND_TOO_LATE": "订单支付已超过一年，无法退款。",
    "REFUND_NUMBER_REUSED": "退款单号已被使用。",
    "STALE_ORDER": "订单刚刚有变化，请刷新后重试。",
    "IDEMPOTENCY_KEY_IN_USE": "请求正在处理中，请稍后再试。",
    "IDEMPOTENCY_KEY_REUSED": "请求编号已被另一笔请求使用，请重新下单。",
    "BODY_TOO_LARGE": "请求内容过大。",
    "UNSUPPORTED_MEDIA_TYPE": "请求内容须为JSON格式。",
    "INTERNAL_ERROR": "系统繁忙，请稍后再试。",
    "WECHAT_REFUSED": "微信支付未受理本次请求，请稍后再试或联系商家。",
    "WECHAT_NO_ANSWER": "微信支付暂未响应，请稍后查询支付结果。",
    "BUSY": "操作过于频繁，请稍后再试。",
    "NOT_READY": "服务暂不可用，请稍后再试。",
    "STORE_UNAVAILABLE": "服务暂不可用，请稍后再试。",
}

# What a field of another JSON type is called where it has a name of its own.
MISSHAPEN: Mapping[str, type[InvalidOrder]] = {"total_fee": InvalidFee, "refund_fee": InvalidFee}


def is_listed(refusal: PaymentError) -> bool:
    """Whether the tables know what to tell; one they don't know is a fault of ours."""
    return refusal.code in MESSAGE and any(kind in STATUS for kind in type(refusal).__mro__)


def status_of(refusal: type[PaymentError]) -> int:
    """The status of the nearest kind in the table."""
    return next(STATUS[kind] for kind in refusal.__mro__ if kind in STATUS)


def retry_after(refusal: PaymentError) -> str:
    """The whole seconds after which to come again; '' when it makes no difference."""
    if isinstance(refusal, TooManyRequests):
        return str(max(1, math.ceil(refusal.seconds)))
    return RETRY_AFTER.get(refusal.code, "")


def explained(refusal: PaymentError, request_id: str) -> ErrorAnswer:
    """What the caller is told: the code, a sentence for the payer, and nothing of our insides."""
    return ErrorAnswer(
        error=ErrorView(
            code=refusal.code,
            message=MESSAGE[refusal.code],
            request_id=request_id,
            field=(refusal.field or UNSET) if isinstance(refusal, InvalidOrder) else UNSET,
            wechat=_wechat(refusal) if isinstance(refusal, WechatRefused) else UNSET,
            failed=refusal.failed if isinstance(refusal, NotReady) else UNSET,
        )
    )


def _wechat(refusal: WechatRefused) -> WechatView:
    answer = refusal.answer
    return WechatView(err_code=answer.err_code, err_code_des=answer.description, request_id=answer.request_id)
