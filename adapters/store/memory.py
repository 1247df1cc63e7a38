"""A store in memory: for tests, held to the same contract as the others.

Every method runs to its end without giving way, so each is atomic by nature.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from attrs import Factory, define, evolve

from adapters.store.memory_failures import MemoryFailures
from adapters.store.memory_keys import MemoryKeys
from application.access import Quote, QuoteUsed
from application.agenda import LEASE, Agenda, DueOrder, DueRefund, first_check, first_look
from application.answers import PROMISED, Answer, Answers, KeyTaken
from application.jobs import JobBook, Ran, Round
from application.outbox import Delivery, Letter, LetterState, Outbox
from application.ports import Orders, Position
from domain.errors import OrderNotFound, RefundNotFound, RefundNumberReused, StaleOrder
from domain.events import Event
from domain.order import Order, Status
from domain.refund import Refund
from domain.trade import RefundStatus

LETTER_LEASE = timedelta(minutes=5)


@define
class Appointment:
    """When an entry of the agenda is due, and how often it has been claimed."""

    at: datetime
    claims: int = 0


@define
class MemoryStore(Orders, Answers, Agenda, Outbox, JobBook):
    """Everything minitill keeps, until the process ends."""

    listening: bool = False
    rows: dict[str, Order] = Factory(dict)
    events: list[Event] = Factory(list)
    failures: MemoryFailures = Factory(MemoryFailures)
    keys: MemoryKeys = Factory(MemoryKeys)
    quotes: set[str] = Factory(set)
    answered: dict[tuple[str, str], Answer] = Factory(dict)
    looks: dict[str, Appointment] = Factory(dict)
    checks: dict[str, Appointment] = Factory(dict)
    post: dict[str, Letter] = Factory(dict)
    tried: dict[tuple[str, datetime, int, int], Delivery] = Factory(dict)
    held: dict[str, tuple[str, datetime]] = Factory(dict)
    rounds: dict[str, Ran] = Factory(dict)

    @property
    def orders(self) -> "MemoryStore":
        """This store is its own set of orders, and so on."""
        return self

    answers = agenda = outbox = jobs = orders

    async def close(self) -> None:
        """There is nothing to close."""

    # -- orders ----------------------------------------------------------------------------

    async def get(self, out_trade_no: str) -> Order:
        if out_trade_no not in self.rows:
            raise OrderNotFound(out_trade_no)
        return self.rows[out_trade_no]

    async def save(self, order: Order, answer: Answer | None = None, quote: Quote | None = None) -> None:
        if not order.events:
            return
        row = self.rows.get(order.out_trade_no)
        if (row.version if row else 0) != order.version - len(order.events):
            raise StaleOrder(order.out_trade_no)
        taken = self._refund_numbers() & ({r.out_refund_no for r in order.refunds} - _numbers(row))
        if taken:
            raise RefundNumberReused(f"{min(taken)} belongs to another order")
        if answer is not None:
            self._check_taken(answer)
        if quote is not None:
            if quote.id in self.quotes:
                raise QuoteUsed("an order was made by this quote")
            self.quotes.add(quote.id)
        if answer is not None:
            self._remember(answer)
        self.rows[order.out_trade_no] = evolve(order, events=())
        self.events.extend(order.events)
        self._appoint(order, new=row is None)
        if self.listening:
            for event in order.events:
                self._post(event)

    async def is_quote_used(self, quote_id: str) -> bool:
        return quote_id in self.quotes

    async def find_refund(self, out_refund_no: str) -> Order:
        for order in self.rows.values():
            if order.refund(out_refund_no):
                return order
        raise RefundNotFound(out_refund_no)

    async def refunds_of(self, status: RefundStatus, limit: int) -> Sequence[tuple[Order, Refund]]:
        found = [(o, r) for o in self.rows.values() for r in o.refunds if r.refund_status is status]
        found.sort(key=lambda pair: (pair[1].created_at, pair[1].out_refund_no), reverse=True)
        return found[:limit]

    async def history(self, out_trade_no: str) -> Sequence[Event]:
        return [event for event in self.events if event.out_trade_no == out_trade_no]

    async def of_openid(
        self, openid: str, *, limit: int, after: Position | None = None, status: Status | None = None
    ) -> Sequence[Order]:
        found = [o for o in self.rows.values() if o.openid == openid and status in (None, o.status)]
        found.sort(key=lambda o: (o.created_at, o.out_trade_no), reverse=True)
        if after is not None:
            edge = (after.created_at, after.out_trade_no)
            found = [o for o in found if (o.created_at, o.out_trade_no) < edge]
        return found[:limit]

    async def newest(self, limit: int, status: Status | None = None) -> Sequence[Order]:
        found = [o for o in self.rows.values() if status in (None, o.status)]
        return sorted(found, key=lambda o: o.out_trade_no, reverse=True)[:limit]

    async def counts(self) -> Mapping[Status, int]:
        counted = Counter(order.status for order in self.rows.values())
        return {status: counted[status] for status in Status}

    async def check(self) -> None:
        return

    # -- answers ---------------------------------------------------------------------------

    async def recall(self, caller: str, key: str) -> Answer | None:
        return self.answered.get((caller, key))

    async def remember(self, answer: Answer) -> None:
        self._remember(answer)

    async def forget(self, before: datetime) -> int:
        old = []
        for place, answer in self.answered.items():
            if answer.at < (before if answer.status else before - PROMISED):
                old.append(place)
        for place in old:
            del self.answered[place]
        return len(old)

    # -- agenda ----------------------------------------------------------------------------

    async def due_orders(self, now: datetime, limit: int) -> Sequence[DueOrder]:
        return [DueOrder(self.rows[n], self.looks[n].claims) for n in _claim(self.looks, now, limit)]

    async def postpone_order(self, out_trade_no: str, until: datetime) -> None:
        if out_trade_no in self.looks:
            self.looks[out_trade_no].at = until

    async def due_refunds(self, now: datetime, limit: int) -> Sequence[DueRefund]:
        due = []
        for number in _claim(self.checks, now, limit):
            order = await self.find_refund(number)
            refund = order.refund(number)
            if refund is not None:
                due.append(DueRefund(order, refund, self.checks[number].claims))
        return due

    async def postpone_refund(self, out_refund_no: str, until: datetime) -> None:
        if out_refund_no in self.checks:
            self.checks[out_refund_no].at = until

    async def oldest_pending(self) -> datetime | None:
        return min((o.created_at for o in self.rows.values() if o.status is Status.PENDING), default=None)

    async def unanswered(self, limit: int) -> Sequence[datetime]:
        return sorted(o.created_at for o in self.rows.values() if o.is_unanswered)[:limit]

    # -- outbox ----------------------------------------------------------------------------

    async def due(self, now: datetime, limit: int) -> Sequence[Letter]:
        first: dict[str, Letter] = {}
        for letter in sorted(self.post.values(), key=lambda letter: letter.event.version):
            if letter.state is LetterState.WAITING:
                first.setdefault(letter.event.out_trade_no, letter)
        ready = sorted((letter for letter in first.values() if _due_at(letter) <= now), key=_place)[:limit]
        for letter in ready:
            self.post[letter.event.id] = evolve(letter, tries=letter.tries + 1, due_at=now + LETTER_LEASE)
        return [evolve(letter, due_at=now + LETTER_LEASE) for letter in ready]

    async def settle(self, letter: Letter, delivery: Delivery, state: LetterState, due_at: datetime) -> None:
        event = letter.event
        self.tried.setdefault((event.out_trade_no, delivery.at, event.version, letter.tries), delivery)
        known = self.post[event.id]
        if known.state is LetterState.WAITING or state is LetterState.DELIVERED:
            self.post[event.id] = evolve(known, state=state, due_at=due_at)
        if state is not LetterState.WAITING:
            self._let_through(event.out_trade_no, due_at)

    async def letters(self, state: LetterState | None, limit: int) -> Sequence[Letter]:
        found = [letter for letter in self.post.values() if state in (None, letter.state)]
        return sorted(found, key=_place, reverse=True)[:limit]

    async def replay(self, event_id: str, now: datetime) -> bool:
        letter = self.post.get(event_id)
        if letter is None or letter.state not in {LetterState.DELIVERED, LetterState.SET_ASIDE}:
            return False
        self.post[event_id] = evolve(letter, state=LetterState.WAITING, tries=0, due_at=now)
        return True

    async def deliveries(self, out_trade_no: str) -> Sequence[Delivery]:
        return [self.tried[place] for place in sorted(self.tried) if place[0] == out_trade_no]

    async def oldest_waiting(self) -> datetime | None:
        waiting = [letter.event.at for letter in self.post.values() if letter.state is LetterState.WAITING]
        return min(waiting, default=None)

    # -- jobs ------------------------------------------------------------------------------

    async def claim(self, name: str, holder: str, now: datetime, lease: timedelta) -> bool:
        if name in self.held and self.held[name][1] > now:
            return False
        self.held[name] = holder, now + lease
        self.rounds.setdefault(name, _never_ran(name))
        return True

    async def release(self, name: str, holder: str, went: Round) -> None:
        old = self.rounds.get(name, _never_ran(name))
        if self.held.get(name, (holder,))[0] == holder:
            self.held[name] = holder, went.next_at
        self.rounds[name] = Ran(
            name=name,
            last_run_at=went.at,
            runs=old.runs + 1,
            done=old.done + went.done,
            failures=old.failures + int(went.failed),
        )

    async def ran(self) -> Sequence[Ran]:
        return [self.rounds[name] for name in sorted(self.rounds)]

    # -- inside ----------------------------------------------------------------------------

    def _refund_numbers(self) -> set[str]:
        return {r.out_refund_no for order in self.rows.values() for r in order.refunds}

    def _check_taken(self, answer: Answer) -> Answer | None:
        known = self.answered.get((answer.caller, answer.key))
        if known is not None and (known.status or not answer.status or known.number != answer.number):
            raise KeyTaken(f"the key of {answer.number} has another answer")
        return known

    def _remember(self, answer: Answer) -> None:
        known = self._check_taken(answer)
        if known is not None:
            answer = evolve(answer, request_hash=known.request_hash)
        self.answered[answer.caller, answer.key] = answer

    def _appoint(self, order: Order, *, new: bool) -> None:
        if order.status is not Status.PENDING:
            self.looks.pop(order.out_trade_no, None)
        elif new:
            self.looks[order.out_trade_no] = Appointment(first_look(order))
        for refund in order.refunds:
            if refund.is_settled:
                self.checks.pop(refund.out_refund_no, None)
            else:
                self.checks.setdefault(refund.out_refund_no, Appointment(first_check(refund)))

    def _post(self, event: Event) -> None:
        if event.is_public:
            ahead = any(_waits(x) for x in self.post.values() if x.event.out_trade_no == event.out_trade_no)
            state = LetterState.BEHIND if ahead else LetterState.WAITING
            self.post[event.id] = Letter(event, 0, state, event.at)

    def _let_through(self, out_trade_no: str, now: datetime) -> None:
        same = [letter for letter in self.post.values() if letter.event.out_trade_no == out_trade_no]
        behind = [letter for letter in same if letter.state is LetterState.BEHIND]
        if behind and not any(letter.state is LetterState.WAITING for letter in same):
            first = min(behind, key=lambda letter: letter.event.version)
            self.post[first.event.id] = evolve(first, state=LetterState.WAITING, due_at=now)


def _numbers(order: Order | None) -> set[str]:
    return {r.out_refund_no for r in order.refunds} if order else set()


def _waits(letter: Letter) -> bool:
    return letter.state in {LetterState.WAITING, LetterState.BEHIND}


def _due_at(letter: Letter) -> datetime:
    return letter.due_at or letter.event.at


def _place(letter: Letter) -> tuple[datetime, str, int]:
    return _due_at(letter), letter.event.out_trade_no, letter.event.version


def _never_ran(name: str) -> Ran:
    return Ran(name=name, last_run_at=None, runs=0, done=0, failures=0)


def _claim(appointments: dict[str, Appointment], now: datetime, limit: int) -> list[str]:
    due = sorted((entry.at, number) for number, entry in appointments.items() if entry.at <= now)
    for _, number in due[:limit]:
        appointments[number].at = now + LEASE
        appointments[number].claims += 1
    return [number for _, number in due[:limit]]
