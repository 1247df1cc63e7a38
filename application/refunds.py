"""Refunds: promise one, carry it to WeChat, hear how it went, and never give up on it."""

import asyncio
import logging
from collections.abc import Sequence

from attrs import field, frozen

from application.agenda import Agenda, DueRefund, next_check
from application.answers import Answer, Answers, Keyed, KeyReused, KeyTaken
from application.errors import WechatRefused, WechatSilent
from application.payments import Payments
from application.ports import Clock, Gateway, Meaning, Mint, Orders, Refused, Unknown
from domain.errors import PaymentError, RefundNotAllowed, RefundNotFound
from domain.order import Order
from domain.refund import Refund
from domain.trade import RefundReport, RefundStatus

log = logging.getLogger(__name__)

ROUND_MAX = 32  # refunds looked at in one round
AT_ONCE = 8  # questions to WeChat under way at the same time

# Refusals that end by themselves or by the operator's hand: the promise stands
# and the same number is carried again (v2.md section 9, v3.md section 10).
PASSING = frozenset({Meaning.NOT_ENOUGH, Meaning.TOO_FAST, Meaning.NOT_NOW, Meaning.CONFIGURATION})


@frozen(kw_only=True)
class NewRefund:
    """What a caller asks for; refund_fee in fen, None for all that is left."""

    out_trade_no: str
    refund_fee: int | None = None
    reason: str = ""
    out_refund_no: str = ""


