"""The calls of the mini-program and the shop's backend."""

from datetime import datetime

import msgspec
from attrs import Factory, field, frozen
from msgspec import UNSET

from adapters.http.address import client_address
from adapters.http.cursor import read_cursor, write_cursor
from adapters.http.errors import InvalidCursor, TooManyRequests
from adapters.http.idempotency import Turns, keyed, rendered
from adapters.http.quotes import Quotes
from adapters.http.routes import Call, Rendered, Route, Who
from adapters.http.shapes import (
    CreatedView,
    CreateOrder,
    OneOrder,
    OrdersAnswer,
    OrdersOf,
    OrderView,
    PayParams,
    StatsView,
    Success,
    TradeView,
)
from application.access import (
    OpenidMismatch,
    QuoteExpired,
    QuoteInvalid,
    QuoteMismatch,
    QuoteRequired,
    QuoteUsed,
    Scope,
)
from application.answers import KeyReused, KeyTaken
from application.errors import Busy, StoreUnavailable, WechatRefused, WechatSilent
from application.payments import Checkout, NewOrder, Payments
from domain.errors import (
    FeeMismatch,
    FeeOutOfRange,
    InvalidAttach,
    InvalidBody,
    InvalidExpiry,
    InvalidFee,
    InvalidOpenid,
    OrderEnded,
    OrderNotFound,
    OrderPaid,
    PayeeMismatch,
    StaleOrder,
    TradeConflict,
)
from domain.order import OUT_TRADE_NO, TRADE_STATE, Order, Status, valid_openid
from domain.trade import BEIJING

CREATE_REFUSALS = (
    InvalidFee,
    FeeOutOfRange,
    InvalidBody,
    InvalidAttach,
    InvalidOpenid,
    InvalidExpiry,
    OpenidMismatch,
    QuoteRequired,
    QuoteInvalid,
    QuoteExpired,
    QuoteMismatch,
    QuoteUsed,
    KeyReused,
    KeyTaken,
    StaleOrder,
    # A create that goes on under its key may meet what became of its order meanwhile.
    OrderPaid,
    OrderEnded,
    FeeMismatch,
    PayeeMismatch,
    TradeConflict,
    TooManyRequests,
    Busy,
    WechatRefused,
    StoreUnavailable,
    WechatSilent,
)
QUERY_REFUSALS = (OrderNotFound, FeeMismatch, PayeeMismatch, TradeConflict, Busy, StoreUnavailable)


