"""The book in V3's words: what answers and notifications say about orders and refunds."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from adapters.wechat.simulator.book import STATES
from adapters.wechat.simulator.orders import PlatformOrder, PlatformRefund
from domain.trade import BEIJING


def transaction(order: PlatformOrder) -> dict[str, Any]:
    """A query's answer, and what a notification of success holds (v3.md section 7)."""
    document: dict[str, Any] = {
        "appid": order.request.appid,
        "mchid": order.request.mch_id,
        "out_trade_no": order.out_trade_no,
        "trade_state": str(order.trade_state),
        "trade_state_desc": STATES[order.trade_state],
    }
    if order.request.attach:
        document["attach"] = order.request.attach
    if order.is_paid:
        document |= {
            "transaction_id": order.transaction_id,
            "trade_type": "JSAPI",
            "bank_type": order.bank_type,
            "success_time": rfc3339(order.paid_at),
            "payer": {"openid": order.request.openid},
            "amount": {
                "total": order.total_fee,
                "payer_total": order.total_fee,
                "currency": "CNY",
                "payer_currency": "CNY",
            },
        }
    return document


def refund_document(refund: PlatformRefund) -> dict[str, Any]:
    """A refund's answer and its query's: the field is `status` (v3.md section 8, R38)."""
    fee, total = refund.refund_fee, refund.order.total_fee
    document: dict[str, Any] = {
        "refund_id": refund.refund_id,
        "out_refund_no": refund.out_refund_no,
        "transaction_id": refund.order.transaction_id,
        "out_trade_no": refund.out_trade_no,
        "channel": "ORIGINAL",
        "user_received_account": refund.received_account,
        "create_time": rfc3339(refund.created_at),
        "status": str(refund.status),
        "funds_account": "AVAILABLE",
        "amount": {
            "total": total,
            "refund": fee,
            "payer_total": total,
            "payer_refund": fee,
            "settlement_refund": fee,
            "settlement_total": total,
            "discount_refund": 0,
            "currency": "CNY",
            "refund_fee": 0,
        },
    }
    if refund.success_at:
        document["success_time"] = rfc3339(refund.success_at)
    return document


def refund_notice(refund: PlatformRefund) -> dict[str, Any]:
    """What a refund notification holds: here the field is `refund_status` (v3.md section 9, R38)."""
    document: dict[str, Any] = {
        "mchid": refund.order.request.mch_id,
        "out_trade_no": refund.out_trade_no,
        "transaction_id": refund.order.transaction_id,
        "out_refund_no": refund.out_refund_no,
        "refund_id": refund.refund_id,
        "refund_status": str(refund.status),
        "user_received_account": refund.received_account,
        "amount": {
            "total": refund.order.total_fee,
            "refund": refund.refund_fee,
            "payer_total": refund.order.total_fee,
            "payer_refund": refund.refund_fee,
        },
    }
    if refund.success_at:
        document["success_time"] = rfc3339(refund.success_at)
    return document


def rfc3339(moment: datetime | None) -> str:
    """`2018-06-08T10:34:56+08:00`; empty for none."""
    return moment.astimezone(BEIJING).isoformat(timespec="seconds") if moment else ""


def dump(document: Mapping[str, Any]) -> bytes:
    """JSON as WeChat writes it: compact, UTF-8, in the order given."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
