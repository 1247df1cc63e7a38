"""Notifications on paper: what is posted for a payment or a refund, signed as its version wants."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import evolve, field, frozen
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from adapters.wechat import v2_wire, v3_wire
from adapters.wechat.simulator import v2_words, v3_words
from adapters.wechat.simulator.credentials import Credentials
from adapters.wechat.simulator.faults import Fault
from adapters.wechat.simulator.keys import PlatformKeys
from adapters.wechat.simulator.orders import Form, PlatformOrder, PlatformRefund

TEXT_OF = {
    "TRANSACTION.SUCCESS": "支付成功",
    "REFUND.SUCCESS": "退款成功",
    "REFUND.ABNORMAL": "退款异常",
    "REFUND.CLOSED": "退款关闭",
}
# A rightly signed notification whose one field is not the order's: its names in V2 and V3, and the lie.
FORGERIES: Mapping[str, tuple[str, str, str]] = {
    "total_fee": ("total_fee", "total", "1"),
    "appid": ("appid", "appid", "wx0000000000000000"),
    "mch_id": ("mch_id", "mchid", "1900000000"),
    "currency": ("fee_type", "currency", "USD"),
    "out_trade_no": ("out_trade_no", "out_trade_no", "PAY00000000000000000000"),
}


@frozen
class Letter:
    """One POST: its headers, and the bytes they vouch for."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@frozen(kw_only=True)
class News:
    """What WeChat has to tell about one order or refund, the same at each attempt."""

    id: str
    event_type: str
    out_trade_no: str
    out_refund_no: str = ""
    form: Form
    sign_type: str = "MD5"
    url: str
    created_at: datetime
    fields: Mapping[str, str] = field(repr=False)  # V2's content
    document: Mapping[str, Any] = field(repr=False)  # V3's


def news_of_payment(id_: str, order: PlatformOrder, now: datetime) -> News:
    request = order.request
    return News(
        id=id_,
        event_type="TRANSACTION.SUCCESS",
        out_trade_no=order.out_trade_no,
        form=request.form,
        sign_type=request.sign_type,
        url=request.notify_url,
        created_at=now,
        fields=v2_words.payment_fields(order),
        document=v3_words.transaction(order),
    )


def news_of_refund(id_: str, refund: PlatformRefund, url: str, now: datetime) -> News:
    return News(
        id=id_,
        event_type=f"REFUND.{refund.status}",
        out_trade_no=refund.out_trade_no,
        out_refund_no=refund.out_refund_no,
        form=refund.request.form,
        url=url,
        created_at=now,
        fields=v2_words.refund_notice(refund),
        document=v3_words.refund_notice(refund),
    )


@frozen
class Scribe:
    """Writes the letters; every attempt is signed anew."""

    credentials: Credentials
    keys: PlatformKeys

    def write(self, news: News, fault: Fault, wire_now: datetime) -> Letter:
        """The letter for one attempt, spoilt as the fault says."""
        if fault.kind == "forged":
            news = _forged(news, fault.field)
        letter = self._v2(news, fault) if news.form is Form.V2 else self._v3(news, fault, wire_now)
        if fault.kind == "corrupt":
            return evolve(letter, body=_corrupt(letter.body))
        return letter

    def _v2(self, news: News, fault: Fault) -> Letter:
        head = {
            "return_code": "SUCCESS",
            "appid": self.credentials.appid,
            "mch_id": self.credentials.mch_id,
            "nonce_str": secrets.token_hex(16),
        }
        api_key = self.credentials.api_key
        if news.out_refund_no:
            sealed_with = "0" * 32 if fault.kind == "probe" else api_key
            inside = v2_wire.write(news.fields, root="root")
            fields = {**head, "req_info": v2_wire.seal_req_info(inside, sealed_with)}
        else:
            fields = {**head, "result_code": "SUCCESS", **news.fields}
            fields["sign"] = v2_wire.sign(fields, api_key, news.sign_type)
            if fault.kind == "probe":
                fields["sign"] = fields["sign"][::-1]
        return Letter({"Content-Type": "text/xml; charset=utf-8"}, v2_wire.write(fields))

    def _v3(self, news: News, fault: Fault, wire_now: datetime) -> Letter:
        nonce = secrets.token_hex(6)
        is_refund = bool(news.out_refund_no)
        kind = "refund" if is_refund else "transaction"
        plain = v3_words.dump(news.document)
        body = v3_words.dump(
            {
                "id": news.id,
                "create_time": v3_words.rfc3339(news.created_at),
                "resource_type": "encrypt-resource",
                "event_type": news.event_type,
                "summary": TEXT_OF[news.event_type],
                "resource": {
                    "original_type": kind,
                    "algorithm": v3_wire.ALGORITHM,
                    "ciphertext": v3_wire.seal_resource(self.credentials.apiv3_key, nonce, kind, plain),
                    "associated_data": kind,
                    "nonce": nonce,
                },
            }
        )
        signer = self.keys.for_notification(wire_now)
        headers = signed_headers(signer.serial, signer.key, body, wire_now)
        if fault.kind == "probe":
            headers["Wechatpay-Signature"] = v3_wire.PROBE_PREFIX + headers["Wechatpay-Signature"][20:]
        return Letter({"Content-Type": "application/json", **headers}, body)


def signed_headers(serial: str, key: RSAPrivateKey, body: bytes, wire_now: datetime) -> dict[str, str]:
    """The headers that vouch for an answer's or a notification's bytes (v3.md section 5)."""
    timestamp, nonce = str(int(wire_now.timestamp())), secrets.token_hex(16)
    return {
        "Wechatpay-Timestamp": timestamp,
        "Wechatpay-Nonce": nonce,
        "Wechatpay-Signature": v3_wire.sign(key, v3_wire.response_message(timestamp, nonce, body)),
        "Wechatpay-Serial": serial,
        "Wechatpay-Signature-Type": v3_wire.SCHEME,
    }


def _forged(news: News, name: str) -> News:
    in_v2, in_v3, lie = FORGERIES[name]
    fields = {**news.fields, in_v2: lie}
    document = {**news.document}
    if name in {"total_fee", "currency"}:
        document["amount"] = {
            **document["amount"],
            in_v3: int(lie) if name == "total_fee" else lie,
        }
    else:
        document[in_v3] = lie
    return evolve(news, fields=fields, document=document)


def _corrupt(body: bytes) -> bytes:
    """Change one letter in the middle; what it was is not what it is."""
    at = len(body) // 2
    return body[:at] + (b"0" if body[at : at + 1] != b"0" else b"1") + body[at + 1 :]
