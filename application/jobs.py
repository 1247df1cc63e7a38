"""The work that repeats: each job a bounded round, done by one process at a time."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from attrs import field, frozen

from application.ports import Clock

log = logging.getLogger(__name__)

ROUND_TIME = timedelta(minutes=10)  # the lease: a process that died holds a job no longer than this
SIGN_OF_LIFE = timedelta(minutes=1)  # an idle round is written down this often, so that a stopped job shows


@frozen(kw_only=True)
class Job:
    """One kind of repeated work; `round` returns how many things it did.

    A job whose round claims its own entries is `shared`: every process may run it.
    """

    name: str
    round: Callable[[], Awaitable[int]]
    every: timedelta
    shared: bool = False


@frozen(kw_only=True)
class Ran:
    """What is known of a job: when it last ran, how often, how many things it did, how often it failed."""

    name: str
    last_run_at: datetime | None
    runs: int
    done: int
    failures: int


@frozen(kw_only=True)
class Round:
    """How one round of a job went; nobody may claim the job before `next_at`."""

    at: datetime
    done: int
    failed: bool
    next_at: datetime


class JobBook(Protocol):
    """Which process has which job, and what became of it."""

    async def claim(self, name: str, holder: str, now: datetime, lease: timedelta) -> bool:
        """Take the job, if no other living process holds it."""
        ...

    async def release(self, name: str, holder: str, went: Round) -> None:
        """Write down how the round went and let the job go."""
        ...

    async def ran(self) -> Sequence[Ran]:
        """What is known of every job."""
        ...


@frozen(kw_only=True)
class Foreman:
    """Runs jobs, one round at a time."""

    book: JobBook
    clock: Clock
    holder: str
    shown_at: dict[str, datetime] = field(factory=dict)  # when this process last wrote a round of a job down

    async def run(self, job: Job) -> int:
        """Run one round if the job is ours to run; return how many things it did.

        A round that raises is logged and counted, and the next one comes all the same;
        so it does when the book itself can't be read or written.
        """
        try:
            return await self._run(job)
        except Exception:
            log.exception("job %s: the book of jobs could not be kept", job.name)
            return 0

    async def _run(self, job: Job) -> int:
        if not job.shared and not await self.book.claim(job.name, self.holder, self.clock(), ROUND_TIME):
            return 0
        done, failed = 0, False
        try:
            done = await job.round()
        except Exception:
            failed = True
            log.exception("job %s: the round failed", job.name)
        now = self.clock()
        if done or failed or not job.shared or self._is_quiet(job.name, now):
            self.shown_at[job.name] = now
            next_at = now if job.shared else now + job.every
            await self.book.release(
                job.name, self.holder, Round(at=now, done=done, failed=failed, next_at=next_at)
            )
        return done

    def _is_quiet(self, name: str, now: datetime) -> bool:
        last = self.shown_at.get(name)
        return last is None or not last <= now < last + SIGN_OF_LIFE
