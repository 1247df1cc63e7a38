"""Whatever is asked of them, in whatever order, the stores answer alike."""

from datetime import timedelta
from itertools import count

import pytest
from attrs import Factory, define, evolve, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.store.memory import MemoryStore
from adapters.store.sqlite import SqliteStore
from application.answers import Answer
from application.jobs import Round
from application.outbox import Delivery, LetterState
from domain.errors import PaymentError
from domain.order import Order, Status
from domain.trade import RefundStatus
from tests.sample_orders import NOW, closed, draft, paid, placed, promised, refunded, unanswered

MINUTE = timedelta(minutes=1)
NUMBERS = ("PAY001", "PAY002", "PAY003", "PAY004")
REFUNDS = ("R1", "R2", "R3")
KEYS = ("k1", "k2")
ENDS = (LetterState.DELIVERED, LetterState.WAITING, LetterState.SET_ASIDE)

BIRTHS = {
    1: placed,
    2: unanswered,
    3: lambda number, now: draft(number, now).refused("NOAUTH", now, "api"),
}
STEPS = {
    "prepare": lambda order, _, now: order.prepared("wx43", now, "api"),
    "pay": lambda order, _, now: paid(order, now),
    "close": lambda order, _, now: closed(order, now),
    "promise": lambda order, refund, now: promised(order, refund, 40, now),
    "accept": lambda order, refund, now: refunded(order, refund, "PROCESSING", now),
    "give_back": lambda order, refund, now: refunded(order, refund, "SUCCESS", now, refund_fee=40),
    "strand": lambda order, refund, now: refunded(order, refund, "ABNORMAL", now, refund_fee=40),
    "deny": lambda order, refund, now: order.refund_refused(refund, "no", now, "api"),
}
# What is asked, by name; the more often it stands here, the more often it is asked.
ASKED = [*STEPS, "pay", "promise", "promise", "give_back", "wait", "wait", "wait", "create", "stale"]
ASKED += ["look", "look", "check", "check", "postpone_order", "postpone_refund", "due", "due", "due"]
ASKED += ["settle", "settle", "settle", "replay", "replay", "remember", "forget", "claim", "release"]


@frozen
class Ask:
    """One thing asked of a store, with all that any of them may need."""

    what: str
    number: str = NUMBERS[0]
    refund: str = REFUNDS[0]
    key: str | None = None
    few: int = 1
    minutes: int = 1


