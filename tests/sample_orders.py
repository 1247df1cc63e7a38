"""Orders at every stage of their life, for tests of what is stored."""

from datetime import UTC, datetime, timedelta

from domain.order import Order, Placement
from domain.refund import Refund
from domain.trade import RefundReport, RefundStatus, Trade, TradeState

NOW = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PLACEMENT = Placement(
    appid="wx1",
    mch_id="1900000109",
    api_version="v2",
    sign_type="MD5",
    notify_url="https://e.cn/n",
    client_ip="::1",
)


def draft(out_trade_no="PAY001", now=NOW, **changes) -> Order:
    """An order that has taken no step yet: nothing of it can be stored."""
    fields = {"openid": "o1", "total_fee": 100, "body": "茶", "placement": PLACEMENT} | changes
    return Order(out_trade_no=out_trade_no, created_at=now, expires_at=now + timedelta(minutes=30), **fields)


def placed(out_trade_no="PAY001", now=NOW, **changes) -> Order:
    """PENDING, with a prepay_id."""
    return draft(out_trade_no, now, **changes).placed("wx42", now, "api")


def unanswered(out_trade_no="PAY001", now=NOW) -> Order:
    """PENDING, and nobody knows whether WeChat took it."""
    return draft(out_trade_no, now).unanswered(now, "api")


def told(order, trade_state, now=NOW) -> Order:
    """WeChat's word on the payment was taken in."""
    trade = Trade(
        out_trade_no=order.out_trade_no,
        trade_state=trade_state,
        total_fee=order.total_fee,
        transaction_id="42",
        evidence=f"<xml>{trade_state}</xml>",
    )
    return order.apply(trade, now, "notify")


def paid(order, now=NOW) -> Order:
    """WeChat said SUCCESS."""
    return told(order, TradeState.SUCCESS, now)


def closed(order, now=NOW) -> Order:
    """WeChat said CLOSED."""
    return told(order, TradeState.CLOSED, now)


def promised(order, out_refund_no, refund_fee=1, now=NOW) -> Order:
    """A refund was promised and not yet carried to WeChat."""
    refund = Refund(out_refund_no=out_refund_no, refund_fee=refund_fee, created_at=now, reason="退")
    return order.request_refund(refund, now, "api")


def refunded(order, out_refund_no, refund_status, now=NOW, **changes) -> Order:
    """WeChat's word on a refund was taken in."""
    report = RefundReport(
        out_trade_no=order.out_trade_no,
        out_refund_no=out_refund_no,
        refund_status=RefundStatus(refund_status),
        refund_id=f"50{out_refund_no}",
        evidence=f"<xml>{refund_status}</xml>",
        **changes,
    )
    return order.apply_refund(report, now, "notify")


async def saved(store, order) -> Order:
    """The order as it comes out of the store after it went in."""
    await store.orders.save(order)
    return await store.orders.get(order.out_trade_no)
