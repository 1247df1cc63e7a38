"""What a V3 request may hold; anything else is refused by name, as WeChat does (v3.md section 2)."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from adapters.wechat.simulator.codes import Refusal

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@frozen
class Text:
    max: int
    required: bool = False
    choices: tuple[str, ...] = ()


@frozen
class Number:
    required: bool = False
    min: int = 0


@frozen
class Flag:
    required: bool = False


@frozen
class Items:
    """A list of one kind of thing."""

    of: "Text | Group"
    required: bool = False


@frozen
class Group:
    """An object; every name it may hold."""

    names: Mapping[str, "Text | Number | Flag | Items | Group"]
    required: bool = False


Rule = Text | Number | Flag | Items | Group

GOODS = Items(
    Group(
        {
            "merchant_goods_id": Text(32, required=True),
            "wechatpay_goods_id": Text(32),
            "goods_name": Text(256),
            "quantity": Number(required=True, min=1),
            "unit_price": Number(required=True),
        }
    )
)
REFUND_GOODS = Items(
    Group(
        {
            "merchant_goods_id": Text(32, required=True),
            "wechatpay_goods_id": Text(32),
            "goods_name": Text(256),
            "unit_price": Number(required=True),
            "refund_amount": Number(required=True),
            "refund_quantity": Number(required=True, min=1),
        }
    )
)
STORE = Group({"id": Text(32, required=True), "name": Text(256), "area_code": Text(32), "address": Text(512)})
JSAPI = Group(
    {
        "appid": Text(32, required=True),
        "mchid": Text(32, required=True),
        "description": Text(127, required=True),
        "out_trade_no": Text(32, required=True),
        "time_expire": Text(64),
        "attach": Text(128),
        "notify_url": Text(256, required=True),
        "goods_tag": Text(32),
        "limit_pay": Items(Text(32, choices=("no_credit",))),
        "support_fapiao": Flag(),
        "amount": Group(
            {"total": Number(required=True, min=1), "currency": Text(16, choices=("CNY",))}, required=True
        ),
        "payer": Group({"openid": Text(128, required=True)}, required=True),
        "detail": Group({"cost_price": Number(), "invoice_id": Text(32), "goods_detail": GOODS}),
        "scene_info": Group(
            {"payer_client_ip": Text(45, required=True), "device_id": Text(32), "store_info": STORE}
        ),
        "settle_info": Group({"profit_sharing": Flag()}),
    }
)
CLOSE = Group({"mchid": Text(32, required=True)})
REFUND = Group(
    {
        "transaction_id": Text(32),
        "out_trade_no": Text(32),
        "out_refund_no": Text(64, required=True),
        "reason": Text(80),
        "notify_url": Text(256),
        "funds_account": Text(32, choices=("AVAILABLE", "UNSETTLED")),
        "amount": Group(
            {
                "refund": Number(required=True, min=1),
                "total": Number(required=True, min=1),
                "currency": Text(16, required=True, choices=("CNY",)),
                "from": Items(
                    Group(
                        {
                            "account": Text(32, required=True, choices=("AVAILABLE", "UNAVAILABLE")),
                            "amount": Number(required=True, min=1),
                        }
                    )
                ),
            },
            required=True,
        ),
        "goods_detail": REFUND_GOODS,
    }
)
ABNORMAL_REFUND = Group(
    {
        "out_refund_no": Text(64, required=True),
        "type": Text(32, required=True, choices=("USER_BANK_CARD", "MERCHANT_BANK_CARD")),
        "bank_type": Text(16),
        "bank_account": Text(1024),
        "real_name": Text(1024),
    }
)


def read(body: bytes, rule: Group) -> dict[str, Any]:
    """The JSON object of a request; raise Refusal naming the field that is wrong."""
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise Refusal("PARAM_ERROR", "请求体不是合法的JSON") from None
    if not isinstance(document, dict):
        raise Refusal("PARAM_ERROR", "请求体不是JSON对象")
    _check_group(document, rule, "")
    return document


def moment(text: str, field: str) -> datetime:
    """An RFC 3339 moment with its offset (R18); raise Refusal."""
    try:
        if RFC3339.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise Refusal("PARAM_ERROR", "时间格式不符合RFC3339", field=field)


def _check(value: object, rule: Rule, path: str) -> None:
    match rule, value:
        case Group(), dict():
            _check_group(value, rule, path)
        case Items(), list():
            for each in value:
                _check(each, rule.of, path)
        case Text(), str():
            if rule.choices and value not in rule.choices:
                raise Refusal("PARAM_ERROR", f"取值不在 {'、'.join(rule.choices)} 之中", field=path)
            if len(value) > rule.max or (rule.required and not value):
                raise Refusal("PARAM_ERROR", f"字符串长度应为1到{rule.max}", field=path)
        case Number(), int() if not isinstance(value, bool):
            if value < rule.min:
                raise Refusal("PARAM_ERROR", f"数值不得小于{rule.min}", field=path)
        case Flag(), bool():
            pass
        case _:
            raise Refusal("PARAM_ERROR", "输入源的参数类型错误", field=path)


def _check_group(value: dict[str, Any], rule: Group, path: str) -> None:
    for name, item in value.items():
        if name not in rule.names:
            raise Refusal("UNKNOWN_FIELD", field=f"{path}/{name}")
        _check(item, rule.names[name], f"{path}/{name}")
    for name, wanted in rule.names.items():
        if wanted.required and name not in value:
            raise Refusal("LACK_PARAMS", field=f"{path}/{name}")
