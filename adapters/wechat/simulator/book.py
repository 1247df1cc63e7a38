"""WeChat's book: its orders and refunds, what may happen to them, and in what order.

No wire and no clock: every method takes the moment. It is the judge of our own book.
"""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta

from attrs import Factory, define, evolve, field

from adapters.wechat.simulator.codes import Refusal
from adapters.wechat.simulator.orders import (
    LIFE_OF_ORDER,
    LIFE_OF_PREPAY,
    OUT_REFUND_NO,
    OrderRequest,
    PlatformOrder,
    PlatformRefund,
    RefundRequest,
    check_notify_url,
    check_order,
)
from domain.trade import BEIJING, RefundStatus, TradeState

REFUND_WINDOW = timedelta(days=365)  # after the payment (R37)
REFUNDS_MAX = 50  # an order (R36)
WALLET = "OTHERS"  # bank_type of a payment from the payer's balance
WALLET_REFUND = timedelta(seconds=3)  # WeChat says minutes; nobody wants to wait them in a first try
BANK_DAYS = (1, 3)  # working days, both ends included
SATURDAY = 5

STATES: Mapping[TradeState, str] = {
    TradeState.SUCCESS: "支付成功",
    TradeState.REFUND: "转入退款",
    TradeState.NOTPAY: "订单未支付",
    TradeState.CLOSED: "订单已关闭",
    TradeState.PAYERROR: "支付失败",
}


def chance(seed: int) -> random.Random:
    """Seeded chance: the same seed gives the same numbers and faults; it guards nothing."""
    return random.Random(seed)  # noqa: S311 - see above


