"""The janitor: asks WeChat about orders whose word is overdue, and closes what nobody paid in time."""

import asyncio
import logging

from attrs import frozen

from application.agenda import Agenda, DueOrder, next_look
from application.payments import Payments
from application.ports import Clock
from domain.errors import PaymentError
from domain.order import Order, Status
from domain.trade import Trade

log = logging.getLogger(__name__)

ROUND_MAX = 64  # orders looked at in one round: with the pause between rounds, the rate at WeChat
AT_ONCE = 8  # questions to WeChat under way at the same time


@frozen(kw_only=True)
class Janitor:
    """Makes up for lost notifications, unanswered creates and payers who never paid (R13, R16, R30)."""

    agenda: Agenda
    payments: Payments
    clock: Clock

    async def look(self) -> int:
        """One round over the orders whose time has come; return how many were looked at."""
        due = await self.agenda.due_orders(self.clock(), ROUND_MAX)
        for start in range(0, len(due), AT_ONCE):
            await asyncio.gather(*(self._look(entry) for entry in due[start : start + AT_ONCE]))
        return len(due)

    async def _look(self, due: DueOrder) -> None:
        number = due.order.out_trade_no
        try:
            order = await self._settle(due.order)
        except PaymentError as error:  # one order's trouble is not another's
            log.error("%s: %s %s", number, error.code, error)
            order = due.order
        if order.status is Status.PENDING:
            await self.agenda.postpone_order(number, next_look(order, due.looks, self.clock()))

    async def _settle(self, order: Order) -> Order:
        answer = await self.payments.gateway.query(order)
        order = await self.payments.take(order, answer, "janitor")
        # Only an order that WeChat says is unpaid is closed: while it is silent, money may be on its way.
        if isinstance(answer, Trade) and order.status is Status.PENDING and self.clock() >= order.expires_at:
            return await self.payments.close(order.out_trade_no, "janitor")
        return order
