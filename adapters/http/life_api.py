"""The calls about the rest of an order's life: pay again, close, refund, history, letters to the shop."""

from collections.abc import Sequence
from datetime import datetime

from attrs import field, frozen
from msgspec import UNSET

from adapters.http.api import created_view, trade_view
from adapters.http.idempotency import Turns, keyed, rendered
from adapters.http.routes import Call, Rendered, Route, Who
from adapters.http.shapes import CreatedView, OneOrder, Success, TradeView
from adapters.http.shapes_life import (
    AskRefund,
    DeliveryView,
    EventView,
    HistoryView,
    LetterView,
    OneLetter,
    OneRefund,
    RefundView,
    ReplayedView,
    WhichLetters,
    WhichRefunds,
)
from application.access import Scope
from application.answers import KeyReused, KeyTaken
from application.errors import Busy, StoreUnavailable, WechatRefused, WechatSilent
from application.outbox import Delivery, Letter, LetterState, Outbox
from application.payments import Payments
from application.ports import Clock, Orders
from application.refunds import NewRefund, Refunds
from domain import errors
from domain.events import Event
from domain.order import OUT_TRADE_NO, Order, Status
from domain.refund import OUT_REFUND_NO, Refund, valid_out_refund_no
from domain.trade import BEIJING

TOUCHING = (errors.OrderNotFound, errors.FeeMismatch, errors.PayeeMismatch, errors.TradeConflict, Busy)
WECHAT = (WechatRefused, WechatSilent, StoreUnavailable)
ONE_REFUND = (errors.RefundNotFound, errors.RefundConflict, *TOUCHING)


@frozen
class OrderLifeApi:
    """What a payer or the shop does with an order after it was made."""

    payments: Payments
    orders: Orders
    outbox: Outbox

    def routes(self) -> tuple[Route, ...]:
        """Pay again, close, history."""
        return (
            Route(
                method="POST",
                path="/api/wechat/pay/pay/{out_trade_no}",
                who=Who.PAYER | Who.BACKEND,
                handler=self.pay,
                scope=Scope.PAY,
                summary="继续支付未完成的订单",
                parameters=OneOrder,
                answer=Success[CreatedView],
                refusals=(*TOUCHING, errors.OrderPaid, errors.OrderEnded, errors.StaleOrder, *WECHAT),
            ),
            Route(
                method="POST",
                path="/api/wechat/pay/close/{out_trade_no}",
                who=Who.PAYER | Who.BACKEND,
                handler=self.close,
                scope=Scope.PAY,
                summary="关闭订单",
                parameters=OneOrder,
                answer=Success[TradeView],
                refusals=(*TOUCHING, errors.OrderPaid, *WECHAT),
            ),
            Route(
                method="GET",
                path="/api/wechat/pay/history/{out_trade_no}",
                who=Who.OPERATOR | Who.BACKEND,
                handler=self.history,
                scope=Scope.READ,
                summary="订单的全部经过",
                parameters=OneOrder,
                answer=Success[HistoryView],
                refusals=(errors.OrderNotFound, StoreUnavailable),
            ),
        )

    async def pay(self, call: Call[None, OneOrder]) -> Success[CreatedView]:
        """The payer comes back: the same order, with what is needed to pay it."""
        number = _order_number(call)
        checkout = await self.payments.pay(number, call.cause, openid=call.caller.openid)
        return Success(data=created_view(checkout))

    async def close(self, call: Call[None, OneOrder]) -> Success[TradeView]:
        """Close at WeChat first, then here; a paid order answers ORDER_PAID."""
        number = _order_number(call)
        order = await self.payments.close(number, call.cause, openid=call.caller.openid)
        return Success(data=trade_view(order))

    async def history(self, call: Call[None, OneOrder]) -> Success[HistoryView]:
        """Each step with its cause, the evidence, and what the shop was told of it."""
        number = _order_number(call)
        events = await self.orders.history(number)
        if not events:
            raise errors.OrderNotFound(number)
        deliveries = await self.outbox.deliveries(number)
        views = tuple(event_view(event, deliveries) for event in events)
        return Success(data=HistoryView(out_trade_no=number, events=views))


