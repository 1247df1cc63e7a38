"""WeChat's notifications, told apart, verified and read. Nothing here changes anything."""

import logging
from collections.abc import Mapping
from typing import Protocol

from aiohttp import web
from attrs import frozen

from adapters.wechat import v2_wire, v2_words, v3_wire, v3_words
from adapters.wechat.certificates import Certificates
from adapters.wechat.errors import Unreadable, one_line
from adapters.wechat.evidence import cut, shown
from adapters.wechat.merchant import SIGN_TYPES, Merchant
from adapters.wechat.v2_wire import Fields, MalformedXml, Sealed
from adapters.wechat.v3_wire import Rejected
from adapters.wechat.v3_words import Object
from application.payments import Payments
from domain.errors import OrderNotFound
from domain.order import Order
from domain.trade import RefundReport, Trade

log = logging.getLogger(__name__)

CAUSE_MAX = 64  # characters of an id that WeChat made up
HMAC_SIGN_LENGTH = 64


class NotTaken(Exception):
    """A notification that changes nothing; `reason` names the check that failed, and is all WeChat hears.

    With `evidence` it came from WeChat beyond doubt, and a person has to look at it.
    """

    def __init__(  # noqa: PLR0913 - what the log, the answer and the evidence need
        self,
        reason: str,
        *,
        status: int = 400,
        level: int = logging.WARNING,
        detail: str = "",
        evidence: str = "",
        out_trade_no: str = "",
        serial: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.level = level
        self.detail = detail
        self.evidence = evidence
        self.out_trade_no = out_trade_no
        self.serial = serial  # of a key we hold, or "unknown"


@frozen(kw_only=True)
class News:
    """What a notification says; no word: nothing that concerns us."""

    word: Trade | RefundReport | None
    cause: str = ""
    signed: bool = True
    known: Order | None = None  # the order, if it was read on the way
    serial: str = ""  # of the key that signed, in V3


class Notices(Protocol):
    """One version's notifications."""

    name: str

    async def read(self, headers: Mapping[str, str], body: bytes) -> News:
        """Verify, then read; raise NotTaken."""
        ...

    def taken(self) -> web.Response:
        """The answer after which WeChat does not repeat (R33)."""
        ...

    def refused(self, status: int, reason: str) -> web.Response:
        """The answer after which WeChat repeats (R33)."""
        ...


@frozen
class V2Notices(Notices):
    """V2: XML; payments carry a sign, refunds a sealed box and no sign (v2.md sections 11, 12)."""

    merchant: Merchant
    payments: Payments
    name = "v2"

    async def read(self, headers: Mapping[str, str], body: bytes) -> News:  # noqa: ARG002 - V3 needs them
        if not self.merchant.speaks_v2:
            raise NotTaken("no_key", status=500, level=logging.ERROR, detail="WECHAT_PAY_API_KEY is missing")
        try:
            fields = v2_wire.read(body)
        except MalformedXml as error:
            raise NotTaken(error.reason) from None
        return self._refund(fields) if "req_info" in fields else await self._payment(fields)

    def taken(self) -> web.Response:
        return _xml(200, "SUCCESS", "OK")

    def refused(self, status: int, reason: str) -> web.Response:
        return _xml(status, "FAIL", reason)

    async def _payment(self, fields: Fields) -> News:
        order = await self._order(fields.get("out_trade_no", ""))
        if not v2_wire.verify(fields, self.merchant.v2_key, _sign_type(order, fields)):
            raise NotTaken("signature", detail="" if fields.get("sign") else "there is none")
        if fields.get("return_code") != "SUCCESS" or fields.get("result_code") != "SUCCESS":
            return News(word=None, cause="a payment that failed")
        try:
            trade = v2_words.trade_of(fields, "SUCCESS")
        except Unreadable as error:
            raise _unreadable(error, shown(fields), fields.get("out_trade_no", "")) from None
        cause = f"notify v2 {trade.transaction_id[:CAUSE_MAX]}"
        return News(word=trade, cause=cause, known=order)

    async def _order(self, out_trade_no: str) -> Order | None:
        try:
            return await self.payments.find(out_trade_no)
        except OrderNotFound:
            return None

    def _refund(self, fields: Fields) -> News:
        mch_id = fields.get("mch_id", "")
        if mch_id != self.merchant.mch_id:
            raise NotTaken("payee", detail="the envelope names another mch_id")
        try:
            opened = v2_wire.open_req_info(fields["req_info"], self.merchant.v2_key)
            inside = v2_wire.read(opened, root="root")
            report = v2_words.refund_of(inside, mch_id)
        except (Sealed, MalformedXml) as error:
            raise NotTaken("decrypt", detail=f"{error.reason} (API key?)") from None
        except Unreadable as error:
            raise NotTaken("malformed", detail=str(error)) from None
        cause = f"notify v2 {report.refund_id[:CAUSE_MAX]}"
        # ECB has no integrity: whoever hears of it asks WeChat before believing it (v2.md section 12).
        return News(word=report, cause=cause, signed=False)


@frozen
class V3Notices(Notices):
    """V3: JSON with an RSA signature in the headers and a sealed resource (v3.md section 9)."""

    merchant: Merchant
    certificates: Certificates
    name = "v3"

    async def read(self, headers: Mapping[str, str], body: bytes) -> News:
        if not self.merchant.speaks_v3:
            raise NotTaken("no_key", status=500, level=logging.ERROR, detail="V3's keys are missing")
        try:
            serial = await self.certificates.check(headers, body)
        except Rejected as rejected:
            # A probe only wants to see whether we verify: no alarm (R26).
            level = logging.INFO if rejected.reason == "probe" else logging.WARNING
            serial = self.certificates.serial_named(headers)
            raise NotTaken(rejected.reason, status=401, level=level, serial=serial) from None
        try:
            envelope = v3_words.parse(body)
            event_id, event_type = v3_words.text(envelope, "id"), v3_words.text(envelope, "event_type")
            if not event_type.startswith(("TRANSACTION.", "REFUND.")):
                log.warning("notify v3 %s: %s is new to us", one_line(event_id), one_line(event_type))
                return News(word=None, cause="an event of an unknown type", serial=serial)
            resource = self._open(v3_words.part(envelope, "resource"))
        except Unreadable as error:
            raise _unreadable(error, cut(body.decode(errors="replace"))) from None
        cause = f"notify v3 {event_id[:CAUSE_MAX]}"
        return News(word=_word(event_type, resource), cause=cause, serial=serial)

    def taken(self) -> web.Response:
        return web.Response(status=204)

    def refused(self, status: int, reason: str) -> web.Response:
        return web.json_response({"code": "FAIL", "message": reason}, status=status)

    def _open(self, resource: Object) -> Object:
        nonce, sealed = v3_words.text(resource, "nonce"), v3_words.text(resource, "ciphertext")
        associated = v3_words.text(resource, "associated_data", "")
        try:
            return v3_words.parse(v3_wire.open_resource(self.merchant.v3_key, nonce, associated, sealed))
        except Rejected:
            # WeChat repeats it, and by then the operator may have set the right key (R32).
            raise NotTaken("decrypt", status=500, level=logging.ERROR, detail="APIv3 key?") from None


def _word(event_type: str, resource: Object) -> Trade | RefundReport:
    """Raise NotTaken with the evidence: WeChat signed it and nobody can read it."""
    try:
        if event_type.startswith("REFUND."):
            return v3_words.refund_of(resource, "refund_status")
        return v3_words.trade_of(resource)
    except Unreadable as error:
        number = resource.get("out_trade_no")
        raise _unreadable(error, shown(resource), number if isinstance(number, str) else "") from None


def _sign_type(order: Order | None, fields: Fields) -> str:
    """The stored order decides; a sender who chose would choose the weaker one (v2.md section 2)."""
    if order is not None and order.placement.sign_type in SIGN_TYPES:
        return order.placement.sign_type
    return "HMAC-SHA256" if len(fields.get("sign", "")) == HMAC_SIGN_LENGTH else "MD5"


def _unreadable(error: Unreadable, evidence: str, out_trade_no: str = "") -> NotTaken:
    return NotTaken("malformed", detail=str(error), evidence=evidence, out_trade_no=out_trade_no[:32])


def _xml(status: int, code: str, message: str) -> web.Response:
    body = v2_wire.write({"return_code": code, "return_msg": message})
    return web.Response(status=status, body=body, content_type="text/xml", charset="utf-8")
