"""Payment notifications, signed as WeChat signs them, made before the clock runs."""

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import field, frozen

from adapters.wechat import v2_wire, v3_wire
from adapters.wechat.simulator import Credentials
from domain.trade import BEIJING

FEN = 100


@frozen
class Letter:
    """One POST: its headers, and the bytes they vouch for."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def notifications(
    credentials: Credentials, version: str, numbers: Sequence[str], now: datetime
) -> list[Letter]:
    """A success for each number, 100 fen each."""
    write = v2_letter if version == "v2" else v3_letter
    return [write(credentials, number, f"42000{n:023}", now) for n, number in enumerate(numbers)]


def v2_letter(credentials: Credentials, number: str, transaction_id: str, now: datetime) -> Letter:
    """v2.md section 11."""
    fields = {
        "return_code": "SUCCESS",
        "result_code": "SUCCESS",
        "appid": credentials.appid,
        "mch_id": credentials.mch_id,
        "nonce_str": secrets.token_hex(16),
        "openid": "oUpF8uMEb4qRXf22000000",
        "trade_type": "JSAPI",
        "bank_type": "OTHERS",
        "total_fee": str(FEN),
        "cash_fee": str(FEN),
        "transaction_id": transaction_id,
        "out_trade_no": number,
        "time_end": now.astimezone(BEIJING).strftime("%Y%m%d%H%M%S"),
    }
    fields["sign"] = v2_wire.sign(fields, credentials.api_key)
    return Letter({"Content-Type": "text/xml"}, v2_wire.write(fields))


def v3_letter(credentials: Credentials, number: str, transaction_id: str, now: datetime) -> Letter:
    """v3.md section 9, signed with the platform certificate."""
    resource = {
        "appid": credentials.appid,
        "mchid": credentials.mch_id,
        "out_trade_no": number,
        "transaction_id": transaction_id,
        "trade_type": "JSAPI",
        "trade_state": "SUCCESS",
        "trade_state_desc": "支付成功",
        "bank_type": "OTHERS",
        "success_time": now.astimezone(BEIJING).isoformat(timespec="seconds"),
        "payer": {"openid": "oUpF8uMEb4qRXf22000000"},
        "amount": {"total": FEN, "payer_total": FEN, "currency": "CNY", "payer_currency": "CNY"},
    }
    nonce = secrets.token_hex(6)
    sealed = v3_wire.seal_resource(credentials.apiv3_key, nonce, "transaction", json.dumps(resource).encode())
    envelope = {
        "id": secrets.token_hex(18),
        "create_time": resource["success_time"],
        "event_type": "TRANSACTION.SUCCESS",
        "resource_type": "encrypt-resource",
        "summary": "支付成功",
        "resource": {
            "algorithm": "AEAD_AES_256_GCM",
            "original_type": "transaction",
            "ciphertext": sealed,
            "associated_data": "transaction",
            "nonce": nonce,
        },
    }
    body = json.dumps(envelope).encode()
    stamp, word = str(int(now.timestamp())), secrets.token_hex(16)
    message = v3_wire.response_message(stamp, word, body)
    headers = {
        "Content-Type": "application/json",
        "Wechatpay-Timestamp": stamp,
        "Wechatpay-Nonce": word,
        "Wechatpay-Serial": credentials.platform.serial,
        "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
        "Wechatpay-Signature": v3_wire.sign(credentials.platform_key, message),
    }
    return Letter(headers, body)
