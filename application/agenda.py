"""What has to be looked at again, and when: the times, and the port that remembers them.

Claiming an entry and giving it its next time are one step: whoever claims it
moves it a lease ahead, so that two processes never hold the same one and a
crash only delays it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol
from zlib import crc32

from attrs import frozen

from domain.order import Order
from domain.refund import Refund
from domain.trade import RefundStatus

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

LEASE = 10 * MINUTE  # longer than any round takes

# Ages of an unpaid order at which WeChat is asked: a notification that is late
# comes within minutes or, most likely, never. After the last one the order's
# expiry is the next time.
ORDER_AGES = (MINUTE, 3 * MINUTE, 8 * MINUTE, 15 * MINUTE, 45 * MINUTE, 2 * HOUR, 8 * HOUR, DAY, 3 * DAY)
# Waits while nobody knows whether WeChat took the order, and after a close that failed.
UNCLEAR_WAITS = (
    15 * timedelta(seconds=1),
    30 * timedelta(seconds=1),
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    20 * MINUTE,
    HOUR,
)
# Waits between questions about a refund (v3.md section 8, R40): it slows down and never ends.
REFUND_WAITS = (MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 30 * MINUTE, *(HOUR for _ in range(24)), DAY)


@frozen
class DueOrder:
    """An unpaid order that was claimed, and how often it has been."""

    order: Order
    looks: int


@frozen
class DueRefund:
    """An unsettled refund that was claimed, its order, and how often it has been."""

    order: Order
    refund: Refund
    checks: int


class Agenda(Protocol):
    """Orders and refunds that wait for WeChat's word, each with its next time.

    An order is on it from the moment it is saved PENDING until it is saved as
    anything else; a refund until it is settled.
    """

    async def due_orders(self, now: datetime, limit: int) -> Sequence[DueOrder]:
        """Claim orders whose time has come, the longest overdue first."""
        ...

    async def postpone_order(self, out_trade_no: str, until: datetime) -> None:
        """Give the order its next time, if it is still on the agenda."""
        ...

    async def due_refunds(self, now: datetime, limit: int) -> Sequence[DueRefund]:
        """Claim refunds whose time has come, the longest overdue first."""
        ...

    async def postpone_refund(self, out_refund_no: str, until: datetime) -> None:
        """Give the refund its next time, if it is still on the agenda."""
        ...

    async def oldest_pending(self) -> datetime | None:
        """When the oldest order that is still PENDING was made."""
        ...

    async def unanswered(self, limit: int) -> Sequence[datetime]:
        """When the orders were made of which nobody knows whether WeChat took them, the oldest first."""
        ...


def first_look(order: Order) -> datetime:
    """When a new order is first looked at."""
    return order.created_at + spread(
        UNCLEAR_WAITS[0] if order.is_unanswered else ORDER_AGES[0], order.out_trade_no
    )


def next_look(order: Order, looks: int, now: datetime) -> datetime:
    """When an order that is still PENDING is looked at again: young ones often, old ones seldom."""
    if order.is_unanswered or now >= order.expires_at:
        return now + spread(UNCLEAR_WAITS[min(looks, len(UNCLEAR_WAITS) - 1)], order.out_trade_no)
    for age in ORDER_AGES:
        at = order.created_at + spread(age, order.out_trade_no)
        if at > now:
            return min(at, order.expires_at)
    return min(now + DAY, order.expires_at)


def first_check(refund: Refund) -> datetime:
    """When a new refund is looked at: soon, for the call that carries it may have died under way."""
    return refund.created_at + REFUND_WAITS[0]


def next_check(refund: Refund, checks: int, now: datetime) -> datetime:
    """When an unsettled refund is looked at again; an ABNORMAL one waits for the operator."""
    if refund.refund_status is RefundStatus.ABNORMAL:
        return now + DAY
    return now + spread(REFUND_WAITS[min(checks, len(REFUND_WAITS) - 1)], refund.out_refund_no)


def spread(wait: timedelta, number: str) -> timedelta:
    """The wait made up to a fifth longer, by the number: orders of one rush don't come back as one."""
    return wait + wait * (crc32(number.encode()) % 1000) / 5000