@define
class Book:
    """All that WeChat knows of one merchant."""

    appid: str
    mch_id: str
    chance: random.Random = field(factory=lambda: chance(0), repr=False)
    orders: dict[str, PlatformOrder] = Factory(dict)
    refunds: dict[str, PlatformRefund] = Factory(dict)
    # Whose they are: each transaction_id and prepay_id, and each order's refunds, as numbers.
    _owners: dict[str, str] = field(factory=dict, repr=False)
    _refunds_of: dict[str, list[str]] = field(factory=dict, repr=False)

    # -------------------------------------------------------------- the merchant's calls

    def place(self, request: OrderRequest, now: datetime) -> str:
        """Take an order and return a prepay_id, good for two hours; a repeat gets a new one (R11, R12)."""
        if (request.appid, request.mch_id) != (self.appid, self.mch_id):
            raise Refusal("APPID_MCHID_NOT_MATCH")
        known = self._current(request.out_trade_no, now)
        if known is not None:
            if known.is_paid:
                raise Refusal("ORDER_PAID")
            if not known.is_payable:
                raise Refusal("ORDER_CLOSED")
            if known.request.fingerprint != request.fingerprint:
                raise Refusal("NUMBER_REUSED")
        else:
            check_order(request, now)
            known = PlatformOrder(
                request=request, created_at=now, expires_at=request.expires_at or now + LIFE_OF_ORDER
            )
        prepay_id = f"wx{_beijing(now)}{self.chance.getrandbits(64):016x}0000"
        prepays = (*known.prepays, (prepay_id, now + LIFE_OF_PREPAY))
        self._owners[prepay_id] = request.out_trade_no
        self.orders[request.out_trade_no] = evolve(known, prepays=prepays)
        return prepay_id

    def order(self, out_trade_no: str, now: datetime) -> PlatformOrder:
        """The order in any state; raise Refusal ORDER_NOT_EXIST."""
        order = self._current(out_trade_no, now)
        if order is None:
            raise Refusal("ORDER_NOT_EXIST")
        return order

    def transaction(self, transaction_id: str, now: datetime) -> PlatformOrder:
        """The paid order of that transaction_id; raise Refusal ORDER_NOT_EXIST."""
        return self.order(self._owners.get(transaction_id, ""), now)

    def prepaid(self, prepay_id: str, now: datetime) -> PlatformOrder:
        """The order a prepay_id belongs to; raise Refusal ORDER_NOT_EXIST."""
        return self.order(self._owners.get(prepay_id, ""), now)

    def close(self, out_trade_no: str, now: datetime) -> None:
        """Close an unpaid order; raise Refusal ORDER_PAID or ORDER_CLOSED (R16)."""
        order = self.order(out_trade_no, now)
        if order.is_paid:
            raise Refusal("ORDER_PAID")
        if not order.is_payable:
            raise Refusal("ORDER_CLOSED")
        self.orders[out_trade_no] = evolve(order, trade_state=TradeState.CLOSED)

    def refund(
        self,
        request: RefundRequest,
        now: datetime,
        *,
        outcome: RefundStatus = RefundStatus.SUCCESS,
        delay: timedelta | None = None,
    ) -> PlatformRefund:
        """Take a refund, done later; the same number and amounts again give the same refund (R34).

        `outcome` and `delay` are the simulator's to choose: how it will end, and when if not as usual.
        """
        order = self._refundable(request, now)
        known = self.refunds.get(request.out_refund_no)
        if known is not None:
            same = (known.refund_fee, known.request.total_fee) == (request.refund_fee, request.total_fee)
            if not same or known.out_trade_no != order.out_trade_no:
                raise Refusal("REFUND_FEE_MISMATCH")
            return known
        self._check_refund(request, order, now)
        refund = PlatformRefund(
            request=request,
            order=order,
            refund_id=f"503000{_beijing(now)}{self.chance.randrange(10**9):09}",
            created_at=now,
            due_at=now + delay if delay is not None else self._usual_end(order, now),
            outcome=outcome,
            received_account="支付用户零钱" if order.bank_type == WALLET else f"{order.bank_type}0403",
        )
        self.refunds[request.out_refund_no] = refund
        self._refunds_of.setdefault(order.out_trade_no, []).append(request.out_refund_no)
        self.orders[order.out_trade_no] = evolve(order, trade_state=TradeState.REFUND)
        return refund

    def find_refund(self, out_refund_no: str) -> PlatformRefund:
        """Raise Refusal REFUND_NOT_EXIST."""
        try:
            return self.refunds[out_refund_no]
        except KeyError:
            raise Refusal("REFUND_NOT_EXIST") from None

    def refunds_of(self, order: PlatformOrder) -> list[PlatformRefund]:
        """The order's refunds, oldest first."""
        return [self.refunds[number] for number in self._refunds_of.get(order.out_trade_no, ())]

    def retry_abnormal(self, refund_id: str, out_refund_no: str, now: datetime) -> PlatformRefund:
        """Send a refund the bank refused on another way (v3.md section 8); it takes banking days (R39)."""
        refund = self.find_refund(out_refund_no)
        if refund.refund_id != refund_id:
            raise Refusal("REFUND_NOT_EXIST")
        if refund.status is not RefundStatus.ABNORMAL:
            raise Refusal("INVALID_REQUEST", "退款单状态不是异常，不能发起异常退款")
        refund = evolve(
            refund,
            status=RefundStatus.PROCESSING,
            outcome=RefundStatus.SUCCESS,
            due_at=self._bank_day(now),
        )
        self.refunds[out_refund_no] = refund
        return refund

    # -------------------------------------------------------------- the payer's and the banks' acts

    def pay(self, out_trade_no: str, now: datetime, bank_type: str = WALLET) -> PlatformOrder:
        """The payer enters the password, and money moves; raise Refusal if it cannot."""
        order = self.check_payable(out_trade_no, now)
        order = evolve(
            order,
            trade_state=TradeState.SUCCESS,
            transaction_id=f"4200{_beijing(now)}{self.chance.randrange(10**10):010}",
            paid_at=now.replace(microsecond=0),
            bank_type=bank_type,
        )
        self.orders[out_trade_no] = order
        self._owners[order.transaction_id] = out_trade_no
        return order

    def fail(self, out_trade_no: str, now: datetime, *, final: bool = False) -> PlatformOrder:
        """An attempt fails; the order stays payable (R17). `final` shows PAYERROR, as a bank's no does."""
        order = self.check_payable(out_trade_no, now)
        state = TradeState.PAYERROR if final else order.trade_state
        order = evolve(order, failed_attempts=order.failed_attempts + 1, trade_state=state)
        self.orders[out_trade_no] = order
        return order

    def check_payable(self, out_trade_no: str, now: datetime) -> PlatformOrder:
        """The order, if a payer may pay it now; raise Refusal otherwise."""
        order = self.order(out_trade_no, now)
        if order.is_paid:
            raise Refusal("ORDER_PAID")
        if not order.is_payable:
            raise Refusal("ORDER_CLOSED")
        if all(until <= now for _, until in order.prepays):
            raise Refusal("PREPAY_EXPIRED")
        return order

    def settle_refund(self, out_refund_no: str, now: datetime) -> PlatformRefund | None:
        """What was due becomes true; return the refund if something changed."""
        refund = self.refunds.get(out_refund_no)
        if refund is None or refund.outcome is None or now < refund.due_at:
            return None
        return self.end_refund(out_refund_no, refund.outcome, now)

    def end_refund(self, out_refund_no: str, status: RefundStatus, now: datetime) -> PlatformRefund:
        """End a refund now, in that way; raise Refusal if it has ended before."""
        refund = self.find_refund(out_refund_no)
        if refund.status in {RefundStatus.SUCCESS, RefundStatus.CLOSED}:
            raise Refusal("INVALID_REQUEST", f"退款单已是终态 {refund.status}")
        done = status is RefundStatus.SUCCESS
        at = now.replace(microsecond=0)
        refund = evolve(refund, status=status, outcome=None, success_at=at if done else None)
        self.refunds[out_refund_no] = refund
        return refund

    def clear(self) -> None:
        """Forget everything."""
        for shelf in (self.orders, self.refunds, self._owners, self._refunds_of):
            shelf.clear()

    # -------------------------------------------------------------- within

    def _current(self, out_trade_no: str, now: datetime) -> PlatformOrder | None:
        """The order as it is now: an unpaid one closes by itself when its time is up."""
        order = self.orders.get(out_trade_no)
        if order is not None and order.is_payable and now >= order.expires_at:
            order = self.orders[out_trade_no] = evolve(order, trade_state=TradeState.CLOSED)
        return order

    def _refundable(self, request: RefundRequest, now: datetime) -> PlatformOrder:
        """The paid order a refund names; the transaction_id wins over the number."""
        try:
            if request.transaction_id:
                return self.transaction(request.transaction_id, now)
            order = self.order(request.out_trade_no, now)
        except Refusal:
            raise Refusal("REFUND_ORDER_NOT_EXIST") from None
        if not order.is_paid:
            raise Refusal("REFUND_ORDER_NOT_EXIST", "订单未支付")
        return order

    def _check_refund(self, request: RefundRequest, order: PlatformOrder, now: datetime) -> None:
        if not OUT_REFUND_NO.fullmatch(request.out_refund_no):
            raise Refusal("PARAM_ERROR", "商户退款单号不符合规则", field="out_refund_no")
        if request.notify_url:
            check_notify_url(request.notify_url)
        if request.total_fee != order.total_fee:
            raise Refusal("INVALID_REQUEST", "订单金额与请求中的total不一致", field="total_fee")
        if request.refund_fee < 1:
            raise Refusal("PARAM_ERROR", "退款金额必须大于0", field="refund_fee")
        if order.paid_at is not None and now - order.paid_at > REFUND_WINDOW:
            raise Refusal("TRADE_OVERDUE")
        earlier = self.refunds_of(order)
        if len(earlier) >= REFUNDS_MAX:
            raise Refusal("REFUND_TOO_MANY")
        given_back = sum(refund.refund_fee for refund in earlier if refund.holds_money)
        if given_back + request.refund_fee > order.total_fee:
            raise Refusal("REFUND_EXCEEDS")

    def _usual_end(self, order: PlatformOrder, now: datetime) -> datetime:
        return now + WALLET_REFUND if order.bank_type == WALLET else self._bank_day(now)

    def _bank_day(self, now: datetime) -> datetime:
        """One to three working days ahead, in the bank's country; holidays are not known here."""
        day = now.astimezone(BEIJING)
        left = self.chance.randint(*BANK_DAYS)
        while left:
            day += timedelta(days=1)
            left -= day.weekday() < SATURDAY
        return day.astimezone(now.tzinfo)


def _beijing(moment: datetime) -> str:
    """`yyyyMMddHHmmss` on WeChat's clock."""
    return moment.astimezone(BEIJING).strftime("%Y%m%d%H%M%S")
