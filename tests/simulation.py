"""A shop on bad days: its service, WeChat, its payers and its backend, and what may never be true of them.

A `Story` takes seeded random acts one after the other. After each, the safety rules are checked; at the end
the weather turns fair, time goes on, the jobs run, and both books have to agree to the fen.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random

from attrs import Factory, define, evolve, field

from adapters.store.memory import MemoryStore
from adapters.store.sqlite import SqliteStore
from adapters.wechat.simulator.codes import Refusal
from application.answers import KEEP, KeyTaken
from application.outbox import LetterState
from application.payments import NewOrder
from application.refunds import NewRefund
from domain.errors import Discrepancy, PaymentError, RefundNotAllowed
from domain.order import Status
from domain.trade import RefundStatus, TradeState
from tests.both_books import check_agreement, check_safety
from tests.crashing import Fuse, Fused, until_death
from tests.simulated_shop import Asked, Service, Shop, keyed
from tests.simulated_wechat import VERSIONS, BookSide, Chances

START = datetime(2024, 1, 1, 1, 2, 3, 456789, tzinfo=UTC)
JUMPS = (  # seconds: mostly moments, now and then days
    *((1, 10), (10, 60), (60, 600), (60, 600), (600, 3600), (600, 3600)),
    *((3600, 9000), (3600, 86_400), (86_400, 4 * 86_400)),
)
SKEWS = (0, 0, 0, 20, -20, 90, -90)  # seconds our clock is ahead of WeChat's; a change may turn it back
QUIET_DAYS, QUIET_HOURS = 16, 8  # after the faults: longer than any order, bank or letter waits


class SafetyBroken(AssertionError):
    """Something that may never be true is; the message holds the seed and the step."""


@define(eq=False)
class Story:
    """One shop from its first order to the day when all is settled."""

    seed: str
    path: object = None  # of the SQLite file; none: in memory
    refund_late: bool = False
    now: datetime = START
    skew: timedelta = timedelta(0)
    chance: Random = field(init=False)
    side: BookSide = field(init=False)
    shop: Shop = Factory(Shop)
    store: object = field(default=None, init=False)
    service: Service = field(default=None, init=False)
    fuse: Fuse = Factory(Fuse)
    crowded: bool = True  # whether several things happen at once
    step: int = 0
    act: str = ""
    handed: set = Factory(set)  # numbers whose pay_params somebody has
    hopeless: set = Factory(set)  # numbers whose payer was told that this payment failed for good
    keys: list = Factory(list)  # what was asked under each Idempotency-Key
    statuses: dict = Factory(dict)
    crashes: int = 0

    def __attrs_post_init__(self):
        self.chance = Random(self.seed)
        self.side = BookSide(Chances(self.seed), lambda: self.now, mute=self.chance.random() < 0.25)

    def clock(self):
        """The time by our machine."""
        return self.now + self.skew

    async def start(self, fuse=None):
        """A fresh process on the same store."""
        if self.path is None:
            self.store = self.store or MemoryStore(listening=True)
        else:
            await self.stop()
            self.store = await SqliteStore.open(self.path, listening=True)
        self.begin(fuse)

    def begin(self, fuse=None):
        """Fresh use cases on the open store."""
        self.fuse = fuse or Fuse()
        self.service = Service.over(
            self.store,
            self.side.gateway(),
            self.shop,
            self.clock,
            fuse=self.fuse,
            chance=self.chance,
            refund_late=self.refund_late,
        )

    async def stop(self):
        """The process ends; what it wrote is there."""
        if self.path is not None and self.store is not None:
            await self.store.close()

    # -- running ---------------------------------------------------------------------------

    async def run(self, steps):
        """Take so many steps in bad weather, then settle. Raises SafetyBroken."""
        try:
            await self.start()
            for self.step in range(1, steps + 1):
                await self.take_step()
                self.statuses = await check_safety(self.store, self.side, self.shop, self.statuses)
            self.act = "the end"
            await self.settle_all()
            self.statuses = await check_safety(self.store, self.side, self.shop, self.statuses)
            await check_agreement(self.store, self.side, self.shop)
        except Exception as error:
            raise SafetyBroken(
                f"seed {self.seed}, step {self.step} ({self.act}): {type(error).__name__}: {error}"
            ) from error
        finally:
            await self.stop()

    async def take_step(self):
        """One act, or a few at once; sometimes the process dies of it."""
        names = self.chance.choices(list(ACTS), list(ACTS.values()), k=self.chance.choice((1, 1, 1, 2, 3)))
        names = names if self.crowded else names[:1]
        self.act = " + ".join(names)
        if self.chance.random() < 0.06:
            self.begin(Fuse(at=self.chance.randint(1, 8), after=self.chance.random() < 0.5))
        work = [self._attempt(name) for name in names]
        if self.fuse.at < 0:
            await asyncio.gather(*work)
            return
        await until_death(*work)
        self.crashes += self.fuse.burnt
        self.act += " (crashed)" if self.fuse.burnt else ""
        await self.start()

    async def _attempt(self, name):
        try:
            await getattr(self, name)()
        except (Discrepancy, KeyTaken):
            raise  # nobody lied to us, and whose key is taken gets the answer that took it
        except (PaymentError, Refusal):
            return  # a refusal is an answer; what matters is what both books say afterwards

    # -- what our callers do ---------------------------------------------------------------

    def _new(self):
        minutes = self.chance.choice((None, 2, 5, 30, 24 * 60, 7 * 24 * 60))
        fee = self.chance.choice((1, 100, self.chance.randint(1, 1_000_000)))
        return NewOrder(
            openid=f"o{self.chance.randint(1, 3)}", total_fee=fee, body="茶", expire_minutes=minutes
        )

    def _placing(self, version):
        """The payments of a shop that is set up to place in that version."""
        return evolve(self.service.payments, gateway=Fused(self.side.gateway(version), self.fuse))

    async def create(self):
        checkout = await self._placing(self.chance.choice(VERSIONS)).create(self._new(), "api")
        self.handed.add(checkout.order.out_trade_no)

    async def create_keyed(self):
        """A new key, or one that was used before; one tap or several."""
        asked = self._asked("create", self._new())
        payments = self._placing(asked.version)
        calls = (payments.create_keyed(asked.new, "api", keyed(asked.key)) for _ in self._taps())
        for answer in await self._all(calls):
            asked.check(answer, self.now)
            if answer.status == 200:
                self.handed.add(answer.number)

    def _asked(self, kind, new):
        known = [asked for asked in self.keys if asked.key.startswith(kind)]
        if known and self.chance.random() < 0.5:
            return self.chance.choice(known)
        self.keys.append(Asked(f"{kind}{len(self.keys)}", new, self.chance.choice(VERSIONS)))
        return self.keys[-1]

    def _taps(self):
        return range(self.chance.choice((1, 1, 3)) if self.crowded else 1)

    async def pay_again(self):
        number = self._some_order()
        checkout = await self.service.payments.pay(number, "api")
        self.handed.add(checkout.order.out_trade_no)

    async def close(self):
        await self.service.payments.close(self._some_order(), "api")

    async def query(self):
        await self.service.payments.query(self._some_order())

    async def refund(self):
        """Partial, full, too much, under a new number or one that is known."""
        await self.service.refunds.request(await self._refund_wish(), "api")

    async def refund_keyed(self):
        asked = self._asked("refund", await self._refund_wish())
        refunds = self.service.refunds
        calls = (refunds.request_keyed(asked.new, "api", keyed(asked.key)) for _ in self._taps())
        for answer in await self._all(calls):
            asked.check(answer, self.now)

    async def find_refund(self):
        await self.service.refunds.find(self._some_refund())

    async def recover_refund(self):
        await self.service.refunds.recover(self._some_refund(), "api")

    async def _refund_wish(self):
        paid = [number for number, status in self.statuses.items() if status is Status.PAID]
        number = self.chance.choice(paid or [self._some_order()])
        order = await self.store.orders.get(number)
        fee = self.chance.choice((None, order.total_fee, self.chance.randint(1, order.total_fee), 1))
        again = self.side.book.refunds and self.chance.random() < 0.15
        known = self.chance.choice(list(self.side.book.refunds)) if again else ""
        return NewRefund(out_trade_no=number, refund_fee=fee, reason="退", out_refund_no=known)

    async def _all(self, calls):
        """Make the same call several times at once; refusals are left out, unless a twin was answered."""
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        answers = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        for outcome in outcomes:
            twin_fell = answers and isinstance(outcome, RefundNotAllowed)
            if isinstance(outcome, Discrepancy | KeyTaken) or twin_fell:
                raise AssertionError(f"one of several taps got {outcome!r}") from outcome
            if isinstance(outcome, BaseException) and not isinstance(outcome, PaymentError):
                raise outcome
        return answers

    def _some_order(self):
        return self.chance.choice(list(self.statuses) or ["PAY000000"])

    def _some_refund(self):
        return self.chance.choice(list(self.side.book.refunds) or ["REF000000"])

    # -- what payers, banks and time do ----------------------------------------------------

    async def pay(self):
        open_ones = [
            n for n in self.handed if n not in self.hopeless and not self.side.book.orders[n].is_paid
        ]
        if open_ones:
            self.side.pay(self.chance.choice(sorted(open_ones)), self.chance.choice(("OTHERS", "CMB_CREDIT")))
        await self.wechat_acts()

    async def fail(self):
        number = self.chance.choice(sorted(self.handed) or ["PAY000000"])
        final = self.chance.random() < 0.3
        self.side.book.fail(number, self.now, final=final)
        if final:
            self.hopeless.add(number)

    async def pay_late(self):
        """The payment was under way when the order was closed; without a notification nobody would know."""
        book = self.side.book.orders
        closed = [
            n
            for n in sorted(self.handed)
            if n not in self.hopeless and book[n].trade_state is TradeState.CLOSED
        ]
        if closed and not self.side.mute:
            self.side.pay_late(self.chance.choice(closed))
        await self.wechat_acts()

    async def bank_decides(self):
        end = self.chance.choice((RefundStatus.SUCCESS, RefundStatus.ABNORMAL, RefundStatus.CLOSED))
        self.side.end_refund(self._some_refund(), end)
        await self.wechat_acts()

    async def forge(self):
        numbers = sorted(set(self.side.book.orders) & set(self.statuses))
        if numbers:
            await self.side.forge(self.service.hear, self.chance.choice(numbers))

    async def time_passes(self):
        low, high = self.chance.choice(JUMPS)
        self.now += timedelta(seconds=self.chance.randint(low, high))
        await self.wechat_acts()

    async def wechat_acts(self):
        """Whatever WeChat had to do by now, it does."""
        await self.side.settle(self.service.hear, lambda: not self.fuse.burnt)

    async def clock_jumps(self):
        self.skew = timedelta(seconds=self.chance.choice(SKEWS))

    async def shop_sleeps(self):
        self.shop.naps, self.shop.mumbles = self.chance.randint(0, 4), self.chance.randint(0, 2)

    async def restart(self):
        if not self.crowded:
            await self.start()

    # -- jobs ------------------------------------------------------------------------------

    async def look_after_orders(self):
        return await self.service.janitor.look()

    async def look_after_refunds(self):
        return await self.service.refunds.look()

    async def deliver(self):
        return await self.service.courier.deliver()

    async def forget_answers(self):
        return await self.service.answers.forget(self.clock() - KEEP)

    async def settle_all(self):
        """Fair weather: every job runs until nothing is due, for longer than anything waits."""
        self.side.clear_up()
        self.shop.naps, self.shop.mumbles, self.skew = 0, 0, timedelta(0)
        for _ in range(QUIET_DAYS * 24 // QUIET_HOURS):
            await self.wechat_acts()
            for job in (self.look_after_orders, self.look_after_refunds, self.replay, self.deliver):
                while await job():
                    pass
            self.now += timedelta(hours=QUIET_HOURS)

    async def replay(self):
        """The operator sends what was set aside again."""
        for letter in await self.store.outbox.letters(LetterState.SET_ASIDE, 100):
            await self.store.outbox.replay(letter.event.id, self.clock())


# What happens how often.
ACTS = {
    "create": 8,
    "create_keyed": 6,
    "pay": 14,
    "fail": 2,
    "pay_late": 2,
    "close": 3,
    "query": 5,
    "pay_again": 4,
    "refund": 9,
    "refund_keyed": 5,
    "find_refund": 3,
    "recover_refund": 1,
    "bank_decides": 2,
    "forge": 2,
    "time_passes": 14,
    "clock_jumps": 1,
    "shop_sleeps": 2,
    "restart": 1,
    "look_after_orders": 7,
    "look_after_refunds": 7,
    "deliver": 8,
    "forget_answers": 1,
}
