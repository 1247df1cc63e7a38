"""WeChat without a wire: a gateway and a notifier over the simulator's book, in any weather.

What goes wrong follows from the seed, the number concerned and how often it came up, never from the order
in which threads happen to run: so a seed gives the same story again.
"""

import asyncio
import heapq
from collections import Counter
from datetime import timedelta
from itertools import count
from random import Random

from attrs import Factory, define, evolve, field

from adapters.wechat.errors import Call, judge
from adapters.wechat.simulator.book import Book
from adapters.wechat.simulator.gateway import BookGateway, report_of, trade_of
from adapters.wechat.simulator.notifier import SCHEDULE_SECONDS
from adapters.wechat.simulator.orders import Form
from application.ports import Unknown
from domain.errors import PaymentError
from domain.trade import RefundReport, RefundStatus, Trade, TradeState
from tests.crashing import Crash

APPID, MCH_ID = "wx0123456789abcdef", "1900000109"
VERSIONS = (("v2", "MD5"), ("v2", "HMAC-SHA256"), ("v3", "RSA"))

# How often calls fail, and how; the rest goes well.
CALLS = {"before": 0.10, "after": 0.10, "refuse": 0.06}
NOTIFICATIONS = {"drop": 0.3, "delay": 0.1, "duplicate": 0.15, "forged": 0.1}
REFUNDS = {"abnormal": 0.15, "closed": 0.1, "days": 0.3}
ENDS = {"abnormal": RefundStatus.ABNORMAL, "closed": RefundStatus.CLOSED}
# Refusals that are true at the moment they are given, and need not be a minute later.
REFUSALS = {
    Call.PREPAY: ("FREQUENCY_LIMITED", "NOAUTH", "SYSTEMERROR", "RULELIMIT"),
    Call.QUERY: ("SYSTEMERROR", "FREQUENCY_LIMITED", "NOAUTH"),
    Call.CLOSE: ("SYSTEMERROR", "FREQUENCY_LIMITED", "TRADE_STATE_ERROR"),
    Call.REFUND: (
        "NOTENOUGH",
        "BIZERR_NEED_RETRY",
        "FREQUENCY_LIMITED",
        "SYSTEMERROR",
        "USER_ACCOUNT_ABNORMAL",
    ),
    Call.QUERY_REFUND: ("SYSTEMERROR", "FREQUENCY_LIMITED"),
    Call.RECOVER_REFUND: ("SYSTEMERROR", "NOTENOUGH"),
}


@define
class Chances:
    """Draws what goes wrong, by name."""

    seed: str
    fair: bool = False
    drawn: Counter = Factory(Counter)

    def of(self, about: str) -> Random:
        """Chance of its own for this question, each time it comes up."""
        self.drawn[about] += 1
        return Random(f"{self.seed} {about} {self.drawn[about]}")

    def draw(self, rates, about: str) -> str:
        """One kind of fault, or none."""
        left = self.of(about).random()
        for kind, rate in {} if self.fair else rates.items():
            left -= rate
            if left < 0:
                return kind
        return ""


@define(eq=False)
class StormyGateway(BookGateway):
    """The book's answers, except where the weather keeps calls or answers back."""

    chances: Chances = None
    version: tuple = VERSIONS[0]

    def placement(self, client_ip):
        version, sign_type = self.version
        return evolve(super().placement(client_ip), api_version=version, sign_type=sign_type)

    async def prepay(self, order):
        return await self._call(Call.PREPAY, order, lambda: BookGateway.prepay(self, order))

    async def query(self, order):
        return await self._call(Call.QUERY, order, lambda: BookGateway.query(self, order))

    async def close(self, order):
        return await self._call(Call.CLOSE, order, lambda: BookGateway.close(self, order))

    async def refund(self, order, refund):
        return await self._call(Call.REFUND, order, lambda: self._take(order, refund))

    async def query_refund(self, order, refund):
        def find():
            return BookGateway.query_refund(self, order, refund)

        return await self._call(Call.QUERY_REFUND, order, find)

    async def recover_refund(self, order, refund):
        def recover():
            return BookGateway.recover_refund(self, order, refund)

        if order.placement.api_version == "v2":
            return judge(Call.RECOVER_REFUND, "NOAUTH")
        return await self._call(Call.RECOVER_REFUND, order, recover)

    async def _take(self, order, refund):
        """Some refunds take days, and some end badly."""
        number, refunds = refund.out_refund_no, self.book.refunds
        kind = "" if number in refunds else self.chances.draw(REFUNDS, f"refund {number}")
        answer = await BookGateway.refund(self, order, refund)
        if kind and number in refunds:
            taken = refunds[number]
            due_at = taken.created_at + timedelta(days=3) if kind == "days" else taken.due_at
            refunds[number] = evolve(taken, outcome=ENDS.get(kind, taken.outcome), due_at=due_at)
        if isinstance(answer, RefundReport) and order.placement.api_version == "v2":
            return evolve(answer, refund_status=RefundStatus.PROCESSING)  # V2 tells no more (R38)
        return answer

    async def _call(self, call, order, act):
        about = f"{call} {order.out_trade_no}"
        kind = self.chances.draw(CALLS, about)
        await self._dawdle(about)
        if kind == "before":
            return Unknown(why="nothing came back, nothing was done")
        if kind == "refuse":
            return judge(call, self.chances.of(f"{about} code").choice(REFUSALS[call]))
        answer = await act()
        await self._dawdle(about)
        return Unknown(why="nothing came back, though it was done") if kind == "after" else answer

    async def _dawdle(self, about):
        """Let others go ahead, a few times or not at all."""
        for _ in range(self.chances.of(f"{about} pace").randint(0, 5)):
            await asyncio.sleep(0)