@define
class Twin:
    """One store, and what somebody who uses it remembers."""

    store: MemoryStore | SqliteStore
    now: object = NOW
    read: dict[str, Order] = Factory(dict)  # as each order was at its first reading: most often stale
    letters: list = Factory(list)  # every one that was ever claimed here

    async def tell(self, ask):
        """What came of it: an answer, or the name of the refusal."""
        try:
            if ask.what in STEPS:
                return await self.step(ask, await self.store.orders.get(ask.number))
            return await getattr(self, ask.what)(ask)
        except PaymentError as error:
            return type(error).__name__

    async def step(self, ask, order):
        self.read.setdefault(ask.number, order)
        order = STEPS[ask.what](order, ask.refund, self.now)
        await self.store.orders.save(order, self._answer(ask, ask.refund, finished=ask.few > 1))
        return await self.store.orders.get(ask.number)

    async def stale(self, ask):
        order = self.read.get(ask.number) or await self.store.orders.get(ask.number)
        return await self.step(evolve(ask, what="pay"), order)

    async def create(self, ask):
        order = BIRTHS[ask.few](ask.number, self.now)
        await self.store.orders.save(order, self._answer(ask, ask.number, finished=order.prepay_id != ""))

    async def look(self, ask):
        return list(await self.store.agenda.due_orders(self.now, ask.few))

    async def check(self, ask):
        return list(await self.store.agenda.due_refunds(self.now, ask.few))

    async def postpone_order(self, ask):
        await self.store.agenda.postpone_order(ask.number, self.now + ask.minutes * MINUTE)

    async def postpone_refund(self, ask):
        await self.store.agenda.postpone_refund(ask.refund, self.now + ask.minutes * MINUTE)

    async def due(self, ask):
        letters = await self.store.outbox.due(self.now, ask.few)
        claimed = sorted(letters, key=lambda letter: letter.event.id)  # claims come in any order
        self.letters += claimed
        return claimed

    async def settle(self, ask):
        if self.letters:
            letter = self.letters[-1 - NUMBERS.index(ask.number) % len(self.letters)]
            state = ENDS[ask.few - 1]
            heard = state is LetterState.DELIVERED
            delivery = Delivery(event_id=letter.event.id, at=self.now, heard=heard, error=ask.refund)
            until = self.now + ask.minutes * MINUTE if state is LetterState.WAITING else self.now
            await self.store.outbox.settle(letter, delivery, state, until)

    async def replay(self, ask):
        return await self.store.outbox.replay(f"{ask.number}-{ask.few}", self.now)

    async def remember(self, ask):
        await self.store.answers.remember(
            self._answer(evolve(ask, key=ask.key or KEYS[0]), ask.number, finished=ask.few > 1)
        )

    async def forget(self, ask):
        return await self.store.answers.forget(self.now - ask.minutes * MINUTE)

    async def claim(self, ask):
        return await self.store.jobs.claim("sweep", ask.refund, self.now, 10 * MINUTE)

    async def release(self, ask):
        went = Round(at=self.now, done=ask.few, failed=ask.few > 2, next_at=self.now + ask.minutes * MINUTE)
        await self.store.jobs.release("sweep", ask.refund, went)

    async def wait(self, ask):
        self.now += ask.minutes * MINUTE

    async def get(self, ask):
        return await self.store.orders.get(ask.number)

    async def find(self, ask):
        return await self.store.orders.find_refund(ask.refund)

    async def everything(self):
        """All that can be read from the store."""
        orders, outbox = self.store.orders, self.store.outbox
        return [
            *[await self.tell(Ask("get", number)) for number in NUMBERS],
            *[await self.tell(Ask("find", refund=refund)) for refund in REFUNDS],
            *[list(await orders.history(number)) for number in NUMBERS],
            *[list(await orders.of_openid("o1", limit=9, status=status)) for status in (None, *Status)],
            *[list(await orders.refunds_of(status, 9)) for status in RefundStatus],
            *[list(await outbox.deliveries(number)) for number in NUMBERS],
            *[list(await outbox.letters(state, 9)) for state in (None, *LetterState)],
            *[await self.store.answers.recall("o1", key) for key in KEYS],
            await orders.counts(),
            await self.store.agenda.oldest_pending(),
            await outbox.oldest_waiting(),
            list(await self.store.jobs.ran()),
        ]

    def _answer(self, ask, number, *, finished):
        if ask.key is None:
            return None
        promise = Answer(caller="o1", key=ask.key, request_hash="9f86", number=number, at=self.now)
        return evolve(promise, status=200, body=b"{}") if finished else promise


FIRST = [
    *(Ask("create", "PAY001"), Ask("pay", "PAY001"), Ask("promise", "PAY001", "R1")),
    *(Ask("create", "PAY002", few=1), Ask("create", "PAY003", few=2)),
]
asks = st.builds(
    Ask,
    st.sampled_from(ASKED),
    st.sampled_from(NUMBERS),
    st.sampled_from(REFUNDS),
    st.sampled_from((None, None, *KEYS)),
    st.integers(1, 3),
    st.sampled_from((0, 1, 5, 11, 60)),
)
files = count(1)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rest=st.lists(asks, min_size=10, max_size=40))
def test_memory_and_sqlite_give_the_same_answers(runner, tmp_path, rest):
    async def compare():
        sqlite = await SqliteStore.open(tmp_path / f"{next(files)}.db", listening=True)
        # Nothing here outlives the process: there is no disk to wait for.
        await sqlite.engine.writer.work(lambda db: db.execute("PRAGMA synchronous=OFF"))
        try:
            one, other = Twin(MemoryStore(listening=True)), Twin(sqlite)
            for ask in FIRST + rest:
                assert await one.tell(ask) == await other.tell(ask)
            assert await one.everything() == await other.everything()
        finally:
            await sqlite.close()

    runner.run(compare())
