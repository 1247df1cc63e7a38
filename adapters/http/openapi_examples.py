"""What the API's document shows: the calls as existing mini-programs make them."""

from collections.abc import Mapping
from typing import Any

REQUEST_ID = "9f86d081884c7d65"
OUT_TRADE_NO = "PAY17031234567890123456"
OUT_REFUND_NO = "REF17031234567890123456"

CREATED: Mapping[str, Any] = {
    "success": True,
    "data": {
        "out_trade_no": OUT_TRADE_NO,
        "pay_params": {
            "appId": "wx1234567890abcdef",
            "timeStamp": "1703123456",
            "nonceStr": "randomstring",
            "package": "prepay_id=wx1234567890abcdef",
            "signType": "MD5",
            "paySign": "signature",
        },
    },
}
REFUND: Mapping[str, Any] = {
    "success": True,
    "data": {
        "out_refund_no": OUT_REFUND_NO,
        "out_trade_no": OUT_TRADE_NO,
        "refund_id": None,
        "status": "PROCESSING",
        "refund_fee": 100,
        "reason": "商品已售完",
        "create_time": "2023-12-21T12:40:00",
        "success_time": None,
        "failure": "",
    },
}


def trade(state: str, transaction_id: str | None, time_end: str | None) -> Mapping[str, Any]:
    """An order in WeChat's words."""
    return {
        "success": True,
        "data": {
            "out_trade_no": OUT_TRADE_NO,
            "transaction_id": transaction_id,
            "trade_state": state,
            "total_fee": "100",
            "time_end": time_end,
        },
    }


# The request's body, if any, and the answer of each path.
EXAMPLES: Mapping[str, tuple[Any, Any]] = {
    "/api/wechat/pay/create": (
        {"openid": "user_openid", "total_fee": 100, "body": "图片增强服务", "attach": "user_id_123"},
        CREATED,
    ),
    "/api/wechat/pay/query/{out_trade_no}": (
        None,
        trade("SUCCESS", "wx1234567890abcdef", "20231221123456"),
    ),
    "/api/wechat/pay/orders/{openid}": (
        None,
        {
            "success": True,
            "data": [
                {
                    "out_trade_no": OUT_TRADE_NO,
                    "total_fee": 100,
                    "body": "商品描述",
                    "status": "PAID",
                    "create_time": "2023-12-21T12:34:56",
                    "time_end": "20231221123456",
                }
            ],
            "next_cursor": None,
        },
    ),
    "/api/wechat/pay/stats": (
        None,
        {
            "success": True,
            "data": {"total": 100, "pending": 10, "paid": 80, "cancelled": 5, "failed": 3, "refunded": 2},
        },
    ),
    "/api/wechat/pay/pay/{out_trade_no}": (None, CREATED),
    "/api/wechat/pay/close/{out_trade_no}": (None, trade("CLOSED", None, None)),
    "/api/wechat/pay/refund": ({"out_trade_no": OUT_TRADE_NO, "reason": "商品已售完"}, REFUND),
    "/api/wechat/pay/refund/{out_refund_no}": (None, REFUND),
}