@frozen(kw_only=True)
class Refunds:
    """The use cases around refunds."""

    orders: Orders
    answers: Answers
    agenda: Agenda
    gateway: Gateway
    payments: Payments
    clock: Clock
    mint: Mint
    carrying: set[str] = field(factory=set, repr=False)  # out_refund_no of calls under way

    async def request(self, new: NewRefund, cause: str, keyed: Keyed | None = None) -> tuple[Order, Refund]:
        """Write the promise down, then carry it to WeChat; never the other way round (R34, R35).

        Returns the refund as it stands: PROCESSING also when WeChat was silent,
        for then it is carried again under the same number. Raises what the domain
        refuses, WechatRefused when WeChat definitely won't (the refund is CLOSED then).
        """
        number = new.out_refund_no or self.mint()
        order = await self._promise(new, number, cause, keyed)
        if _refund(order, number).refund_status is RefundStatus.PROCESSING:
            order = await self.carry(order, number, cause, refuse=True)
        return order, _refund(order, number)

    async def request_keyed(self, new: NewRefund, cause: str, keyed: Keyed) -> Answer:
        """As `request`, answering the same key and body with the same answer. Raises KeyReused."""
        known = await self.answers.recall(keyed.caller, keyed.key)
        if known is not None and known.request_hash != keyed.request_hash:
            raise KeyReused("the Idempotency-Key was used with another body")
        if known is not None and known.status:
            return known
        try:
            return await self._request_keyed(new, cause, keyed, known)
        except KeyTaken:
            return await self.request_keyed(new, cause, keyed)
        except RefundNotAllowed:
            # What stands in the way may be the promise of a twin, with the answer for both.
            if known is None and await self.answers.recall(keyed.caller, keyed.key) is not None:
                return await self.request_keyed(new, cause, keyed)
            raise

    async def carry(self, order: Order, out_refund_no: str, cause: str, *, refuse: bool = False) -> Order:
        """Carry a promised refund to WeChat under its number and take in what comes back.

        With `refuse`, raises WechatRefused when WeChat definitely won't. While a call under this
        number is on its way nobody makes another: WeChat might refuse the one and take the other.
        """
        if out_refund_no in self.carrying:
            return await self._ask(order, _refund(order, out_refund_no), cause)
        self.carrying.add(out_refund_no)
        try:
            order = await self.orders.get(order.out_trade_no)  # it may have ended since it was read
            refund = _refund(order, out_refund_no)
            if refund.refund_status is not RefundStatus.PROCESSING:
                return order
            return await self._carry(order, refund, cause, refuse=refuse)
        finally:
            self.carrying.discard(out_refund_no)

    async def find(self, out_refund_no: str) -> tuple[Order, Refund]:
        """The refund and its order; WeChat is asked while it is unsettled. Raises RefundNotFound."""
        order = await self.orders.find_refund(out_refund_no)
        refund = _refund(order, out_refund_no)
        if not refund.is_settled and self.payments.pace.may(out_refund_no, self.clock()):
            order = await self._ask(order, refund, "query")
        return order, _refund(order, out_refund_no)

    async def of_status(self, status: RefundStatus, limit: int) -> Sequence[tuple[Order, Refund]]:
        """Refunds of one status, the newest first, for the operator (R39)."""
        return await self.orders.refunds_of(status, limit)

    async def recover(self, out_refund_no: str, cause: str) -> tuple[Order, Refund]:
        """Send an ABNORMAL refund to the merchant's own account (R39).

        Raises RefundNotFound, RefundNotAllowed for one that is not ABNORMAL,
        WechatRefused or WechatSilent.
        """
        order = await self.orders.find_refund(out_refund_no)
        refund = _refund(order, out_refund_no)
        if refund.refund_status is not RefundStatus.ABNORMAL:
            raise RefundNotAllowed(f"{out_refund_no} is {refund.refund_status}, not ABNORMAL")
        answer = await self.gateway.recover_refund(order, refund)
        if isinstance(answer, Refused):
            raise WechatRefused(out_refund_no, answer)
        if isinstance(answer, Unknown):
            raise WechatSilent(out_refund_no, answer)
        order = await self._take(order, refund, answer, cause)
        return order, _refund(order, out_refund_no)

    async def hear(self, report: RefundReport, cause: str, *, signed: bool) -> None:
        """Take in a refund notification; an unsigned one (V2) is only a reason to ask (v2.md section 12).

        Raises OrderNotFound, RefundNotFound or a Discrepancy; WechatSilent when
        an unsigned word could not be confirmed.
        """
        order = await self.orders.get(report.out_trade_no)
        if not signed:
            refund = order.refund(report.out_refund_no) or Refund(
                out_refund_no=report.out_refund_no,
                refund_fee=report.refund_fee or order.total_fee,
                created_at=self.clock(),
                foreign=True,
            )
            answer = await self.gateway.query_refund(order, refund)
            if isinstance(answer, Refused):
                raise WechatRefused(report.out_refund_no, answer)
            if isinstance(answer, Unknown):
                raise WechatSilent(report.out_refund_no, answer)
            report = answer
        await self.record(report, cause, order)

    async def record(self, report: RefundReport, cause: str, known: Order | None = None) -> Order:
        """Take in WeChat's verified word on a refund; a payment we missed is asked for first."""
        order = known or await self.orders.get(report.out_trade_no)
        if not order.is_paid:
            order = await self.payments.ask(order, cause)
        return await self.payments.change(
            report.out_trade_no, lambda o: o.apply_refund(report, self.clock(), cause), order
        )

    async def look(self) -> int:
        """One round over unsettled refunds whose time has come; return how many were looked at (R40)."""
        due = await self.agenda.due_refunds(self.clock(), ROUND_MAX)
        for start in range(0, len(due), AT_ONCE):
            await asyncio.gather(*(self._look(entry) for entry in due[start : start + AT_ONCE]))
        return len(due)

    async def _carry(self, order: Order, refund: Refund, cause: str, *, refuse: bool) -> Order:
        answer = await self.gateway.refund(order, refund)
        if isinstance(answer, Refused) and answer.meaning not in PASSING:
            return await self._refused(order, refund, answer, cause, refuse=refuse)
        return await self._take(order, refund, answer, cause)

    async def _look(self, due: DueRefund) -> None:
        number = due.refund.out_refund_no
        try:
            if due.refund.refund_status is RefundStatus.PROCESSING and not due.refund.refund_id:
                order = await self.carry(due.order, number, "refund job")
            else:
                order = await self._ask(due.order, due.refund, "refund job")
        except PaymentError as error:  # one refund's trouble is not another's
            log.error("refund %s: %s %s", number, error.code, error)
            order = due.order
        refund = _refund(order, number)
        if not refund.is_settled:
            await self.agenda.postpone_refund(number, next_check(refund, due.checks, self.clock()))

    async def _ask(self, order: Order, refund: Refund, cause: str) -> Order:
        return await self._take(order, refund, await self.gateway.query_refund(order, refund), cause)

    async def _take(
        self, order: Order, refund: Refund, answer: RefundReport | Refused | Unknown, cause: str
    ) -> Order:
        if isinstance(answer, RefundReport):
            return await self.record(answer, cause, order)
        log.warning("refund %s stays %s: %s", refund.out_refund_no, refund.refund_status, answer)
        return order

    async def _refused(
        self, order: Order, refund: Refund, answer: Refused, cause: str, *, refuse: bool
    ) -> Order:
        """A refusal of the call is believed only when WeChat also says that no such refund exists.

        An earlier call under the same number may have been taken, and the refusal
        may speak of the repeat alone.
        """
        truth = await self.gateway.query_refund(order, refund)
        if _is_another(refund, answer, truth):
            log.error("refund %s: WeChat has another refund under this number", refund.out_refund_no)
        elif not (isinstance(truth, Refused) and truth.meaning is Meaning.NO_SUCH_REFUND):
            return await self._take(order, refund, truth, cause)
        order = await self.payments.change(
            order.out_trade_no,
            lambda o: o.refund_refused(refund.out_refund_no, str(answer), self.clock(), cause),
            order,
        )
        if refuse:
            raise WechatRefused(refund.out_refund_no, answer)
        return order

    async def _promise(self, new: NewRefund, number: str, cause: str, keyed: Keyed | None) -> Order:
        now = self.clock()

        def promised(order: Order) -> Order:
            fee = order.refundable_fee if new.refund_fee is None else new.refund_fee
            known = order.refund(number)
            if known is not None and new.refund_fee is None:
                fee = known.refund_fee
            if known is None and new.refund_fee is None and fee == 0:
                raise RefundNotAllowed(f"{order.out_trade_no} has nothing left to refund")
            refund = Refund(out_refund_no=number, refund_fee=fee, reason=new.reason, created_at=now)
            return order.request_refund(refund, now, cause)

        answer = keyed.answer(number, now) if keyed else None
        return await self.payments.change(new.out_trade_no, promised, answer=answer)

    async def _request_keyed(self, new: NewRefund, cause: str, keyed: Keyed, known: Answer | None) -> Answer:
        try:
            if known is None:
                order, refund = await self.request(new, cause, keyed)
                number = refund.out_refund_no
            else:
                number = known.number
                order = await self.carry(await self.orders.find_refund(number), number, cause, refuse=True)
            answer = keyed.answer(number, self.clock(), (order, _refund(order, number)))
        except WechatRefused as error:
            answer = keyed.answer(error.number, self.clock(), error)
        await self.answers.remember(answer)
        return answer


def _is_another(refund: Refund, answer: Refused, truth: RefundReport | Refused | Unknown) -> bool:
    """Whether the number was used before, for another amount: then ours was never made (R34)."""
    if answer.meaning is not Meaning.NUMBER_USED or not isinstance(truth, RefundReport):
        return False
    return truth.refund_fee not in {None, refund.refund_fee}


def _refund(order: Order, out_refund_no: str) -> Refund:
    refund = order.refund(out_refund_no)
    if refund is None:
        raise RefundNotFound(out_refund_no)
    return refund
