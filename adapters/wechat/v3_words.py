"""V3's JSON in the domain's words. Whoever reads it here has verified it first, errors aside."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from adapters.wechat.errors import Call, Passing, Unreadable, judge
from adapters.wechat.evidence import shown
from application.ports import Refused, Unknown
from domain.trade import RefundReport, RefundStatus, Trade, TradeState

Object = Mapping[str, Any]

# Pages answer these with HTTP 500 although the fault is ours (v3.md section 10).
OUR_FAULT_IN_500 = frozenset({"OPENID_MISMATCH", "INVALID_TRANSACTIONID"})

# One library writes CLOSE in notifications (v3.md section 9).
REFUND_STATUSES = {status.value: status for status in RefundStatus} | {"CLOSE": RefundStatus.CLOSED}


def parse(body: bytes) -> Object:
    """A JSON object; raise Unreadable for anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("not JSON") from None
    if not isinstance(found, dict):
        raise Unreadable("not a JSON object")
    return found


def trade_of(transaction: Object) -> Trade:
    """A transaction object, queried or notified (v3.md section 7); raise Unreadable."""
    state = text(transaction, "trade_state")
    if state not in TradeState.__members__:
        raise Unreadable(f"trade_state is {state[:32]!r}, which nobody knows")
    paid = TradeState(state) in (TradeState.SUCCESS, TradeState.REFUND)
    amount = part(transaction, "amount") if paid or "amount" in transaction else {}
    return Trade(
        out_trade_no=text(transaction, "out_trade_no"),
        trade_state=TradeState(state),
        total_fee=fen(amount, "total") if paid or "total" in amount else None,
        transaction_id=text(transaction, "transaction_id") if paid else "",
        time_end=moment(transaction, "success_time"),
        openid=text(part(transaction, "payer"), "openid", "") if "payer" in transaction else "",
        appid=text(transaction, "appid"),
        mch_id=text(transaction, "mchid"),
        currency=text(amount, "currency", "CNY"),
        evidence=shown(transaction),
    )


def refund_of(refund: Object, status_name: str = "status") -> RefundReport:
    """A refund object; in notifications its status is called refund_status (R38). Raise Unreadable."""
    status = text(refund, status_name)
    if status not in REFUND_STATUSES:
        raise Unreadable(f"{status_name} is {status[:32]!r}, which nobody knows")
    amount = part(refund, "amount")
    done = REFUND_STATUSES[status] is RefundStatus.SUCCESS
    return RefundReport(
        out_trade_no=text(refund, "out_trade_no"),
        out_refund_no=text(refund, "out_refund_no"),
        refund_status=REFUND_STATUSES[status],
        refund_id=text(refund, "refund_id"),
        refund_fee=fen(amount, "refund"),
        total_fee=fen(amount, "total"),
        success_at=moment(refund, "success_time") if done else None,
        mch_id=text(refund, "mchid", ""),
        evidence=shown(refund),
    )


def refusal_of(call: Call, status: int, body: bytes, request_id: str) -> Refused | Unknown:
    """An answer that is no success; the code counts for more than the HTTP status (v3.md section 10).

    It may be unsigned, so money is never moved on its strength alone.
    """
    code, description = _code(body)
    if status == 429:
        return judge(call, "FREQUENCY_LIMITED", description, request_id)
    if status >= 500 and code not in OUR_FAULT_IN_500:
        return Passing(why=f"HTTP {status}", err_code=code, description=description, request_id=request_id)
    if status < 400 or not code:
        return Unknown(why=f"HTTP {status}", err_code=code, description=description, request_id=request_id)
    return judge(call, code, description, request_id)


def _code(body: bytes) -> tuple[str, str]:
    """The code, and the message with the field it is about; empty when the body is no error object."""
    try:
        error = parse(body)
        code = text(error, "code", "")
        description = text(error, "message", "")
    except Unreadable:
        return "", ""
    detail = error.get("detail")
    if isinstance(detail, dict):
        where = (str(detail[name])[:100] for name in ("field", "issue") if detail.get(name))
        description = " ".join((description, *where))
    return code, description


# -- fields: each raises Unreadable, naming the field, for what is missing or of another kind -----


def text(holder: Object, name: str, default: str | None = None) -> str:
    """A string; `default` when it is absent."""
    value = holder.get(name)
    if value is None:
        value = default
    if not isinstance(value, str):
        raise Unreadable(f"{name} is not a string")
    return value


def fen(holder: Object, name: str) -> int:
    """A whole number of fen; True and 1.0 are none."""
    value = holder.get(name)
    if type(value) is not int or value < 0:
        raise Unreadable(f"{name} is not a number of fen")
    return value


def part(holder: Object, name: str) -> Object:
    """An object inside."""
    value = holder.get(name)
    if not isinstance(value, dict):
        raise Unreadable(f"{name} is not an object")
    return value


def moment(holder: Object, name: str) -> datetime | None:
    """An RFC 3339 moment, as UTC; None when it is absent."""
    value = text(holder, name, "")
    if not value:
        return None
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is None:
            raise Unreadable(f"{name} has no time zone")
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable(f"{name} is not a moment") from None
