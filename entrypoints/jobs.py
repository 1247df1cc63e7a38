"""The loops that run the jobs beside the server or alone."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from attrs import define, field, frozen

from adapters.wechat.certificates import Certificates
from application.answers import KEEP, Answers
from application.courier import Courier
from application.failures import FailureBook
from application.janitor import Janitor
from application.jobs import Foreman, Job
from application.ports import Clock
from application.refunds import Refunds


@frozen(kw_only=True)
class Work:
    """Everything that repeats; each round is bounded. `with_courier`: only where a shop listens."""

    janitor: Janitor
    refunds: Refunds
    courier: Courier
    answers: Answers
    certificates: Certificates
    failures: FailureBook
    clock: Clock

    def own_jobs(self) -> Sequence[Job]:
        """What every process does for itself: it holds its own ring of WeChat's keys, and counts failures."""
        return (
            Job(name="evidence", round=self.write_failures, every=timedelta(seconds=10), shared=True),
            Job(name="certificates", round=self.renew_certificates, every=timedelta(minutes=1), shared=True),
        )

    def jobs(self, *, with_courier: bool) -> Sequence[Job]:
        """What is to be done once, whichever process does it."""
        courier = Job(name="courier", round=self.courier.deliver, every=timedelta(seconds=1), shared=True)
        return (
            *((courier,) if with_courier else ()),
            Job(name="janitor", round=self.janitor.look, every=timedelta(seconds=5), shared=True),
            Job(name="refunds", round=self.refunds.look, every=timedelta(seconds=5), shared=True),
            Job(name="answers", round=self.forget_answers, every=timedelta(hours=1)),
            Job(name="failures", round=self.failures.forget, every=timedelta(hours=1)),
        )

    async def forget_answers(self) -> int:
        """Drop what was answered under idempotency keys two days ago."""
        return await self.answers.forget(self.clock() - KEEP)

    async def write_failures(self) -> int:
        """Write down what was only counted since; there is never more to do at once."""
        await self.failures.write_down()
        return 0

    async def renew_certificates(self) -> int:
        """Bring WeChat's keys up to date when that is due; a failure is tried again the next minute."""
        if self.certificates.refresh_due(self.clock()):
            await self.certificates.refresh()
        return 0


@define
class Workshop:
    """Runs each job again and again until it is told to stop; a round under way ends first."""

    foreman: Foreman
    jobs: Sequence[Job]
    _stopping: asyncio.Event = field(factory=asyncio.Event, init=False)
    _loops: list[asyncio.Task[None]] = field(factory=list, init=False)

    def start(self) -> None:
        """Begin the loops."""
        self._loops = [asyncio.create_task(self._repeat(job), name=job.name) for job in self.jobs]

    async def stop(self) -> None:
        """Let every round that is under way end, then return."""
        self._stopping.set()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def _repeat(self, job: Job) -> None:
        while not self._stopping.is_set():
            done = await self.foreman.run(job)
            if done and job.shared:
                continue  # there may be more
            try:
                await asyncio.wait_for(self._stopping.wait(), job.every.total_seconds())
            except TimeoutError:
                continue
