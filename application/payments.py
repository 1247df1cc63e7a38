"""Payments: create an order, hear WeChat's word on it, tell where it stands."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from attrs import evolve, field, frozen

from application.access import Quote, QuoteUsed, Quoting, unquoted
from application.answers import Answer, Answers, Keyed, KeyReused, KeyTaken
from application.errors import Busy, WechatRefused, WechatSilent
from application.observer import Observer
from application.pacing import Pace
from application.ports import (
    Clock,
    Gateway,
    Meaning,
    Mint,
    Orders,
    Position,
    Prepared,
    Refused,
    Unknown,
)
from domain.errors import (
    Discrepancy,
    InvalidExpiry,
    OrderNotFound,
    OrderPaid,
    RefundNotAllowed,
    RefundNumberReused,
    StaleOrder,
)
from domain.fee import FeeLimits
from domain.order import Order, Status
from domain.refund import Refund
from domain.trade import Trade, TradeState

log = logging.getLogger(__name__)

EXPIRE_MINUTES_MIN = 2  # WeChat wants time_expire more than one minute ahead (v3.md section 6)
EXPIRE_MINUTES_MAX = 7 * 24 * 60  # after that WeChat closes by itself (R17)
TRIES_MAX = 100  # changes of one order that may come between our reading and our saving
NUMBERS_MAX = 3  # new numbers tried when WeChat says that one is taken
PAGE_MAX = 100
CREATED: Mapping[type, str] = {Prepared: "accepted", Refused: "refused"}  # any other is unknown
PASSING = frozenset({Meaning.TOO_FAST, Meaning.NOT_NOW})  # refusals that end by themselves
LATE_REASON = "订单已关闭，付款自动退回"


@frozen(kw_only=True)
class NewOrder:
    """What a caller asks for; total_fee in fen, expire_minutes from now.

    `quoting` checks the shop's quote, where one is needed, and raises what is wrong with it (R9).
    """

    openid: str
    total_fee: int
    body: str
    attach: str = ""
    expire_minutes: int | None = None
    client_ip: str = "127.0.0.1"
    quoting: Quoting = unquoted


@frozen(kw_only=True)
class Checkout:
    """A payable order and the parameters that let the payer pay it."""

    order: Order
    pay_params: Mapping[str, str]


@frozen(kw_only=True)
class Page:
    """Some of a payer's orders, newest first; `next_position` is None on the last page."""

    orders: Sequence[Order]
    next_position: Position | None


