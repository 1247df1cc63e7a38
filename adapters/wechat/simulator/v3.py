"""V3's calls: JSON in, the book asked, JSON out; signatures are checked over the raw bytes received."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from attrs import frozen

from adapters.wechat import v3_wire
from adapters.wechat.simulator import schema, v3_words
from adapters.wechat.simulator.codes import Refusal
from adapters.wechat.simulator.faults import Fault
from adapters.wechat.simulator.keys import Signer
from adapters.wechat.simulator.letters import signed_headers
from adapters.wechat.simulator.orders import Form, OrderRequest, RefundRequest
from adapters.wechat.simulator.platform import Platform

Answer = tuple[int, Mapping[str, Any] | None]  # status, and a document unless there is none to send


@frozen
class V3Calls:
    """One method for each call; each is given the verified body and says what is answered."""

    platform: Platform

    async def order(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._order)

    async def query(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._query)

    async def query_by_transaction(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._query_by_transaction)

    async def close(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._close)

    async def refund(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._refund)

    async def refund_query(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._refund_query)

    async def abnormal_refund(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._abnormal_refund)

    async def certificates(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._certificates)

    async def echo(self, request: web.Request, fault: Fault) -> web.Response:
        return await self._answer(request, fault, self._echo)

    # -------------------------------------------------------------- what each does

    def _order(self, _request: web.Request, body: bytes) -> Answer:
        asked = schema.read(body, schema.JSAPI)
        self._same_merchant(asked["mchid"])
        expires = asked.get("time_expire")
        on_calendar = self.platform.clock.on_calendar
        prepay_id = self.platform.book.place(
            OrderRequest(
                appid=asked["appid"],
                mch_id=asked["mchid"],
                out_trade_no=asked["out_trade_no"],
                total_fee=asked["amount"]["total"],
                body=asked["description"],
                openid=asked["payer"]["openid"],
                notify_url=asked["notify_url"],
                attach=asked.get("attach", ""),
                expires_at=on_calendar(schema.moment(expires, "/time_expire")) if expires else None,
                form=Form.V3,
                fingerprint=hashlib.sha256(v3_words.dump(_sorted(asked))).hexdigest(),
            ),
            self.platform.clock.now(),
        )
        return 200, {"prepay_id": prepay_id}

    def _query(self, request: web.Request, _body: bytes) -> Answer:
        self._same_merchant(request.query.get("mchid", ""))
        number = request.match_info["out_trade_no"]
        return 200, v3_words.transaction(self.platform.book.order(number, self.platform.clock.now()))

    def _query_by_transaction(self, request: web.Request, _body: bytes) -> Answer:
        self._same_merchant(request.query.get("mchid", ""))
        number = request.match_info["transaction_id"]
        return 200, v3_words.transaction(self.platform.book.transaction(number, self.platform.clock.now()))

    def _close(self, request: web.Request, body: bytes) -> Answer:
        self._same_merchant(schema.read(body, schema.CLOSE)["mchid"])
        try:
            self.platform.book.close(request.match_info["out_trade_no"], self.platform.clock.now())
        except Refusal as refusal:
            if refusal.code != "ORDER_CLOSED":  # closing is repeatable (v3.md section 7, R16)
                raise
        return 204, None

    def _refund(self, _request: web.Request, body: bytes) -> Answer:
        asked = schema.read(body, schema.REFUND)
        if not asked.get("transaction_id") and not asked.get("out_trade_no"):
            raise Refusal("LACK_PARAMS", "transaction_id与out_trade_no二选一", field="/out_trade_no")
        parts = asked["amount"].get("from", [])
        if parts and sum(part["amount"] for part in parts) != asked["amount"]["refund"]:
            raise Refusal("PARAM_ERROR", "出资金额之和不等于退款金额", field="/amount/from")
        refund = self.platform.refund(
            RefundRequest(
                out_refund_no=asked["out_refund_no"],
                refund_fee=asked["amount"]["refund"],
                total_fee=asked["amount"]["total"],
                transaction_id=asked.get("transaction_id", ""),
                out_trade_no=asked.get("out_trade_no", ""),
                reason=asked.get("reason", ""),
                notify_url=asked.get("notify_url", ""),
                form=Form.V3,
            )
        )
        return 200, v3_words.refund_document(refund)

    def _refund_query(self, request: web.Request, _body: bytes) -> Answer:
        refund = self.platform.book.find_refund(request.match_info["out_refund_no"])
        return 200, v3_words.refund_document(refund)

    def _abnormal_refund(self, request: web.Request, body: bytes) -> Answer:
        asked = schema.read(body, schema.ABNORMAL_REFUND)
        if asked["type"] == "USER_BANK_CARD":
            for name in ("bank_type", "bank_account", "real_name"):
                if not asked.get(name):
                    raise Refusal("LACK_PARAMS", field=f"/{name}")
            self._open_fields(request, asked["bank_account"], asked["real_name"])
        refund = self.platform.retry_abnormal(request.match_info["refund_id"], asked["out_refund_no"])
        return 200, v3_words.refund_document(refund)

    def _open_fields(self, request: web.Request, *sealed: str) -> None:
        """Sensitive fields have to open with the key that Wechatpay-Serial names (v3.md section 5)."""
        serial = request.headers.get("Wechatpay-Serial", "")
        if not serial:
            raise Refusal("PARAM_ERROR", "缺少Wechatpay-Serial", field="Wechatpay-Serial")
        key = self.platform.keys.for_answer(serial, self.platform.clock.wire_now()).key
        try:
            for text in sealed:
                v3_wire.decrypt_field(key, text)
        except v3_wire.Rejected:
            raise Refusal("PARAM_ERROR", "敏感信息解密失败", field="/bank_account") from None

    def _certificates(self, _request: web.Request, _body: bytes) -> Answer:
        keys = self.platform.keys
        if keys.public_key_only:
            raise Refusal("RESOURCE_NOT_EXISTS", "无可用的平台证书，请在商户平台使用微信支付公钥")
        listed = [_listed(signer, self.platform.credentials.apiv3_key) for signer in keys.certificates]
        return 200, {"data": listed}

    def _echo(self, _request: web.Request, body: bytes) -> Answer:
        """What came, as it came: proof that both signatures work (v3.md section 2)."""
        return 200, {"echo": body.decode(errors="replace")}

    def _same_merchant(self, mchid: str) -> None:
        """The caller is verified as our merchant by now: the message has to mean the same one (R4)."""
        if mchid != self.platform.credentials.mch_id:
            raise Refusal("PARAM_ERROR", "商户号与签名商户号不一致", field="mchid")

    # -------------------------------------------------------------- the envelope

    async def _answer(
        self, request: web.Request, fault: Fault, act: Callable[[web.Request, bytes], Answer]
    ) -> web.Response:
        body, now = await request.read(), self.platform.clock.wire_now()
        signer = self.platform.keys.usual(now)
        number = 0
        document: Mapping[str, Any] | None
        try:
            self._authenticate(request, body)
            signer = self.platform.keys.for_answer(request.headers.get("Wechatpay-Serial", ""), now)
            status, document = _acted(fault, lambda: act(request, body))
        except Refusal as refusal:
            known = refusal.known
            status, number, document = known.status, known.number, _error(refusal, request, body)
        return self._signed(status, document, number, signer, fault)

    def _authenticate(self, request: web.Request, body: bytes) -> None:
        """Headers, clock, serial, then the signature over the bytes as they came (v3.md sections 2, 3)."""
        accept = request.headers.get("Accept", "")
        if not any(kind in accept for kind in ("application/json", "*/*")):
            raise Refusal("PARAM_ERROR", "Http头Accept必须包含application/json", field="Accept")
        if not request.headers.get("User-Agent"):
            raise Refusal("PARAM_ERROR", "Http头缺少User-Agent", field="User-Agent")
        if request.method == "POST" and request.content_type != "application/json":
            raise Refusal("PARAM_ERROR", "Http头Content-Type必须为application/json", field="Content-Type")
        try:
            signed = v3_wire.parse_authorization(request.headers.get("Authorization", ""))
        except v3_wire.Rejected:
            raise Refusal("SIGN_ERROR", "Http头Authorization值格式错误", field="Authorization") from None
        if signed["mchid"] != self.platform.credentials.mch_id:
            raise Refusal("MCH_NOT_EXISTS", field="mchid")
        if not v3_wire.within_window(signed["timestamp"], self.platform.clock.wire_now()):
            raise Refusal(
                "SIGN_ERROR", "Http头Authorization值中的timestamp与当前时间相差5分钟以上", field="timestamp"
            )
        merchant = self.platform.credentials.merchant
        if v3_wire.canonical(signed["serial_no"]) != v3_wire.canonical(merchant.serial):
            raise Refusal("SIGN_ERROR", "商户证书序列号有误", field="serial_no")
        message = v3_wire.request_message(
            request.method, request.raw_path, signed["timestamp"], signed["nonce_str"], body
        )
        if not v3_wire.verify(merchant.public_key, message, signed["signature"]):
            raise Refusal("SIGN_ERROR", field="signature")

    def _signed(
        self, status: int, document: Mapping[str, Any] | None, number: int, signer: Signer, fault: Fault
    ) -> web.Response:
        body = b"" if document is None else v3_words.dump(document)
        request_id = f"08{secrets.token_hex(15).upper()}-{number}"
        headers = {"Request-ID": request_id, "Cache-Control": "no-cache, must-revalidate"}
        if fault.kind != "unsigned":
            signed = body + b" " if fault.kind == "wrong_signature" else body
            headers |= signed_headers(signer.serial, signer.key, signed, self.platform.clock.wire_now())
        if fault.kind == "probe":
            headers["Wechatpay-Signature"] = v3_wire.PROBE_PREFIX + headers["Wechatpay-Signature"][20:]
        if document is None:
            return web.Response(status=status, headers=headers)
        return web.Response(
            status=status, body=body, headers=headers, content_type="application/json", charset="utf-8"
        )


def _acted(fault: Fault, act: Callable[[], Answer]) -> Answer:
    """Act, unless the fault has WeChat refuse first, or say afterwards that it doesn't know."""
    if fault.kind in {"refuse", "system_error"}:
        raise Refusal(fault.code if fault.kind == "refuse" else "SYSTEM_ERROR")
    answer = act()
    if fault.kind == "system_error_after":
        raise Refusal("SYSTEM_ERROR")
    return answer


