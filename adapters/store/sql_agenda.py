"""What has to be looked at again, in SQL: a claim moves the entry ahead in the same statement."""

from collections.abc import Sequence
from datetime import datetime

from attrs import frozen

from adapters.store.engine import Engine, Row, Step, micros, moment
from adapters.store.sql_orders import SqlOrders
from application.agenda import LEASE, Agenda, DueOrder, DueRefund

CLAIM_ORDERS = (
    "UPDATE orders SET last_look_at = look_at, look_at = :until, looks = looks + 1 WHERE out_trade_no IN"
    " (SELECT out_trade_no FROM orders WHERE look_at <= :now ORDER BY look_at, out_trade_no LIMIT :limit)"
    " AND look_at <= :now RETURNING last_look_at, out_trade_no, looks"
)
POSTPONE_ORDER = (
    "UPDATE orders SET look_at = :until WHERE out_trade_no = :out_trade_no AND look_at IS NOT NULL"
)
CLAIM_REFUNDS = (
    "UPDATE refunds SET last_check_at = check_at, check_at = :until, checks = checks + 1"
    " WHERE out_refund_no IN (SELECT out_refund_no FROM refunds WHERE check_at <= :now"
    " ORDER BY check_at, out_refund_no LIMIT :limit)"
    " AND check_at <= :now RETURNING last_check_at, out_refund_no, out_trade_no, checks"
)
POSTPONE_REFUND = (
    "UPDATE refunds SET check_at = :until WHERE out_refund_no = :out_refund_no AND check_at IS NOT NULL"
)
OLDEST_PENDING = "SELECT created_at FROM orders WHERE look_at IS NOT NULL ORDER BY created_at LIMIT 1"
UNANSWERED = (
    "SELECT created_at FROM orders WHERE look_at IS NOT NULL AND prepay_id = ''"
    " ORDER BY created_at LIMIT :limit"
)


@frozen
class SqlAgenda(Agenda):
    """The agenda in a database, beside its orders."""

    engine: Engine
    orders: SqlOrders

    async def due_orders(self, now: datetime, limit: int) -> Sequence[DueOrder]:
        claimed = await self._claim(CLAIM_ORDERS, now, limit)
        return [DueOrder(await self.orders.get(out_trade_no), looks) for _, out_trade_no, looks in claimed]

    async def postpone_order(self, out_trade_no: str, until: datetime) -> None:
        values = {"out_trade_no": out_trade_no, "until": micros(until)}
        await self.engine.write([Step(POSTPONE_ORDER, values)])

    async def due_refunds(self, now: datetime, limit: int) -> Sequence[DueRefund]:
        due = []
        for _, out_refund_no, out_trade_no, checks in await self._claim(CLAIM_REFUNDS, now, limit):
            order = await self.orders.get(out_trade_no)
            refund = order.refund(out_refund_no)
            if refund is not None and not refund.is_settled:
                due.append(DueRefund(order, refund, checks))
        return due

    async def postpone_refund(self, out_refund_no: str, until: datetime) -> None:
        values = {"out_refund_no": out_refund_no, "until": micros(until)}
        await self.engine.write([Step(POSTPONE_REFUND, values)])

    async def oldest_pending(self) -> datetime | None:
        for (created_at,) in await self.engine.read(OLDEST_PENDING, {}):
            return moment(created_at)
        return None

    async def unanswered(self, limit: int) -> Sequence[datetime]:
        rows = await self.engine.read(UNANSWERED, {"limit": limit})
        return [moment(created_at) for (created_at,) in rows]

    async def _claim(self, statement: str, now: datetime, limit: int) -> Sequence[Row]:
        values = {"now": micros(now), "until": micros(now + LEASE), "limit": limit}
        # What a claim gives back comes in any order.
        return sorted(await self.engine.write([Step(statement, values)]), key=tuple)
