"""One shop for the tests: its orders and WeChat's words on them, a clock, a store, and WeChat's side."""

from collections import deque
from datetime import UTC, datetime, timedelta
from itertools import count

from attrs import Factory, define, evolve

from adapters.store.memory import MemoryStore
from application.payments import NewOrder, Payments
from application.ports import Gateway, Meaning, Prepared, Refused, Unknown
from domain.errors import StaleOrder
from domain.order import Order, Placement
from domain.refund import Refund
from domain.trade import RefundReport, RefundStatus, Trade, TradeState

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
INSTANT = timedelta(microseconds=1)
PLACEMENT = Placement(
    appid="wx1",
    mch_id="1230000109",
    api_version="v2",
    sign_type="HMAC-SHA256",
    notify_url="https://shop.example/notify",
    client_ip="203.0.113.7",
)
TEA = NewOrder(openid="o1", total_fee=100, body="茶", attach="桌 7", client_ip="203.0.113.7")

NO_ANSWER = Unknown(why="timed out")
TAKEN = Refused(meaning=Meaning.NUMBER_USED, err_code="OUT_TRADE_NO_USED")
NO_RIGHTS = Refused(meaning=Meaning.CONFIGURATION, err_code="NOAUTH", description="商户无权限")
NO_SUCH_ORDER = Refused(meaning=Meaning.NO_SUCH_ORDER, err_code="ORDERNOTEXIST")
TOO_FAST = Refused(meaning=Meaning.TOO_FAST, err_code="FREQUENCY_LIMITED")


def a_draft(**changes) -> Order:
    """An order of 100 fen that nobody has placed yet."""
    fields = {
        "out_trade_no": "PAY001",
        "openid": "o1",
        "total_fee": 100,
        "body": "茶",
        "placement": PLACEMENT,
        "created_at": NOW,
        "expires_at": NOW + timedelta(minutes=30),
    }
    return Order(**(fields | changes))


def an_order(**changes) -> Order:
    """An order that WeChat took."""
    return a_draft(**changes).placed("wx42", NOW, "api")


def a_trade(trade_state="SUCCESS", **changes) -> Trade:
    """WeChat's word on that order."""
    fields = {"out_trade_no": "PAY001", "total_fee": 100, "transaction_id": "42", "time_end": NOW}
    return Trade(trade_state=TradeState(trade_state), **(fields | changes))


def a_refund(refund_fee=60, out_refund_no="R1", **changes) -> Refund:
    """A refund as it is promised."""
    return Refund(out_refund_no=out_refund_no, refund_fee=refund_fee, created_at=NOW, **changes)


def a_report(refund_status="SUCCESS", out_refund_no="R1", **changes) -> RefundReport:
    """WeChat's word on a refund of that order."""
    return RefundReport(
        out_trade_no="PAY001",
        out_refund_no=out_refund_no,
        refund_status=RefundStatus(refund_status),
        **changes,
    )


@define
class Clock:
    """A clock that tests move by hand."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@define
class Shelf(MemoryStore):
    """A store where others save first as often as `races` says."""

    races: int = 0
    saves: int = 0

    async def save(self, order, *beside, **more):
        self.saves += 1
        if self.races:
            self.races -= 1
            raise StaleOrder(order.out_trade_no)
        await super().save(order, *beside, **more)

    @property
    def names(self):
        """What happened to all orders, in order."""
        return [event.name for event in self.events]


@define
class Wechat(Gateway):
    """WeChat as its answers: to placing in turn (and then always yes), one to queries, one to closing."""

    answers: deque = Factory(deque)
    word: Trade | Refused | Unknown = NO_ANSWER
    closing: Trade | Refused | Unknown = NO_ANSWER
    placed: list = Factory(list)
    asked: list = Factory(list)
    closed: list = Factory(list)

    def placement(self, client_ip):
        return evolve(PLACEMENT, client_ip=client_ip)

    async def prepay(self, order):
        self.placed.append(order)
        return self.answers.popleft() if self.answers else Prepared(prepay_id=f"wx{len(self.placed)}")

    async def pay_params(self, order, now):
        return {"package": f"prepay_id={order.prepay_id}", "timeStamp": str(int(now.timestamp()))}

    async def query(self, order):
        self.asked.append(order.out_trade_no)
        return self.word

    async def close(self, order):
        self.closed.append(order.out_trade_no)
        return self.closing


def the_payments(shelf, wechat, clock) -> Payments:
    """The use cases over these, with numbers PAY001, PAY002 and so on."""
    serial = count(1)
    return Payments(
        orders=shelf, answers=shelf, gateway=wechat, clock=clock, mint=lambda: f"PAY{next(serial):03}"
    )