@frozen(kw_only=True)
class Payments:
    """The use cases around one payment.

    `refund_late` sends money that came after an order was given up straight back.
    """

    orders: Orders
    answers: Answers
    gateway: Gateway
    clock: Clock
    mint: Mint
    limits: FeeLimits = field(factory=FeeLimits)
    expire_minutes: int = 30
    refund_late: bool = False
    pace: Pace = field(factory=Pace)
    observer: Observer = field(factory=Observer)

    async def create(self, new: NewOrder, cause: str, keyed: Keyed | None = None) -> Checkout:
        """Place an order at WeChat and write it down; only then do pay_params go out.

        Raises InvalidOrder before WeChat is called; WechatRefused (recorded as
        FAILED) or WechatSilent (recorded as PENDING: WeChat may have taken it).
        With a key, the answer is remembered in the same write; raises KeyTaken
        when another request with that key came first. So is the quote, unless WeChat
        refused the order; raises QuoteUsed when another order has it.
        """
        quote = new.quoting()
        if quote is not None and await self.orders.is_quote_used(quote.id):
            raise QuoteUsed("an order was made by this quote")
        order, answer = await self._place(new)
        self.observer.created(CREATED.get(type(answer), "unknown"))
        match answer:
            case Prepared():
                order = order.placed(answer.prepay_id, self.clock(), cause)
                return await self._hand_out(order, keyed, quote)
            case Refused():
                error = WechatRefused(order.out_trade_no, answer)
                order = order.refused(str(answer), self.clock(), cause)
                await self.orders.save(order, self._answer(keyed, order, error))
                raise error
            case Unknown():
                order = order.unanswered(self.clock(), cause)
                await self.orders.save(order, self._answer(keyed, order), quote)
                raise WechatSilent(order.out_trade_no, answer)

    async def create_keyed(self, new: NewOrder, cause: str, keyed: Keyed) -> Answer:
        """As `create`, answering the same key and body with the same answer (R10).

        A create that WeChat left unanswered goes on under the same number. Raises
        KeyReused for another body, else what `create` and `pay` raise.
        """
        known = await self.answers.recall(keyed.caller, keyed.key)
        if known is not None and known.request_hash != keyed.request_hash:
            raise KeyReused("the Idempotency-Key was used with another body")
        if known is not None and known.status:
            return known
        try:
            return await self._create_keyed(new, cause, keyed, known)
        except (KeyTaken, StaleOrder):
            return await self.create_keyed(new, cause, keyed)
        except QuoteUsed:
            # Who used it may be a twin, with the answer for both.
            if known is None and await self.answers.recall(keyed.caller, keyed.key) is not None:
                return await self.create_keyed(new, cause, keyed)
            raise

    async def pay(
        self, out_trade_no: str, cause: str, keyed: Keyed | None = None, *, openid: str | None = None
    ) -> Checkout:
        """The payer comes back: pay_params for the same order, by a fresh prepay_id if the old one is spent.

        Raises OrderNotFound, also for an order that is not of `openid`, OrderPaid, OrderEnded,
        WechatRefused or WechatSilent (R12).
        """
        if openid is not None:
            await self._of(out_trade_no, openid)
        for _ in range(TRIES_MAX):
            try:
                return await self._pay(out_trade_no, cause, keyed)
            except StaleOrder:  # another tap, or news of the payment, came between: look again
                continue
        raise Busy(f"{out_trade_no} keeps changing")

    async def _pay(self, out_trade_no: str, cause: str, keyed: Keyed | None) -> Checkout:
        order = await self.orders.get(out_trade_no)
        order.check_payable(self.clock())
        if order.prepay_is_fresh(self.clock()):
            return await self._hand_out(order, keyed)
        answer = await self.gateway.prepay(order)
        match answer:
            case Prepared():
                order = order.prepared(answer.prepay_id, self.clock(), cause)
                return await self._hand_out(order, keyed)
            case Refused():
                order = await self.ask(order, cause)  # most often: paid or closed meanwhile
                order.check_payable(self.clock())
                raise WechatRefused(out_trade_no, answer)
            case Unknown():
                raise WechatSilent(out_trade_no, answer)

    async def close(self, out_trade_no: str, cause: str, *, openid: str | None = None) -> Order:
        """Close the order at WeChat first, then here; closing a closed one is a success (R16).

        Raises OrderNotFound, also for an order that is not of `openid`, OrderPaid, WechatRefused,
        or WechatSilent: then the order stays as it is and the janitor goes on asking.
        """
        order = await self._of(out_trade_no, openid)
        if not order.is_paid and order.status is not Status.CANCELLED:
            order = await self._close(order, cause)
        if order.is_paid:
            raise OrderPaid(f"{out_trade_no} is {order.status}: refund it instead")
        return order

    async def find(self, out_trade_no: str) -> Order:
        """The order as we hold it. Raises OrderNotFound."""
        return await self.orders.get(out_trade_no)

    async def record(self, trade: Trade, cause: str, known: Order | None = None) -> Order:
        """Take in WeChat's word; on return it is durable. `known` saves the first reading.

        Raises OrderNotFound, or a Discrepancy when the word contradicts what we hold.
        """
        try:
            return await self.change(trade.out_trade_no, lambda o: self._taken(o, trade, cause), known)
        except RefundNumberReused as error:  # the payment is a fact all the same
            log.error("%s: late money can not be sent back: %s", trade.out_trade_no, error)
            return await self.change(trade.out_trade_no, lambda o: o.apply(trade, self.clock(), cause))

    async def query(self, out_trade_no: str, openid: str | None = None) -> Order:
        """The order as it stands; WeChat is asked while money may come, at a bounded pace (R14, R15).

        Raises OrderNotFound, also for an order that is not of `openid`, or a Discrepancy.
        When WeChat is silent, what we hold is the answer.
        """
        order = await self._of(out_trade_no, openid)
        if order.status is not Status.PENDING or not self.pace.may(out_trade_no, self.clock()):
            return order
        return await self.ask(order, "query")

    async def ask(self, order: Order, cause: str) -> Order:
        """Ask WeChat about the order now and take in its word."""
        return await self.take(order, await self.gateway.query(order), cause)

    async def take(self, order: Order, answer: Trade | Refused | Unknown, cause: str) -> Order:
        """Take in what a query answered. Raises a Discrepancy as `record` does."""
        if isinstance(answer, Trade):
            return await self.record(answer, cause, order)
        if isinstance(answer, Refused) and answer.meaning is Meaning.NO_SUCH_ORDER:
            now = self.clock()
            if now < order.expires_at:
                return order
            return await self.change(order.out_trade_no, lambda o: o.lapsed(now, cause), order)
        log.warning("%s: asking WeChat gave no answer: %s", order.out_trade_no, answer)
        return order

    async def orders_of(
        self, openid: str, *, limit: int, after: Position | None = None, status: Status | None = None
    ) -> Page:
        """A page of the payer's orders, newest first; `limit` is cut to 100."""
        limit = min(limit, PAGE_MAX)
        found = await self.orders.of_openid(openid, limit=limit + 1, after=after, status=status)
        more = len(found) > limit
        last = found[limit - 1] if more else None
        return Page(
            orders=found[:limit],
            next_position=Position(last.created_at, last.out_trade_no) if last else None,
        )

    async def stats(self) -> Mapping[Status, int]:
        """How many orders have each status."""
        return await self.orders.counts()

    async def change(
        self,
        out_trade_no: str,
        step: Callable[[Order], Order],
        known: Order | None = None,
        answer: Answer | None = None,
    ) -> Order:
        """Let the domain take one step on the order and save it; read again if it moved meanwhile.

        Raises what the step raises, OrderNotFound, KeyTaken, or Busy after a hundred lost races.
        """
        for _ in range(TRIES_MAX):
            order = self._stepped(step, known or await self.orders.get(out_trade_no))
            try:
                await self.orders.save(order, answer)
            except StaleOrder:
                known = None
                continue
            return evolve(order, events=())
        raise Busy(f"{out_trade_no} keeps changing")

    def _stepped(self, step: Callable[[Order], Order], order: Order) -> Order:
        try:
            return step(order)
        except Discrepancy as error:
            self.observer.disagreed(error.code)
            raise

    async def _create_keyed(self, new: NewOrder, cause: str, keyed: Keyed, known: Answer | None) -> Answer:
        try:
            if known is None:
                checkout = await self.create(new, cause, keyed)
            else:
                checkout = await self.pay(known.number, cause, keyed)
        except WechatRefused as error:
            answer = keyed.answer(error.number, self.clock(), error)
            if known is not None:  # `create` wrote its own down with the order
                if error.answer.meaning in PASSING:
                    raise  # the order is still payable: the promise stands, and the next repeat goes on
                await self.answers.remember(answer)
            return answer
        return keyed.answer(checkout.order.out_trade_no, self.clock(), checkout)

    def _taken(self, order: Order, trade: Trade, cause: str) -> Order:
        was_late, order = order.late, order.apply(trade, self.clock(), cause)
        if order.late and not was_late and self.refund_late:
            now = self.clock()
            # One number for ever: whoever tries again, and however often, means this refund.
            number = late_refund_no(order.out_trade_no)
            refund = Refund(
                out_refund_no=number, refund_fee=order.total_fee, reason=LATE_REASON, created_at=now
            )
            try:
                order = order.request_refund(refund, now, "late payment")
            except RefundNotAllowed as error:  # the payment is a fact all the same
                log.error("%s: late money can not be sent back: %s", order.out_trade_no, error)
        return order

    async def _close(self, order: Order, cause: str) -> Order:
        answer = await self.gateway.close(order)
        if isinstance(answer, Trade):
            return await self.record(answer, cause, order)
        if isinstance(answer, Unknown):
            raise WechatSilent(order.out_trade_no, answer)
        # Paid meanwhile, most often; or never created, or not to be seen yet: a second
        # question decides (v2.md section 8).
        truth = await self.gateway.query(order)
        if answer.meaning is Meaning.NO_SUCH_ORDER:
            if isinstance(truth, Unknown):
                raise WechatSilent(order.out_trade_no, truth)
            if isinstance(truth, Refused) and truth.meaning is Meaning.NO_SUCH_ORDER:
                truth = Trade(out_trade_no=order.out_trade_no, trade_state=TradeState.CLOSED)
        order = await self.take(order, truth, cause)
        if order.status in {Status.PENDING, Status.FAILED}:
            raise WechatRefused(order.out_trade_no, answer)
        return order

    async def _of(self, out_trade_no: str, openid: str | None) -> Order:
        """The order, if it is this payer's; another's is told like one that does not exist."""
        order = await self.orders.get(out_trade_no)
        if openid not in {None, order.openid}:
            raise OrderNotFound(out_trade_no)
        return order

    async def _hand_out(self, order: Order, keyed: Keyed | None, quote: Quote | None = None) -> Checkout:
        """Write the order down with the answer to its key; then pay_params go out."""
        checkout = Checkout(order=order, pay_params=await self.gateway.pay_params(order, self.clock()))
        if order.events:
            await self.orders.save(order, self._answer(keyed, order, checkout), quote)
        elif keyed is not None:
            await self.answers.remember(keyed.answer(order.out_trade_no, self.clock(), checkout))
        return checkout

    def _answer(self, keyed: Keyed | None, order: Order, outcome: object = None) -> Answer | None:
        return None if keyed is None else keyed.answer(order.out_trade_no, self.clock(), outcome)

    async def _place(self, new: NewOrder) -> tuple[Order, Prepared | Refused | Unknown]:
        order = self._draft(new)
        answer = await self.gateway.prepay(order)
        for _ in range(NUMBERS_MAX - 1):
            if not (isinstance(answer, Refused) and answer.meaning is Meaning.NUMBER_USED):
                break
            log.warning("%s is taken at WeChat: placing under a new number", order.out_trade_no)
            order = self._draft(new)
            answer = await self.gateway.prepay(order)
        return order, answer

    def _draft(self, new: NewOrder) -> Order:
        self.limits.check(new.total_fee)
        minutes = self.expire_minutes if new.expire_minutes is None else new.expire_minutes
        if not EXPIRE_MINUTES_MIN <= minutes <= EXPIRE_MINUTES_MAX:
            raise InvalidExpiry(f"expire_minutes must be from {EXPIRE_MINUTES_MIN} to {EXPIRE_MINUTES_MAX}")
        now = self.clock()
        return Order(
            out_trade_no=self.mint(),
            openid=new.openid,
            total_fee=new.total_fee,
            body=new.body,
            attach=new.attach,
            placement=self.gateway.placement(new.client_ip),
            created_at=now,
            # WeChat's wire counts seconds: keep what it is told.
            expires_at=now.replace(microsecond=0) + timedelta(minutes=minutes),
        )


def late_refund_no(out_trade_no: str) -> str:
    """The one number under which a late payment of this order is sent back."""
    return f"REF{out_trade_no.removeprefix('PAY')}"
