"""The book in V2's words: what answers and notifications say about orders and refunds."""

from datetime import datetime

from adapters.wechat.simulator.book import STATES
from adapters.wechat.simulator.orders import PlatformOrder, PlatformRefund
from domain.trade import BEIJING, RefundStatus

REFUND_STATES = {
    RefundStatus.PROCESSING: "PROCESSING",
    RefundStatus.SUCCESS: "SUCCESS",
    RefundStatus.CLOSED: "REFUNDCLOSE",
    RefundStatus.ABNORMAL: "CHANGE",
}
ACCOUNT = "REFUND_SOURCE_UNSETTLED_FUNDS"


def order_fields(order: PlatformOrder) -> dict[str, str]:
    """An orderquery's answer (v2.md section 7); amounts appear once it is paid."""
    fields = {
        "trade_state": str(order.trade_state),
        "trade_state_desc": STATES[order.trade_state],
        "out_trade_no": order.out_trade_no,
        "attach": order.request.attach,
    }
    return fields | payment_fields(order) if order.is_paid else fields


def payment_fields(order: PlatformOrder) -> dict[str, str]:
    """What a paid order shows, in answers and notifications alike (v2.md sections 7 and 11)."""
    return {
        "openid": order.request.openid,
        "is_subscribe": "N",
        "trade_type": "JSAPI",
        "bank_type": order.bank_type,
        "total_fee": str(order.total_fee),
        "fee_type": "CNY",
        "cash_fee": str(order.total_fee),
        "cash_fee_type": "CNY",
        "transaction_id": order.transaction_id,
        "out_trade_no": order.out_trade_no,
        "attach": order.request.attach,
        "time_end": v2_time(order.paid_at),
    }


def refund_taken(refund: PlatformRefund) -> dict[str, str]:
    """A refund's answer: accepted, not done (v2.md section 9, R38)."""
    return {
        **_order_of(refund),
        "out_refund_no": refund.out_refund_no,
        "refund_id": refund.refund_id,
        "refund_fee": str(refund.refund_fee),
        "cash_refund_fee": str(refund.refund_fee),
        "coupon_refund_fee": "0",
        "coupon_refund_count": "0",
    }


def refund_fields(refunds: list[PlatformRefund], *, total: int) -> dict[str, str]:
    """A refundquery's answer over these refunds of one order (v2.md section 10)."""
    fields = {
        **_order_of(refunds[0]),
        "refund_count": str(len(refunds)),
        "total_refund_count": str(total),
    }
    for n, refund in enumerate(refunds):
        fields |= {
            f"out_refund_no_{n}": refund.out_refund_no,
            f"refund_id_{n}": refund.refund_id,
            f"refund_channel_{n}": "ORIGINAL",
            f"refund_fee_{n}": str(refund.refund_fee),
            f"settlement_refund_fee_{n}": str(refund.refund_fee),
            f"refund_status_{n}": REFUND_STATES[refund.status],
            f"refund_account_{n}": ACCOUNT,
            f"refund_recv_accout_{n}": refund.received_account,  # WeChat spells it so
            f"refund_success_time_{n}": refund_time(refund.success_at),
        }
    return fields


def refund_notice(refund: PlatformRefund) -> dict[str, str]:
    """What a refund notification's `req_info` holds (v2.md section 12)."""
    return {
        "transaction_id": refund.order.transaction_id,
        "out_trade_no": refund.out_trade_no,
        "refund_id": refund.refund_id,
        "out_refund_no": refund.out_refund_no,
        "total_fee": str(refund.order.total_fee),
        "refund_fee": str(refund.refund_fee),
        "settlement_refund_fee": str(refund.refund_fee),
        "refund_status": REFUND_STATES[refund.status],
        "success_time": refund_time(refund.success_at),
        "refund_recv_accout": refund.received_account,
        "refund_account": ACCOUNT,
        "refund_request_source": "API",
    }


def _order_of(refund: PlatformRefund) -> dict[str, str]:
    return {
        "transaction_id": refund.order.transaction_id,
        "out_trade_no": refund.out_trade_no,
        "total_fee": str(refund.order.total_fee),
        "settlement_total_fee": str(refund.order.total_fee),
        "fee_type": "CNY",
        "cash_fee": str(refund.order.total_fee),
    }


def v2_time(moment: datetime | None) -> str:
    """`yyyyMMddHHmmss`, Beijing time; empty for none."""
    return moment.astimezone(BEIJING).strftime("%Y%m%d%H%M%S") if moment else ""


def refund_time(moment: datetime | None) -> str:
    """`yyyy-MM-dd HH:mm:ss`, which refunds alone use; empty for none."""
    return moment.astimezone(BEIJING).strftime("%Y-%m-%d %H:%M:%S") if moment else ""
