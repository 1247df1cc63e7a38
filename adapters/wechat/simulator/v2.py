"""V2's calls: XML in, the book asked, XML out; every request's sign is checked, every answer signed."""

import ipaddress
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime

from aiohttp import web
from attrs import frozen

from adapters.wechat import v2_wire
from adapters.wechat.simulator import v2_words
from adapters.wechat.simulator.codes import Refusal
from adapters.wechat.simulator.faults import Fault
from adapters.wechat.simulator.orders import Form, OrderRequest, RefundRequest
from adapters.wechat.simulator.platform import Platform
from domain.trade import BEIJING

Fields = Mapping[str, str]
SIGN_TYPES = ("MD5", "HMAC-SHA256")
NOT_PARAMETERS = ("nonce_str", "sign")  # what may differ when a number is ordered again
REFUNDS_A_PAGE = 10
NUMBER = re.compile(r"0|[1-9][0-9]{0,11}")
NONCE = re.compile(r"[0-9A-Za-z]{1,32}")
TIME = re.compile(r"[0-9]{14}")
LENGTHS = {"device_info": 32, "detail": 6000, "goods_tag": 32, "scene_info": 256, "refund_desc": 80}


class TransportFault(Exception):
    """A message WeChat cannot take for a request: answered FAIL, unsigned, nothing done (v2.md section 3)."""


@frozen
class V2Calls:
    """One method for each call; each takes the verified fields and returns what is answered."""

    platform: Platform

    async def order(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._order)

    async def query(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._query)

    async def close(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._close)

    async def refund(self, request: web.Request, fault: Fault) -> web.Response:
        if client_certificate(request) == "none":
            return await self._answer(request, fault, _without_certificate)
        return await self._answer(request, fault, self._refund)

    async def refund_query(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._refund_query)

    # -------------------------------------------------------------- what each does

    def _order(self, fields: Fields) -> dict[str, str]:
        _need(fields, "body", "out_trade_no", "total_fee", "spbill_create_ip", "notify_url", "trade_type")
        if fields["trade_type"] != "JSAPI":
            raise Refusal("NO_AUTH", "商户未开通该trade_type")
        _need(fields, "openid")
        if fields.get("fee_type", "CNY") != "CNY":
            raise Refusal("PARAM_ERROR", "不支持的货币", field="fee_type")
        _address(fields["spbill_create_ip"])
        form_of_sign = fields.get("sign_type", "MD5")
        expires = fields.get("time_expire")
        on_calendar = self.platform.clock.on_calendar
        parameters = sorted((name, value) for name, value in fields.items() if name not in NOT_PARAMETERS)
        prepay_id = self.platform.book.place(
            OrderRequest(
                appid=fields["appid"],
                mch_id=fields["mch_id"],
                out_trade_no=fields["out_trade_no"],
                total_fee=_number(fields["total_fee"], "total_fee"),
                body=fields["body"],
                openid=fields["openid"],
                notify_url=fields["notify_url"],
                attach=fields.get("attach", ""),
                expires_at=on_calendar(_time(expires, "time_expire")) if expires else None,
                form=Form.V2,
                sign_type=form_of_sign,
                fingerprint=repr(parameters),
            ),
            self.platform.clock.now(),
        )
        return {"trade_type": "JSAPI", "prepay_id": prepay_id}

    def _query(self, fields: Fields) -> dict[str, str]:
        now = self.platform.clock.now()
        if "transaction_id" in fields:
            order = self.platform.book.transaction(fields["transaction_id"], now)
        else:
            _need(fields, "out_trade_no")
            order = self.platform.book.order(fields["out_trade_no"], now)
        return v2_words.order_fields(order)

    def _close(self, fields: Fields) -> dict[str, str]:
        _need(fields, "out_trade_no")
        self.platform.book.close(fields["out_trade_no"], self.platform.clock.now())
        return {"result_msg": "OK"}

    def _refund(self, fields: Fields) -> dict[str, str]:
        _need(fields, "out_refund_no", "total_fee", "refund_fee")
        if "transaction_id" not in fields:
            _need(fields, "out_trade_no")
        refund = self.platform.refund(
            RefundRequest(
                out_refund_no=fields["out_refund_no"],
                refund_fee=_number(fields["refund_fee"], "refund_fee"),
                total_fee=_number(fields["total_fee"], "total_fee"),
                transaction_id=fields.get("transaction_id", ""),
                out_trade_no=fields.get("out_trade_no", ""),
                reason=fields.get("refund_desc", ""),
                notify_url=fields.get("notify_url", ""),
                form=Form.V2,
            )
        )
        return v2_words.refund_taken(refund)

    def _refund_query(self, fields: Fields) -> dict[str, str]:
        book, now = self.platform.book, self.platform.clock.now()
        if "refund_id" in fields:
            found = [each for each in book.refunds.values() if each.refund_id == fields["refund_id"]]
        elif "out_refund_no" in fields:
            found = [book.find_refund(fields["out_refund_no"])]
        elif "transaction_id" in fields:
            found = book.refunds_of(book.transaction(fields["transaction_id"], now))
        else:
            _need(fields, "out_trade_no")
            found = book.refunds_of(book.order(fields["out_trade_no"], now))
        if not found:
            raise Refusal("REFUND_NOT_EXIST")
        offset = _number(fields.get("offset", "0"), "offset")
        if offset >= len(found):
            raise Refusal("PARAM_ERROR", "offset超过退款笔数", field="offset")
        return v2_words.refund_fields(found[offset : offset + REFUNDS_A_PAGE], total=len(found))

    # -------------------------------------------------------------- the envelope

    async def _answer(
        self, request: web.Request, fault: Fault, act: Callable[[Fields], dict[str, str]]
    ) -> web.Response:
        try:
            fields = self._received(request, await request.read())
        except TransportFault as refused:
            return _xml({"return_code": "FAIL", "return_msg": str(refused)})
        if fault.kind == "system_error":
            return _system_error()
        try:
            self._check_sender(fields, fault)
            result = {"result_code": "SUCCESS", **act(fields)}
        except Refusal as refusal:
            text = f"{refusal.text}{f'({refusal.field})' if refusal.field else ''}"
            result = {"result_code": "FAIL", "err_code": refusal.known.v2, "err_code_des": text}
        if fault.kind == "system_error_after":
            return _system_error()
        return self._signed(result, fields.get("sign_type", "MD5"), fault)

    def _received(self, request: web.Request, body: bytes) -> dict[str, str]:
        """The fields, once the sign over them is right; raise TransportFault."""
        if request.method != "POST":
            raise TransportFault("请使用post方法")
        if not body:
            raise TransportFault("post数据为空")
        try:
            body.decode()
            fields = {name: value for name, value in v2_wire.read(body).items() if value}
        except UnicodeDecodeError:
            raise TransportFault("编码格式错误") from None
        except v2_wire.MalformedXml:
            raise TransportFault("XML格式错误") from None
        if fields.get("sign_type", "MD5") not in SIGN_TYPES:
            raise TransportFault("签名类型错误")
        if not v2_wire.verify(fields, self.platform.credentials.api_key, fields.get("sign_type", "MD5")):
            raise TransportFault("签名错误")
        return fields

    def _check_sender(self, fields: Fields, fault: Fault) -> None:
        if fault.kind == "refuse":
            raise Refusal(fault.code)
        _need(fields, "appid", "mch_id", "nonce_str")
        if fields["mch_id"] != self.platform.credentials.mch_id:
            raise Refusal("MCH_NOT_EXISTS")
        if fields["appid"] != self.platform.credentials.appid:
            raise Refusal("APPID_MCHID_NOT_MATCH")
        if not NONCE.fullmatch(fields["nonce_str"]):
            raise Refusal("PARAM_ERROR", "nonce_str应为32位以内的字母和数字", field="nonce_str")
        for name, most in LENGTHS.items():
            if len(fields.get(name, "")) > most:
                raise Refusal("PARAM_ERROR", f"长度超过{most}", field=name)

    def _signed(self, result: Fields, sign_type: str, fault: Fault) -> web.Response:
        """Signed with the algorithm of the request (v2.md section 2)."""
        credentials = self.platform.credentials
        fields = {
            "return_code": "SUCCESS",
            "return_msg": "OK",
            "appid": credentials.appid,
            "mch_id": credentials.mch_id,
            "nonce_str": secrets.token_hex(16),
            **result,
        }
        if fault.kind != "unsigned":
            fields["sign"] = v2_wire.sign(fields, credentials.api_key, sign_type)
        if fault.kind in {"wrong_signature", "probe"}:
            fields["sign"] = fields["sign"][::-1]
        return _xml(fields)


