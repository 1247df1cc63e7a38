"""The failures in memory: for tests."""

from collections.abc import Sequence
from datetime import datetime

from attrs import Factory, define, evolve

from application.failures import Failure, FailureNotFound, Failures


@define
class MemoryFailures(Failures):
    """Failures until the process ends."""

    kept: dict[str, Failure] = Factory(dict)

    async def keep(self, failure: Failure) -> None:
        known = self.kept.get(failure.id)
        if known is not None:
            failure = evolve(failure, first_at=known.first_at, count=known.count + failure.count)
        self.kept[failure.id] = failure

    async def newest(self, limit: int) -> Sequence[Failure]:
        return sorted(self.kept.values(), key=lambda failure: failure.at, reverse=True)[:limit]

    async def find(self, failure_id: str) -> Failure:
        if failure_id not in self.kept:
            raise FailureNotFound(failure_id)
        return self.kept[failure_id]

    async def forget(self, before: datetime) -> int:
        old = [name for name, failure in self.kept.items() if failure.at < before]
        for name in old:
            del self.kept[name]
        return len(old)