@frozen
class RefundApi:
    """Refunds, for the shop's backend and the operator."""

    refunds: Refunds
    turns: Turns = field(factory=Turns)

    def routes(self) -> tuple[Route, ...]:
        """Ask for one, look at one, list them, and send an abnormal one to the merchant's account."""
        refund = Success[RefundView]
        return (
            Route(
                method="POST",
                path="/api/wechat/pay/refund",
                who=Who.OPERATOR | Who.BACKEND,
                handler=self.ask,
                scope=Scope.REFUND,
                summary="申请退款",
                body=AskRefund,
                answer=refund,
                refusals=ASK_REFUSALS,
                idempotent=True,
            ),
            Route(
                method="GET",
                path="/api/wechat/pay/refund/{out_refund_no}",
                who=Who.OPERATOR | Who.BACKEND,
                handler=self.find,
                scope=Scope.READ,
                summary="查询退款",
                parameters=OneRefund,
                answer=refund,
                refusals=(*ONE_REFUND, StoreUnavailable),
            ),
            *self._operator_routes(),
        )

    def _operator_routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/wechat/pay/refunds",
                who=Who.OPERATOR,
                handler=self.list,
                summary="按状态列出退款，默认列出异常退款",
                parameters=WhichRefunds,
                answer=Success[tuple[RefundView, ...]],
                refusals=(StoreUnavailable,),
            ),
            Route(
                method="POST",
                path="/api/wechat/pay/refund/{out_refund_no}/recover",
                who=Who.OPERATOR,
                handler=self.recover,
                summary="异常退款退至商户银行账户",
                parameters=OneRefund,
                answer=Success[RefundView],
                refusals=(*ONE_REFUND, errors.RefundNotAllowed, *WECHAT),
            ),
        )

    async def ask(self, call: Call[AskRefund, None]) -> Success[RefundView] | Rendered:
        """Promise a refund and carry it to WeChat; with an Idempotency-Key, once."""
        wish = call.body
        if not OUT_TRADE_NO.match(wish.out_trade_no):
            raise errors.OrderNotFound("no order has a number like that")
        if wish.out_refund_no is not None:  # an empty one is a caller's mistake, and no wish for a new one
            valid_out_refund_no(None, None, wish.out_refund_no)
        call.trace.out_trade_no = wish.out_trade_no
        new = NewRefund(
            out_trade_no=wish.out_trade_no,
            refund_fee=wish.refund_fee,
            reason=wish.reason or "",
            out_refund_no=wish.out_refund_no or "",
        )
        key = keyed(call, _refunded)
        if key is None:
            return _refunded(await self.refunds.request(new, call.cause))
        async with self.turns.of(key):
            answer = await self.refunds.request_keyed(new, call.cause, key)
        return rendered(answer, call.trace)

    async def find(self, call: Call[None, OneRefund]) -> Success[RefundView]:
        """Where one refund stands."""
        return _refunded(await self.refunds.find(_refund_number(call)))

    async def list(self, call: Call[None, WhichRefunds]) -> Success[tuple[RefundView, ...]]:
        """Refunds of one status, the newest first."""
        wish = call.parameters
        found = await self.refunds.of_status(wish.status, wish.limit)
        return Success(data=tuple(refund_view(order, refund) for order, refund in found))

    async def recover(self, call: Call[None, OneRefund]) -> Success[RefundView]:
        """Send an abnormal refund to the merchant's own account, for the operator to pass on (R39)."""
        return _refunded(await self.refunds.recover(_refund_number(call), call.cause))


ASK_REFUSALS = (
    errors.InvalidFee,
    errors.FeeOutOfRange,
    errors.InvalidRefundNo,
    errors.InvalidReason,
    errors.RefundNotAllowed,
    errors.RefundExceedsPayment,
    errors.TooManyRefunds,
    errors.RefundTooLate,
    errors.RefundNumberReused,
    KeyReused,
    KeyTaken,
    *ONE_REFUND,
    *WECHAT,
)


