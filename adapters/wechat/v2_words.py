"""V2's fields in the domain's words."""

import re
from datetime import UTC, datetime

from adapters.wechat.errors import Unreadable
from adapters.wechat.evidence import shown
from adapters.wechat.v2_wire import Fields
from domain.trade import BEIJING, RefundReport, RefundStatus, Trade, TradeState

PAID = (TradeState.SUCCESS, TradeState.REFUND)

MOMENT = "%Y%m%d%H%M%S"
REFUND_MOMENT = "%Y-%m-%d %H:%M:%S"  # only a refund's success time is written so (v2.md section 3)
NUMBER = re.compile(r"[0-9]{1,12}")

REFUND_STATUSES = {
    "SUCCESS": RefundStatus.SUCCESS,
    "REFUNDCLOSE": RefundStatus.CLOSED,
    "PROCESSING": RefundStatus.PROCESSING,
    "CHANGE": RefundStatus.ABNORMAL,
    "FAIL": RefundStatus.CLOSED,  # in an older library only (v2.md section 10)
}


def trade_of(fields: Fields, trade_state: str | None = None) -> Trade:
    """A query's answer, or a notification, which says SUCCESS by being sent (v2.md sections 7, 11).

    Raise Unreadable.
    """
    state = trade_state or text(fields, "trade_state")
    if state not in TradeState.__members__:
        raise Unreadable(f"trade_state is {state[:32]!r}, which nobody knows")
    paid = TradeState(state) in PAID
    return Trade(
        out_trade_no=text(fields, "out_trade_no"),
        trade_state=TradeState(state),
        total_fee=fen(fields, "total_fee") if paid or fields.get("total_fee") else None,
        transaction_id=text(fields, "transaction_id") if paid else "",
        time_end=moment(fields, "time_end", MOMENT),
        openid=fields.get("openid", ""),
        appid=text(fields, "appid"),
        mch_id=text(fields, "mch_id"),
        currency=fields.get("fee_type") or "CNY",
        evidence=shown(fields),
    )


def refund_of(fields: Fields, mch_id: str, suffix: str = "") -> RefundReport:
    """A refund notice, or the refund of that suffix in a query's answer (v2.md sections 10, 12).

    Raise Unreadable.
    """
    status = text(fields, f"refund_status{suffix}")
    if status not in REFUND_STATUSES:
        raise Unreadable(f"refund_status is {status[:32]!r}, which nobody knows")
    done = REFUND_STATUSES[status] is RefundStatus.SUCCESS
    time_name = f"refund_success_time{suffix}" if suffix else "success_time"
    return RefundReport(
        out_trade_no=text(fields, "out_trade_no"),
        out_refund_no=text(fields, f"out_refund_no{suffix}"),
        refund_status=REFUND_STATUSES[status],
        refund_id=text(fields, f"refund_id{suffix}"),
        refund_fee=fen(fields, f"refund_fee{suffix}"),
        total_fee=fen(fields, "total_fee"),
        success_at=moment(fields, time_name, REFUND_MOMENT) if done else None,
        mch_id=mch_id,
        evidence=shown(fields),
    )


# -- fields: each raises Unreadable, naming the field, for what is missing or of another kind -----


def text(fields: Fields, name: str) -> str:
    """A value that must be there."""
    value = fields.get(name, "")
    if not value:
        raise Unreadable(f"{name} is missing")
    return value


def fen(fields: Fields, name: str) -> int:
    """A whole number of fen."""
    value = text(fields, name)
    if not NUMBER.fullmatch(value):
        raise Unreadable(f"{name} is not a number of fen")
    return int(value)


def moment(fields: Fields, name: str, form: str) -> datetime | None:
    """A moment written in Beijing time, as UTC; None when it is absent."""
    value = fields.get(name, "")
    if not value:
        return None
    try:
        return datetime.strptime(value, form).replace(tzinfo=BEIJING).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable(f"{name} is not a moment") from None
