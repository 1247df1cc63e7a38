"""The payer's phone: wx.login and wx.requestPayment, as strict as WeChat's own app."""

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import Factory, define

from adapters.wechat import v2_wire, v3_wire
from adapters.wechat.simulator.book import WALLET
from adapters.wechat.simulator.codes import Refusal
from adapters.wechat.simulator.orders import Form, PlatformOrder
from adapters.wechat.simulator.platform import Platform

CODE = re.compile(r"code-([0-9A-Za-z_-]{1,64})(\.[0-9A-Za-z_-]{1,64})?")
SECONDS = re.compile(r"[0-9]{10}")
REAL_OPENID = re.compile(r"o[0-9A-Za-z_-]{27}")
LIFE_OF_CODE = timedelta(minutes=5)
PACKAGE = "prepay_id="
SIGNED = ("appId", "timeStamp", "nonceStr", "package", "signType")


class LoginRefused(Exception):
    """What code2session answers instead of an openid (miniprogram.md section 1)."""

    def __init__(self, errcode: int, errmsg: str) -> None:
        super().__init__(errmsg)
        self.errcode, self.errmsg = errcode, errmsg


@define
class Logins:
    """The codes of wx.login: each good once, for five minutes."""

    issued: dict[str, datetime] = Factory(dict)
    used: set[str] = Factory(set)

    def issue(self, name: str, now: datetime) -> str:
        """A fresh code for that person; raise ValueError for a name that cannot be in one."""
        code = f"code-{name}.{secrets.token_hex(4)}"
        if not CODE.fullmatch(code):
            raise ValueError("a name is 1 to 64 letters, digits, - or _")
        self.issued[code] = now
        return code

    def openid(self, code: str, appid: str, now: datetime) -> str:
        """Whose code it is; raise LoginRefused. `code-NAME` and `code-NAME.anything` are good unissued."""
        found = CODE.fullmatch(code)
        issued_at = self.issued.get(code, now)
        if not found or now - issued_at >= LIFE_OF_CODE:
            raise LoginRefused(40029, "invalid code")
        if code in self.used:
            raise LoginRefused(40163, "code been used")
        self.used.add(code)
        return openid_of(found[1], appid)

    def session_key(self) -> str:
        """The base64 of 16 bytes that no merchant may let out."""
        return base64.b64encode(secrets.token_bytes(16)).decode()

    def clear(self) -> None:
        self.issued.clear()
        self.used.clear()


def openid_of(name: str, appid: str) -> str:
    """The same person always has the same openid in one mini-program; an openid names itself."""
    if REAL_OPENID.fullmatch(name):
        return name
    digest = hashlib.sha256(f"{appid}:{name}".encode()).digest()
    return "o" + base64.urlsafe_b64encode(digest).decode()[:27]


def request_payment(
    platform: Platform, pay_params: Mapping[str, Any], bank_type: str = WALLET
) -> PlatformOrder:
    """wx.requestPayment with the password entered; raise Refusal where the app would not pay (R1, R2)."""
    order = check_pay_params(platform, pay_params)
    return platform.pay(order.out_trade_no, bank_type)


def check_pay_params(platform: Platform, pay_params: Mapping[str, Any]) -> PlatformOrder:
    """The order these pay_params are for (v2.md section 6, v3.md section 4); raise Refusal."""
    params = {"appId": platform.credentials.appid, **pay_params}
    for name in (*SIGNED, "paySign"):
        if not isinstance(params.get(name), str) or not params[name]:
            raise Refusal("PARAM_ERROR", f"调用支付JSAPI缺少参数：{name}", field=name)
    if params["appId"] != platform.credentials.appid:
        raise Refusal("APPID_MCHID_NOT_MATCH")
    if not SECONDS.fullmatch(params["timeStamp"]) or len(params["nonceStr"]) > 32:
        raise Refusal("PARAM_ERROR", "timeStamp或nonceStr无效", field="timeStamp")
    if not params["package"].startswith(PACKAGE):
        raise Refusal("PARAM_ERROR", "package必须为prepay_id=…", field="package")
    now = platform.clock.now()
    prepay_id = params["package"].removeprefix(PACKAGE)
    order = platform.book.prepaid(prepay_id, now)
    if not _is_signed(platform, order, params):
        raise Refusal("PAY_SIGN_ERROR")
    if dict(order.prepays)[prepay_id] <= now:
        raise Refusal("PREPAY_EXPIRED")
    return order


def _is_signed(platform: Platform, order: PlatformOrder, params: Mapping[str, str]) -> bool:
    """By the merchant that placed the order, in the way the order was placed."""
    credentials = platform.credentials
    if order.request.form is Form.V3:
        message = v3_wire.pay_message(
            params["appId"], params["timeStamp"], params["nonceStr"], params["package"]
        )
        return params["signType"] == "RSA" and v3_wire.verify(
            credentials.merchant.public_key, message, params["paySign"]
        )
    fields = {name: params[name] for name in SIGNED} | {"sign": params["paySign"]}
    sign_type = order.request.sign_type
    return params["signType"] == sign_type and v2_wire.verify(fields, credentials.api_key, sign_type)
