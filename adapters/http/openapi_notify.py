"""What the API's document says of WeChat's notifications, which are WeChat's words and not ours."""

from collections.abc import Mapping
from typing import Any

from adapters.http.openapi import plain_answer

V2 = "text/xml"
V3 = "application/json"

WORDS = {
    "type": "object",
    "properties": {"code": {"const": "FAIL"}, "message": {"type": "string"}},
    "required": ["code", "message"],
}
EXAMPLE_V2 = (
    "<xml><return_code><![CDATA[SUCCESS]]></return_code><result_code><![CDATA[SUCCESS]]></result_code>"
    "<out_trade_no><![CDATA[PAY17031234567890123456]]></out_trade_no><total_fee>100</total_fee>"
    "<time_end><![CDATA[20231221123456]]></time_end><sign><![CDATA[…]]></sign></xml>"
)
EXAMPLE_V3 = {
    "id": "EV-2018022511223320873",
    "create_time": "2023-12-21T12:34:56+08:00",
    "event_type": "TRANSACTION.SUCCESS",
    "resource_type": "encrypt-resource",
    "summary": "支付成功",
    "resource": {
        "algorithm": "AEAD_AES_256_GCM",
        "ciphertext": "…",
        "associated_data": "transaction",
        "nonce": "…",
        "original_type": "transaction",
    },
}


def refused(description: str) -> Mapping[str, Any]:
    """An answer after which WeChat repeats: in the words of the version that called."""
    return {
        **plain_answer(description, V2),
        "content": {V2: {"schema": {"type": "string"}}, V3: {"schema": WORDS}},
    }


NOTIFY: Mapping[str, Any] = {
    "description": "由微信支付调用，无需手动调用，也不需要登录：报文上的签名就是证明。"
    "V2（XML）与V3（JSON）的支付和退款通知都发到这一个地址。",
    "requestBody": {
        "required": True,
        "content": {
            V2: {
                "schema": {"type": "string", "description": "V2通知，支付通知带有sign，退款通知带有req_info"},
                "example": EXAMPLE_V2,
            },
            V3: {
                "schema": {
                    "type": "object",
                    "description": "V3通知，签名在Wechatpay-*请求头中，内容以APIv3密钥加密",
                },
                "example": EXAMPLE_V3,
            },
        },
    },
    "responses": {
        "200": plain_answer("已收下的V2通知：return_code为SUCCESS", V2),
        "204": {"description": "已收下的V3通知", "headers": plain_answer()["headers"]},
        "400": refused("不是可以读懂的通知"),
        "401": refused("签名不正确"),
        "408": refused("报文没有及时送完"),
        "413": refused("报文过大"),
        "500": refused("暂时不能收下，请微信稍后重发"),
    },
}
