"""Failures explained: what was refused or went wrong at WeChat, counted, with its evidence."""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Protocol

from attrs import Factory, define, evolve, field, frozen

from application.ports import Clock
from domain.errors import Unknown

log = logging.getLogger(__name__)

WRITE_EVERY = timedelta(seconds=10)  # of one failure: a flood of forgeries is no flood of writes
REMEMBERED_MAX = 1000  # failures of which the last write is remembered


class FailureNotFound(Unknown):
    """No failure has this id, or its time was up."""

    code = "FAILURE_NOT_FOUND"


def fingerprint(failure: "Failure") -> str:
    """16 hexadecimal digits: the same for the same failure, for ever."""
    words = f"{failure.kind}\n{failure.code}\n{failure.about}"
    return sha256(words.encode(errors="replace")).hexdigest()[:16]


@frozen(kw_only=True)
class Failure:
    """A notification we refused, or a call that WeChat refused or left open (R28, R48).

    `kind`, `code` and `about` make it the same failure as an earlier one. What
    anybody can send us is never `about` anything but a key of WeChat's that we hold.
    """

    kind: str  # "notify.v2", "notify.v3", "call.prepay", …
    code: str  # which check failed, or WeChat's err_code
    about: str = ""  # the order's number where WeChat's word is proven, else the serial that was named
    detail: str = ""
    out_trade_no: str = ""
    serial: str = ""  # of the key that signed or should have: one we hold, or "unknown"
    request_id: str = ""  # WeChat's
    explanation: str = ""  # what it means and what to do
    headers: Mapping[str, str] = Factory(dict)
    evidence: str = ""  # the message as it came, masked and cut to a bound
    at: datetime
    first_at: datetime = field(default=Factory(lambda failure: failure.at, takes_self=True))
    count: int = 1  # how often it came
    is_alarm: bool = False  # WeChat's proven word against ours: a person has to look
    id: str = field(default=Factory(fingerprint, takes_self=True))


class Failures(Protocol):
    """What went wrong, kept for a person to look at."""

    async def keep(self, failure: Failure) -> None:
        """Keep it; one with the same id takes its place, adding up the count and keeping the first moment."""
        ...

    async def newest(self, limit: int) -> Sequence[Failure]:
        """What came last first."""
        ...

    async def find(self, failure_id: str) -> Failure:
        """Raise FailureNotFound if there is none."""
        ...

    async def forget(self, before: datetime) -> int:
        """Drop what did not come again since; return how many."""
        ...


@define
class FailureBook:
    """Writes each failure at most once in ten seconds and counts it meanwhile, within a bound.

    Evidence never breaks what it is evidence of: what cannot be written is logged, and tried again.
    """

    failures: Failures
    clock: Clock
    keep_for: timedelta = timedelta(days=30)
    write_every: timedelta = WRITE_EVERY
    _written_at: OrderedDict[str, datetime] = field(factory=OrderedDict, init=False)
    _waiting: dict[str, Failure] = field(factory=dict, init=False)

    async def keep(self, failure: Failure) -> None:
        """Write it down, now or with the others of its kind. Never raises for what the store does."""
        self._hold(failure)
        if self._is_due(failure.id, self.clock()):
            await self._write(failure.id)
        while len(self._written_at) > REMEMBERED_MAX:
            oldest = next(iter(self._written_at))
            await self._write(oldest)
            self._written_at.pop(oldest, None)
            self._waiting.pop(oldest, None)

    async def write_down(self, *, all_of_them: bool = False) -> int:
        """Write what waits and is due, or all; return how many."""
        now = self.clock()
        due = [one for one in self._waiting if all_of_them or self._is_due(one, now)]
        for failure_id in due:
            await self._write(failure_id)
        return len(due)

    async def newest(self, limit: int) -> Sequence[Failure]:
        """What came last first, up to this moment."""
        await self.write_down(all_of_them=True)
        return await self.failures.newest(limit)

    async def find(self, failure_id: str) -> Failure:
        """One failure, up to this moment. Raises FailureNotFound."""
        await self.write_down(all_of_them=True)
        return await self.failures.find(failure_id)

    async def forget(self) -> int:
        """Drop what has not come again for as long as evidence is kept."""
        return await self.failures.forget(self.clock() - self.keep_for)

    def _hold(self, failure: Failure) -> None:
        held = self._waiting.get(failure.id)
        if held is not None:
            failure = evolve(failure, first_at=held.first_at, count=held.count + failure.count)
        self._waiting[failure.id] = failure

    def _is_due(self, failure_id: str, now: datetime) -> bool:
        last = self._written_at.get(failure_id)
        return last is None or not last <= now < last + self.write_every

    async def _write(self, failure_id: str) -> None:
        failure = self._waiting.pop(failure_id, None)
        if failure is None:
            return
        self._written_at[failure_id] = self.clock()
        self._written_at.move_to_end(failure_id)
        try:
            await self.failures.keep(failure)
        except Exception:
            log.exception("the evidence was not kept: %s %s %s", failure.kind, failure.code, failure.about)
            later = self._waiting.get(failure_id)
            if later is not None:
                failure = evolve(later, first_at=failure.first_at, count=later.count + failure.count)
            self._waiting[failure_id] = failure