def client_certificate(request: web.Request) -> str:
    """What a caller showed: "merchant", "none" where TLS asked for it, "not asked" over plain HTTP.

    The TLS listener trusts the merchant's certificate alone, so one that came through is the merchant's.
    """
    tls = request.transport and request.transport.get_extra_info("ssl_object")
    if not tls:
        return "not asked"
    return "merchant" if tls.getpeercert(binary_form=True) else "none"


def _without_certificate(_fields: Fields) -> dict[str, str]:
    raise Refusal("CERT_ERROR")


def _system_error() -> web.Response:
    """As orderquery was seen to answer: without sign, appid or mch_id (v2.md section 2)."""
    return _xml(
        {
            "return_code": "SUCCESS",
            "return_msg": "OK",
            "result_code": "FAIL",
            "err_code": "SYSTEMERROR",
            "err_code_des": "系统超时",
        }
    )


def _xml(fields: Fields) -> web.Response:
    return web.Response(body=v2_wire.write(fields), content_type="text/xml", charset="utf-8")


def _need(fields: Fields, *names: str) -> None:
    for name in names:
        if name not in fields:
            raise Refusal("LACK_PARAMS", f"缺少参数{name}", field=name)


def _number(text: str, field: str) -> int:
    if not NUMBER.fullmatch(text):
        raise Refusal("PARAM_ERROR", "必须为整数", field=field)
    return int(text)


def _time(text: str, field: str) -> datetime:
    """`yyyyMMddHHmmss`, Beijing time (v2.md section 3)."""
    try:
        if TIME.fullmatch(text):
            return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=BEIJING)
    except ValueError:
        pass
    raise Refusal("PARAM_ERROR", "时间格式应为yyyyMMddHHmmss", field=field)


def _address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise Refusal("PARAM_ERROR", "终端IP格式错误", field="spbill_create_ip") from None