@frozen
class LetterApi:
    """Letters to the shop's backend, for the operator."""

    outbox: Outbox
    clock: Clock

    def routes(self) -> tuple[Route, ...]:
        """List them, and deliver one again."""
        return (
            Route(
                method="GET",
                path="/api/wechat/pay/webhooks",
                who=Who.OPERATOR,
                handler=self.list,
                summary="发给商户后台的通知",
                parameters=WhichLetters,
                answer=Success[tuple[LetterView, ...]],
                refusals=(StoreUnavailable,),
            ),
            Route(
                method="POST",
                path="/api/wechat/pay/webhooks/{event_id}/replay",
                who=Who.OPERATOR,
                handler=self.replay,
                summary="重新发送一条通知",
                parameters=OneLetter,
                answer=Success[ReplayedView],
                refusals=(errors.Unknown, StoreUnavailable),
            ),
        )

    async def list(self, call: Call[None, WhichLetters]) -> Success[tuple[LetterView, ...]]:
        """The newest letters of a state, or of all."""
        wish = call.parameters
        found = await self.outbox.letters(None if wish.state is UNSET else wish.state, wish.limit)
        return Success(data=tuple(letter_view(letter) for letter in found))

    async def replay(self, call: Call[None, OneLetter]) -> Success[ReplayedView]:
        """Deliver a letter again that was delivered or set aside."""
        event_id = call.parameters.event_id
        if not await self.outbox.replay(event_id, self.clock()):
            raise errors.Unknown(f"no letter {event_id[:80]!r} that was delivered or set aside")
        return Success(data=ReplayedView(event_id=event_id, state=LetterState.WAITING))


def refund_view(order: Order, refund: Refund) -> RefundView:
    """The refund as callers see it."""
    return RefundView(
        out_refund_no=refund.out_refund_no,
        out_trade_no=order.out_trade_no,
        refund_id=refund.refund_id or None,
        status=refund.refund_status,
        refund_fee=refund.refund_fee,
        reason=refund.reason,
        create_time=beijing(refund.created_at),
        success_time=beijing(refund.success_at) if refund.success_at else None,
        failure=refund.failure,
    )


def event_view(event: Event, deliveries: Sequence[Delivery]) -> EventView:
    """One step, with what the shop was told of it."""
    return EventView(
        version=event.version,
        event=event.name,
        time=beijing(event.at),
        cause=event.cause,
        status_before=Status(event.status_before) if event.status_before else None,
        facts=dict(event.facts),
        evidence=event.evidence,
        deliveries=tuple(delivery_view(one) for one in deliveries if one.event_id == event.id),
    )


def delivery_view(delivery: Delivery) -> DeliveryView:
    """One try to tell the shop."""
    return DeliveryView(
        time=beijing(delivery.at),
        heard=delivery.heard,
        status=delivery.status,
        answer=delivery.answer,
        error=delivery.error,
        milliseconds=delivery.milliseconds,
    )


def letter_view(letter: Letter) -> LetterView:
    """One letter."""
    return LetterView(
        event_id=letter.event.id,
        event=letter.event.name,
        out_trade_no=letter.event.out_trade_no,
        state=letter.state,
        tries=letter.tries,
        due_time=beijing(letter.due_at) if letter.due_at else None,
    )


def beijing(at: datetime) -> str:
    """yyyy-MM-ddTHH:mm:ss on WeChat's clock (UTC+8)."""
    return at.astimezone(BEIJING).strftime("%Y-%m-%dT%H:%M:%S")


def _refunded(found: tuple[Order, Refund]) -> Success[RefundView]:
    return Success(data=refund_view(*found))


def _order_number(call: Call[None, OneOrder]) -> str:
    number = call.parameters.out_trade_no
    if not OUT_TRADE_NO.match(number):
        raise errors.OrderNotFound("no order has a number like that")
    call.trace.out_trade_no = number
    return number


def _refund_number(call: Call[None, OneRefund]) -> str:
    number = call.parameters.out_refund_no
    if not OUT_REFUND_NO.match(number):
        raise errors.RefundNotFound("no refund has a number like that")
    return number
