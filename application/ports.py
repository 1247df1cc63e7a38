"""What the application needs from the world. Adapters subclass these."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from attrs import frozen

from application.access import Quote
from application.answers import Answer
from domain.events import Event
from domain.order import Order, Placement, Status
from domain.refund import Refund
from domain.trade import RefundReport, RefundStatus, Trade

Clock = Callable[[], datetime]  # aware UTC
Mint = Callable[[], str]  # makes a new number, unique without asking anyone (R7, R34)


# -- WeChat's answers: values, so that none of the three can be overlooked -----------------------


class Meaning(StrEnum):
    """What a definite refusal of WeChat's comes down to; the adapters map every err_code to one."""

    CONFIGURATION = "CONFIGURATION"  # appid, mch_id, keys, rights: the operator mends it
    BAD_REQUEST = "BAD_REQUEST"  # a parameter WeChat does not take
    NUMBER_USED = "NUMBER_USED"  # the number is taken with other parameters
    ALREADY_PAID = "ALREADY_PAID"
    ALREADY_CLOSED = "ALREADY_CLOSED"
    NO_SUCH_ORDER = "NO_SUCH_ORDER"
    NO_SUCH_REFUND = "NO_SUCH_REFUND"
    NOT_ENOUGH = "NOT_ENOUGH"  # the merchant's balance is short: the same number works after topping up
    PAYER = "PAYER"  # the payer's account or choice
    TOO_FAST = "TOO_FAST"  # nothing was done: come back later
    TOO_LATE = "TOO_LATE"  # older than WeChat refunds
    NOT_NOW = "NOT_NOW"  # the state at WeChat forbids it at this moment


@frozen(kw_only=True)
class Refused:
    """WeChat definitely did not do it."""

    meaning: Meaning
    err_code: str
    description: str = ""
    request_id: str = ""
    explanation: str = ""  # ours, for developers: what the code means and what to do

    def __str__(self) -> str:
        return f"{self.err_code} {self.description}".strip()


@frozen(kw_only=True)
class Unknown:
    """WeChat may have done it or not: nothing, or nothing trustworthy, came back. Never a "no"."""

    why: str
    err_code: str = ""
    description: str = ""
    request_id: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.why, self.err_code, self.description) if part)


@frozen(kw_only=True)
class Prepared:
    """WeChat took the order; the prepay_id lives two hours (R12)."""

    prepay_id: str


class Gateway(Protocol):
    """WeChat Pay, whichever protocol version an order speaks. No call raises for what WeChat does."""

    def placement(self, client_ip: str) -> Placement:
        """How a new order is placed as things are set up now."""
        ...

    async def prepay(self, order: Order) -> Prepared | Refused | Unknown:
        """Place the order, or place it again with the identical parameters (R11)."""
        ...

    async def pay_params(self, order: Order, now: datetime) -> Mapping[str, str]:
        """The signed parameters of wx.requestPayment for the order's prepay_id (R1, R2)."""
        ...

    async def query(self, order: Order) -> Trade | Refused | Unknown:
        """WeChat's word on the payment (R14)."""
        ...

    async def close(self, order: Order) -> Trade | Refused | Unknown:
        """Close the order; closing a closed one is a success (R16)."""
        ...

    async def refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        """Carry the refund to WeChat; safe to repeat: WeChat knows it by its out_refund_no (R34)."""
        ...

    async def query_refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        """WeChat's word on the refund (R38)."""
        ...

    async def recover_refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        """Send an ABNORMAL refund to the merchant's own account, for the operator to pass on (R39)."""
        ...


# -- the store: every method is one atomic action ------------------------------------------------


@frozen
class Position:
    """A place in a list that runs from new to old."""

    created_at: datetime
    out_trade_no: str


class Orders(Protocol):
    """The orders and all that hangs on them.

    There is no open transaction to hold: a use case reads an order, lets the
    domain make the next one, and saves it. `save` is refused when someone else
    saved first, and the use case reads again. So nothing can wait for the
    network inside a transaction, and writes of many callers can share a commit.
    """

    async def get(self, out_trade_no: str) -> Order:
        """Raise OrderNotFound if there is none."""
        ...

    async def save(self, order: Order, answer: Answer | None = None, quote: Quote | None = None) -> None:
        """Store the order with its new events, durably; raise StaleOrder if it moved meanwhile.

        An order without new events is already stored: nothing happens. The answer
        is remembered in the same transaction; raises KeyTaken if its key already
        has another one, RefundNumberReused if another order has the refund's number,
        QuoteUsed if an order has the quote already: a quote is kept with its order.
        """
        ...

    async def is_quote_used(self, quote_id: str) -> bool:
        """Whether an order was made by this quote."""
        ...

    async def find_refund(self, out_refund_no: str) -> Order:
        """The order that has this refund; raise RefundNotFound if there is none."""
        ...

    async def refunds_of(self, status: RefundStatus, limit: int) -> Sequence[tuple[Order, Refund]]:
        """Refunds of one status with their orders, the newest first."""
        ...

    async def history(self, out_trade_no: str) -> Sequence[Event]:
        """Everything that ever happened to the order, in order."""
        ...

    async def of_openid(
        self, openid: str, *, limit: int, after: Position | None = None, status: Status | None = None
    ) -> Sequence[Order]:
        """The payer's orders, newest first, at most `limit` of those after the position."""
        ...

    async def newest(self, limit: int, status: Status | None = None) -> Sequence[Order]:
        """The newest orders of all payers, for the operator."""
        ...

    async def counts(self) -> Mapping[Status, int]:
        """How many orders have each status; exact."""
        ...

    async def check(self) -> None:
        """Raise OSError or StoreUnavailable unless the store answers."""
        ...


class RefundEar(Protocol):
    """Who hears WeChat's word on refunds."""

    async def hear(self, report: RefundReport, cause: str, *, signed: bool) -> None:
        """Take it in, durably; one that is not `signed` is confirmed by a query first (v2.md section 12)."""
        ...