def _error(refusal: Refusal, request: web.Request, body: bytes) -> dict[str, Any]:
    """The body of a refusal; for a bad signature it shows what should have been signed (v3.md section 10)."""
    document: dict[str, Any] = {"code": refusal.known.v3, "message": refusal.text}
    if refusal.field:
        document["detail"] = {"location": "body", "field": refusal.field, "issue": refusal.text}
    if refusal.code == "SIGN_ERROR":
        document["detail"] = {
            "location": "authorization",
            "field": refusal.field,
            "issue": "sign not match",
            "sign_information": {
                "method": request.method,
                "url": request.raw_path,
                "body_length": len(body),
            },
        }
    return document


def _listed(signer: Signer, apiv3_key: str) -> dict[str, Any]:
    """One entry of /v3/certificates; its nonce follows from the serial, so it never seals two things."""
    if signer.certificate is None:
        raise ValueError("the public key is no certificate")
    nonce = hashlib.sha256(signer.serial.encode()).hexdigest()[:12]
    return {
        "serial_no": signer.serial,
        "effective_time": v3_words.rfc3339(signer.certificate.effective_at),
        "expire_time": v3_words.rfc3339(signer.certificate.expires_at),
        "encrypt_certificate": {
            "algorithm": v3_wire.ALGORITHM,
            "nonce": nonce,
            "associated_data": "certificate",
            "ciphertext": v3_wire.seal_resource(apiv3_key, nonce, "certificate", signer.certificate.pem),
        },
    }


def _sorted(value: Any) -> Any:
    """The same content in one order, however it was written."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_sorted(each) for each in value]
    return value
