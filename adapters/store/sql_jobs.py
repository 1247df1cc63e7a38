"""Which process has which job, in SQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import frozen

from adapters.store.engine import Engine, Step, maybe_moment, micros
from application.jobs import JobBook, Ran, Round

CLAIM = (
    "INSERT INTO jobs (name, holder, held_until) VALUES (:name, :holder, :until)"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until"
    " WHERE jobs.held_until <= :now RETURNING name"
)
# Whoever lost the job to another while its round went on lets nothing go.
RELEASE = (
    "INSERT INTO jobs (name, holder, held_until, last_run_at, runs, done, failures)"
    " VALUES (:name, :holder, :next_at, :at, 1, :done, :failed)"
    " ON CONFLICT (name) DO UPDATE SET"
    " held_until = CASE WHEN jobs.holder = excluded.holder THEN excluded.held_until ELSE jobs.held_until END,"
    " last_run_at = excluded.last_run_at, runs = jobs.runs + 1,"
    " done = jobs.done + excluded.done, failures = jobs.failures + excluded.failures"
)
RAN = "SELECT name, last_run_at, runs, done, failures FROM jobs ORDER BY name"


@frozen
class SqlJobs(JobBook):
    """The job book in a database."""

    engine: Engine

    async def claim(self, name: str, holder: str, now: datetime, lease: timedelta) -> bool:
        values = {"name": name, "holder": holder, "now": micros(now), "until": micros(now + lease)}
        return bool(await self.engine.write([Step(CLAIM, values)]))

    async def release(self, name: str, holder: str, went: Round) -> None:
        values = {
            "name": name,
            "holder": holder,
            "at": micros(went.at),
            "done": went.done,
            "failed": int(went.failed),
            "next_at": micros(went.next_at),
        }
        await self.engine.write([Step(RELEASE, values)])

    async def ran(self) -> Sequence[Ran]:
        rows = await self.engine.read(RAN, {})
        return [
            Ran(name=name, last_run_at=maybe_moment(at), runs=runs, done=done, failures=failures)
            for name, at, runs, done, failures in rows
        ]