@frozen
class PaymentApi:
    """Payments, as existing mini-programs call them."""

    payments: Payments
    turns: Turns = field(factory=Turns)
    # Without a secret: then payers can't order, and others' quotes are not read.
    quotes: Quotes = Factory(lambda self: Quotes(clock=self._now), takes_self=True)

    def routes(self) -> tuple[Route, ...]:
        """The four JSON calls; WeChat's notifications are not JSON calls of ours."""
        return (
            *self._payer_routes(),
            Route(
                method="GET",
                path="/api/wechat/pay/stats",
                who=Who.OPERATOR,
                handler=self.stats,
                summary="获取支付统计",
                answer=Success[StatsView],
                refusals=(StoreUnavailable,),
            ),
        )

    def _payer_routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="POST",
                path="/api/wechat/pay/create",
                who=Who.PAYER | Who.BACKEND,
                handler=self.create,
                scope=Scope.PAY,
                summary="创建支付订单",
                body=CreateOrder,
                answer=Success[CreatedView],
                refusals=CREATE_REFUSALS,
                idempotent=True,
            ),
            Route(
                method="GET",
                path="/api/wechat/pay/query/{out_trade_no}",
                who=Who.PAYER | Who.BACKEND,
                handler=self.query,
                scope=Scope.READ,
                summary="查询支付状态",
                parameters=OneOrder,
                answer=Success[TradeView],
                refusals=QUERY_REFUSALS,
            ),
            Route(
                method="GET",
                path="/api/wechat/pay/orders/{openid}",
                who=Who.PAYER | Who.BACKEND,
                handler=self.orders,
                scope=Scope.READ,
                summary="获取用户订单列表",
                parameters=OrdersOf,
                answer=OrdersAnswer,
                refusals=(InvalidOpenid, InvalidCursor, StoreUnavailable),
            ),
        )

    def _now(self) -> datetime:
        return self.payments.clock()

    async def create(self, call: Call[CreateOrder, None]) -> Success[CreatedView] | Rendered:
        """Place an order and hand out what the payer needs to pay it; with an Idempotency-Key, once.

        A payer orders in no other's name (R20), and at the price of the shop's quote (R9).
        """
        wish = call.body
        if call.caller.openid not in {None, wish.openid}:
            raise OpenidMismatch("the token is another payer's")
        new = NewOrder(
            openid=wish.openid,
            total_fee=wish.total_fee,
            body=wish.body,
            attach=wish.attach or "",
            expire_minutes=wish.expire_minutes,
            client_ip=client_address(call.request),
            quoting=lambda: self.quotes.check(wish, call.caller),
        )
        key = keyed(call, lambda checkout: Success(data=created_view(checkout)))
        if key is not None:
            async with self.turns.of(key):
                answer = await self.payments.create_keyed(new, call.cause, key)
            call.trace.out_trade_no = answer.number
            return rendered(answer, call.trace)
        checkout = await self.payments.create(new, call.cause)
        call.trace.out_trade_no = checkout.order.out_trade_no
        return Success(data=created_view(checkout))

    async def query(self, call: Call[None, OneOrder]) -> Success[TradeView]:
        """Where one payment stands; what cannot be a number of ours is no order of ours."""
        out_trade_no = call.parameters.out_trade_no
        if not OUT_TRADE_NO.match(out_trade_no):
            raise OrderNotFound("no order has a number like that")
        call.trace.out_trade_no = out_trade_no
        return Success(data=trade_view(await self.payments.query(out_trade_no, call.caller.openid)))

    async def orders(self, call: Call[None, OrdersOf]) -> OrdersAnswer:
        """One page of a payer's orders. Raises InvalidOpenid or InvalidCursor."""
        wish = call.parameters
        call.caller.check_own(wish.openid)
        valid_openid(None, None, wish.openid)
        page = await self.payments.orders_of(
            wish.openid,
            limit=wish.limit,
            after=None if wish.cursor is UNSET else read_cursor(wish.cursor),
            status=None if wish.status is UNSET else wish.status,
        )
        return OrdersAnswer(
            data=[order_view(order) for order in page.orders],
            next_cursor=write_cursor(page.next_position) if page.next_position else None,
        )

    async def stats(self, _call: Call[None, None]) -> Success[StatsView]:
        """How many orders stand where."""
        counts = await self.payments.stats()
        each = {status.lower(): counts.get(status, 0) for status in Status}
        return Success(data=StatsView(total=sum(each.values()), **each))


def created_view(checkout: Checkout) -> CreatedView:
    """A payable order."""
    pay_params = msgspec.convert(checkout.pay_params, PayParams)
    return CreatedView(out_trade_no=checkout.order.out_trade_no, pay_params=pay_params)


def trade_view(order: Order) -> TradeView:
    """The order in WeChat's words."""
    return TradeView(
        out_trade_no=order.out_trade_no,
        transaction_id=order.transaction_id or None,
        trade_state=TRADE_STATE[order.status],
        total_fee=str(order.total_fee),
        time_end=time_end(order.paid_at),
    )


def order_view(order: Order) -> OrderView:
    """The order as a line of its payer's list."""
    return OrderView(
        out_trade_no=order.out_trade_no,
        total_fee=order.total_fee,
        body=order.body,
        status=order.status,
        create_time=order.created_at.astimezone(BEIJING).strftime("%Y-%m-%dT%H:%M:%S"),
        time_end=time_end(order.paid_at),
    )


def time_end(paid_at: datetime | None) -> str | None:
    """yyyyMMddHHmmss on WeChat's clock (UTC+8)."""
    return paid_at.astimezone(BEIJING).strftime("%Y%m%d%H%M%S") if paid_at else None