@define(eq=False)
class Notice:
    """Some news of WeChat's, told until it is heard."""

    word: Trade | RefundReport
    signed: bool = True
    heard: bool = False
    given_up: bool = False


@define(eq=False)
class BookSide:
    """WeChat as a whole: the book, the payer's acts, the banks, and the notifier on its schedule (R29)."""

    chances: Chances
    now: object
    mute: bool = False  # every notification is lost (R30)
    book: Book = field(init=False)
    notices: list = Factory(list)
    _due: list = Factory(list)
    _serial: object = Factory(count)

    def __attrs_post_init__(self):
        self.book = Book(APPID, MCH_ID, Random(self.chances.seed))

    def gateway(self, version=VERSIONS[0]):
        """A line to this WeChat that places orders in that version."""
        return StormyGateway(self.book, self.now, chances=self.chances, version=version)

    def clear_up(self):
        """From now on calls and notifications go well, except that a mute WeChat stays mute."""
        self.chances.fair = True

    def heard(self):
        """What the merchant has acknowledged: out_trade_no, out_refund_no or "", whether it was ABNORMAL."""
        for notice in self.notices:
            if notice.heard:
                word = notice.word
                number = word.out_refund_no if isinstance(word, RefundReport) else ""
                yield word.out_trade_no, number, number and word.refund_status is RefundStatus.ABNORMAL

    def pay(self, out_trade_no, bank_type="OTHERS"):
        """The payer pays; raise Refusal if it can't be."""
        self._tell(Notice(trade_of(self.book.pay(out_trade_no, self.now(), bank_type))))

    def pay_late(self, out_trade_no):
        """Money that was under way when the order was closed."""
        order = self.book.orders[out_trade_no]
        self.book.orders[out_trade_no] = evolve(
            order, trade_state=TradeState.NOTPAY, expires_at=self.now() + timedelta(days=9)
        )
        self.book.place(order.request, self.now())
        self.pay(out_trade_no)

    def end_refund(self, out_refund_no, status):
        """The bank, or a person in the merchant platform, ends the refund now."""
        self._tell_refund(self.book.end_refund(out_refund_no, status, self.now()))

    async def settle(self, hear, alive):
        """What is due on WeChat's calendar happens; `hear` is the merchant's ear, while `alive()`."""
        for number in list(self.book.refunds):
            if ended := self.book.settle_refund(number, self.now()):
                self._tell_refund(ended)
        while alive() and self._due and self._due[0][0] <= self.now():
            due_at, _, tries, notice, fault = heapq.heappop(self._due)
            await self._attempt(due_at, tries, notice, fault, hear)

    async def forge(self, hear, number):
        """Somebody who is not WeChat but signs rightly says that an order is paid, with a lie in it."""
        order = self.book.orders[number]
        paid = Trade(
            out_trade_no=number, trade_state=TradeState.SUCCESS, total_fee=order.total_fee, transaction_id="1"
        )
        chance = self.chances.of("forgery")
        await _told(hear, evolve(paid, **chance.choice(LIES)), signed=True)

    def _tell_refund(self, refund):
        v2 = refund.request.form is Form.V2
        self._tell(Notice(report_of(refund), signed=not v2))

    def _tell(self, notice):
        self.notices.append(notice)
        self._plan(self.now(), 0, notice)

    def _plan(self, due_at, tries, notice, fault=None):
        heapq.heappush(self._due, (due_at, next(self._serial), tries, notice, fault))

    async def _attempt(self, due_at, tries, notice, fault, hear):
        word = notice.word
        if fault is None:
            fault = "drop" if self.mute else self.chances.draw(NOTIFICATIONS, f"notify {word.out_trade_no}")
            if fault == "delay":
                self._plan(due_at + timedelta(seconds=90), tries, notice, "late")
                return
        if fault == "forged":
            await _told(hear, evolve(word, mch_id="1900000000"), signed=notice.signed)
        elif fault != "drop":
            ears = [_told(hear, word, signed=notice.signed) for _ in range(2 if fault == "duplicate" else 1)]
            notice.heard = all(await asyncio.gather(*ears)) or notice.heard
        if notice.heard:
            return
        if tries == len(SCHEDULE_SECONDS):
            notice.given_up = True
            return
        self._plan(due_at + timedelta(seconds=SCHEDULE_SECONDS[tries]), tries + 1, notice)


LIES = ({"total_fee": 1_000_001}, {"mch_id": "1900000000"}, {"appid": "wx1"}, {"currency": "USD"})


async def _told(hear, word, *, signed):
    """Whether the merchant took it in."""
    try:
        await hear(word, signed=signed)
    except (PaymentError, Crash):  # a process that died has not answered
        return False
    return True
