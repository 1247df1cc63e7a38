"""The letters to the shop's backend, in SQL."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen

from adapters.store.engine import Engine, Step, micros, moment
from adapters.store.sql_orders import event_of
from application.outbox import Delivery, Letter, LetterState, Outbox

LEASE = timedelta(minutes=5)  # longer than any try takes
EVENT_ID = re.compile(r"(.+)-([1-9][0-9]{0,17})")

# A letter that is replayed waits beside a later one of its order: the later one is not due before it.
CLAIM = (
    "UPDATE outbox SET due_at = :until, tries = tries + 1 WHERE (out_trade_no, version) IN"
    " (SELECT out_trade_no, version FROM outbox o WHERE state = 'WAITING' AND due_at <= :now"
    " AND NOT EXISTS (SELECT 1 FROM outbox WHERE out_trade_no = o.out_trade_no"
    " AND version < o.version AND state = 'WAITING')"
    " ORDER BY due_at, out_trade_no, version LIMIT :limit)"
    # Said backwards, or SQLite walks all that is due instead of looking up the few chosen.
    " AND NOT (state <> 'WAITING' OR due_at > :now)"
    " RETURNING out_trade_no, version, tries"
)
EVENT = (
    "SELECT name, out_trade_no, version, at, cause, facts, status_before, evidence FROM events"
    " WHERE out_trade_no = :out_trade_no AND version = :version"
)
# Holds the order's row, so that nobody adds a letter while the next one is let through.
HOLD = "UPDATE orders SET version = version WHERE out_trade_no = :out_trade_no"
# Whoever comes back after the lease ran out takes nothing back: what was heard stays heard.
SETTLE = (
    "UPDATE outbox SET state = :state, due_at = :due_at"
    " WHERE out_trade_no = :out_trade_no AND version = :version"
    " AND (state = 'WAITING' OR :state = 'DELIVERED')"
)
NEXT = (
    "UPDATE outbox SET state = 'WAITING', due_at = :now WHERE out_trade_no = :out_trade_no"
    " AND version = (SELECT MIN(version) FROM outbox WHERE out_trade_no = :out_trade_no AND state = 'BEHIND')"
    " AND NOT EXISTS (SELECT 1 FROM outbox WHERE out_trade_no = :out_trade_no AND state = 'WAITING')"
)
NEW_DELIVERY = (
    "INSERT INTO deliveries (out_trade_no, version, attempt, at, heard, status, answer, error, milliseconds)"
    " VALUES (:out_trade_no, :version, :attempt, :at, :heard, :status, :answer, :error, :milliseconds)"
    " ON CONFLICT DO NOTHING"
)
REPLAY = (
    "UPDATE outbox SET state = 'WAITING', due_at = :now, tries = 0"
    " WHERE out_trade_no = :out_trade_no AND version = :version AND state IN ('DELIVERED', 'SET_ASIDE')"
    " RETURNING version"
)
LETTERS = (
    "SELECT e.name, e.out_trade_no, e.version, e.at, e.cause, e.facts, e.status_before, e.evidence,"
    " o.tries, o.state, o.due_at FROM ({inner}) o"
    " JOIN events e ON e.out_trade_no = o.out_trade_no AND e.version = o.version"
    " ORDER BY o.due_at DESC, o.out_trade_no DESC, o.version DESC"
)
NEWEST_FIRST = " ORDER BY due_at DESC, out_trade_no DESC, version DESC LIMIT :limit"
OF_STATE = LETTERS.format(inner="SELECT * FROM outbox WHERE state = :state" + NEWEST_FIRST)
OF_ALL = LETTERS.format(inner="SELECT * FROM outbox" + NEWEST_FIRST)
DELIVERIES = (
    "SELECT out_trade_no, version, at, heard, status, answer, error, milliseconds FROM deliveries"
    " WHERE out_trade_no = :out_trade_no ORDER BY at, version, attempt"
)
OLDEST_WAITING = "SELECT event_at FROM outbox WHERE state = 'WAITING' ORDER BY event_at LIMIT 1"


@frozen
class SqlOutbox(Outbox):
    """The outbox in a database."""

    engine: Engine

    async def due(self, now: datetime, limit: int) -> Sequence[Letter]:
        values = {"now": micros(now), "until": micros(now + LEASE), "limit": limit}
        letters = []
        for out_trade_no, version, tries in await self.engine.write([Step(CLAIM, values)]):
            for row in await self.engine.read(EVENT, {"out_trade_no": out_trade_no, "version": version}):
                letters.append(Letter(event_of(row), tries - 1, LetterState.WAITING, now + LEASE))
        return letters

    async def settle(self, letter: Letter, delivery: Delivery, state: LetterState, due_at: datetime) -> None:
        place = {"out_trade_no": letter.event.out_trade_no, "version": letter.event.version}
        tried = {
            "attempt": letter.tries + 1,
            "at": micros(delivery.at),
            "heard": int(delivery.heard),
            "status": delivery.status,
            "answer": delivery.answer,
            "error": delivery.error,
            "milliseconds": delivery.milliseconds,
        }
        steps = [
            Step(HOLD, {"out_trade_no": letter.event.out_trade_no}),
            Step(SETTLE, place | {"state": state.value, "due_at": micros(due_at)}),
            Step(NEW_DELIVERY, place | tried),
        ]
        if state is not LetterState.WAITING:
            steps.append(Step(NEXT, {"out_trade_no": letter.event.out_trade_no, "now": micros(due_at)}))
        await self.engine.write(steps)

    async def letters(self, state: LetterState | None, limit: int) -> Sequence[Letter]:
        if state is None:
            rows = await self.engine.read(OF_ALL, {"limit": limit})
        else:
            rows = await self.engine.read(OF_STATE, {"state": state.value, "limit": limit})
        return [_letter_of(row) for row in rows]

    async def replay(self, event_id: str, now: datetime) -> bool:
        place = EVENT_ID.fullmatch(event_id)
        if place is None:
            return False
        values = {"out_trade_no": place[1], "version": int(place[2]), "now": micros(now)}
        return bool(await self.engine.write([Step(REPLAY, values)]))

    async def deliveries(self, out_trade_no: str) -> Sequence[Delivery]:
        return [
            _delivery_of(row) for row in await self.engine.read(DELIVERIES, {"out_trade_no": out_trade_no})
        ]

    async def oldest_waiting(self) -> datetime | None:
        for (at,) in await self.engine.read(OLDEST_WAITING, {}):
            return moment(at)
        return None


def _letter_of(row: Sequence[Any]) -> Letter:
    tries, state, due_at = row[-3:]
    return Letter(event_of(row[:-3]), tries, LetterState(state), moment(due_at))


def _delivery_of(row: Sequence[Any]) -> Delivery:
    out_trade_no, version, at, heard, status, answer, error, milliseconds = row
    return Delivery(
        event_id=f"{out_trade_no}-{version}",
        at=moment(at),
        heard=bool(heard),
        status=status,
        answer=answer,
        error=error,
        milliseconds=milliseconds,
    )
