"""WeChat's error codes: how each is spelt in V2 and V3, with its status and number.

Texts are for people; clients branch on the code (v2.md sections 5 to 10, v3.md section 10).
"""

from collections.abc import Mapping

from attrs import frozen


@frozen
class Code:
    """One reason to refuse, in both spellings; `number` ends the Request-ID of a V3 answer."""

    v2: str
    v3: str
    status: int
    text: str
    number: int = 268435461


CODES: Mapping[str, Code] = {
    # what is wrong with the call
    "PARAM_ERROR": Code("PARAM_ERROR", "PARAM_ERROR", 400, "参数错误"),
    "LACK_PARAMS": Code("LACK_PARAMS", "PARAM_ERROR", 400, "缺少必填参数"),
    "UNKNOWN_FIELD": Code("PARAM_ERROR", "PARAM_ERROR", 400, "请求中含有未在API文档中定义的参数", 270924358),
    "INVALID_REQUEST": Code("INVALID_REQUEST", "INVALID_REQUEST", 400, "请求不符合业务规则"),
    "SIGN_ERROR": Code("SIGNERROR", "SIGN_ERROR", 401, "错误的签名，验签失败", 268443699),
    "CERT_ERROR": Code("CERT_ERROR", "SIGN_ERROR", 401, "商户证书校验失败"),
    "XML_FORMAT_ERROR": Code("XML_FORMAT_ERROR", "PARAM_ERROR", 400, "XML格式错误"),
    "NOT_UTF8": Code("NOT_UTF8", "PARAM_ERROR", 400, "编码格式错误"),
    "POST_DATA_EMPTY": Code("POST_DATA_EMPTY", "PARAM_ERROR", 400, "post数据为空"),
    "REQUIRE_POST_METHOD": Code("REQUIRE_POST_METHOD", "PARAM_ERROR", 400, "请使用post方法"),
    # who calls
    "APPID_NOT_EXIST": Code("APPID_NOT_EXIST", "PARAM_ERROR", 400, "APPID不存在"),
    "MCH_NOT_EXISTS": Code("MCHID_NOT_EXIST", "MCH_NOT_EXISTS", 400, "商户号不存在"),
    "APPID_MCHID_NOT_MATCH": Code(
        "APPID_MCHID_NOT_MATCH", "APPID_MCHID_NOT_MATCH", 400, "appid和mch_id不匹配", 268445527
    ),
    "NO_AUTH": Code("NOAUTH", "NO_AUTH", 403, "商户无此接口权限", 268448010),
    # the order
    "ORDER_NOT_EXIST": Code("ORDERNOTEXIST", "ORDER_NOT_EXIST", 404, "订单不存在", 268512771),
    "ORDER_PAID": Code("ORDERPAID", "ORDER_PAID", 400, "该订单已支付", 268449538),
    "ORDER_CLOSED": Code("ORDERCLOSED", "ORDER_CLOSED", 400, "该订单已关闭", 268447914),
    "NUMBER_REUSED": Code("INVALID_REQUEST", "OUT_TRADE_NO_USED", 403, "201 商户订单号重复", 268498688),
    "OUT_TRADE_NO_USED": Code("OUT_TRADE_NO_USED", "OUT_TRADE_NO_USED", 403, "商户订单号重复", 268498688),
    "TRADE_STATE_ERROR": Code("TRADE_STATE_ERROR", "TRADE_ERROR", 403, "订单状态错误"),
    # the payer
    "OPENID_MISMATCH": Code("PARAM_ERROR", "OPENID_MISMATCH", 500, "appid和openid不匹配"),
    "RULE_LIMIT": Code("RULELIMIT", "RULE_LIMIT", 403, "业务规则限制"),
    "TRADE_ERROR": Code("TRADE_ERROR", "TRADE_ERROR", 403, "交易错误"),
    "ACCOUNT_ERROR": Code("ACCOUNTERROR", "ACCOUNT_ERROR", 403, "账号异常"),
    # refunds
    "REFUND_NOT_EXIST": Code("REFUNDNOTEXIST", "RESOURCE_NOT_EXISTS", 404, "退款单不存在"),
    "REFUND_ORDER_NOT_EXIST": Code("ORDERNOTEXIST", "RESOURCE_NOT_EXISTS", 404, "订单不存在或未支付"),
    "INVALID_TRANSACTIONID": Code("INVALID_TRANSACTIONID", "INVALID_TRANSACTIONID", 500, "无效的微信订单号"),
    "REFUND_FEE_MISMATCH": Code(
        "REFUND_FEE_MISMATCH", "INVALID_REQUEST", 400, "订单金额或退款金额与之前请求不一致"
    ),
    "REFUND_EXCEEDS": Code("INVALID_REQUEST", "INVALID_REQUEST", 400, "退款金额大于可退金额"),
    "REFUND_TOO_MANY": Code("INVALID_REQUEST", "INVALID_REQUEST", 400, "一笔订单最多部分退款50次"),
    "TRADE_OVERDUE": Code("TRADE_OVERDUE", "INVALID_REQUEST", 400, "订单已超过可退款的最大期限"),
    "NOT_ENOUGH": Code("NOTENOUGH", "NOT_ENOUGH", 403, "基本账户余额不足，请充值后重新发起"),
    "USER_ACCOUNT_ABNORMAL": Code(
        "USER_ACCOUNT_ABNORMAL", "USER_ACCOUNT_ABNORMAL", 403, "退款请求失败，用户账户异常"
    ),
    "BIZERR_NEED_RETRY": Code(
        "BIZERR_NEED_RETRY", "BIZERR_NEED_RETRY", 400, "并发情况下，业务被拒绝，请重试"
    ),
    "ORDER_NOT_READY": Code("ORDER_NOT_READY", "INVALID_REQUEST", 400, "订单处理中，暂时无法退款"),
    "ERROR": Code("ERROR", "INVALID_REQUEST", 400, "业务错误"),
    "REQUEST_BLOCKED": Code("REQUEST_BLOCKED", "REQUEST_BLOCKED", 403, "此状态无法退款"),
    "INVALID_REQ_TOO_MUCH": Code("INVALID_REQ_TOO_MUCH", "FREQUENCY_LIMITED", 429, "无效请求过多", 268447840),
    # WeChat itself
    "FREQUENCY_LIMITED": Code("FREQUENCY_LIMITED", "FREQUENCY_LIMITED", 429, "频率限制", 268447840),
    "RATELIMIT_EXCEEDED": Code("FREQUENCY_LIMITED", "RATELIMIT_EXCEEDED", 429, "频率超限", 268447840),
    "SYSTEM_ERROR": Code("SYSTEMERROR", "SYSTEM_ERROR", 500, "系统超时，请用相同参数重新调用"),
    "BANK_ERROR": Code("BANKERROR", "BANK_ERROR", 500, "银行系统异常"),
    "SERVICE_UNAVAILABLE": Code("SYSTEMERROR", "SERVICE_UNAVAILABLE", 503, "服务不可用，请稍后重试"),
    "RESOURCE_NOT_EXISTS": Code("ORDERNOTEXIST", "RESOURCE_NOT_EXISTS", 404, "查询的资源不存在"),
    # the payer's phone only: no call is answered with it
    "PREPAY_EXPIRED": Code("INVALID_REQUEST", "INVALID_REQUEST", 400, "支付会话已过期，请返回商家重新发起"),
    "PAY_SIGN_ERROR": Code("SIGNERROR", "SIGN_ERROR", 400, "支付验证签名失败"),
}


class Refusal(Exception):
    """WeChat says no: `code` is a key of CODES, `text` tells a person, `field` what is meant."""

    def __init__(self, code: str, text: str = "", *, field: str = "") -> None:
        self.known = CODES[code]
        self.code = code
        self.text = text or self.known.text
        self.field = field
        super().__init__(f"{code} {self.text}")
