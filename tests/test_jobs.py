"""The work that repeats: a round that breaks, or a book that can't be written, ends no job."""

import asyncio
from datetime import UTC, datetime, timedelta

from attrs import define

from adapters.store.memory import MemoryStore
from application.errors import StoreUnavailable
from application.jobs import Foreman, Job
from entrypoints.jobs import Workshop

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@define
class BrokenBook(MemoryStore):
    """A job book on a disk that gave way, for as long as `broken`."""

    broken: bool = True

    async def claim(self, name, holder, now, lease):
        if self.broken:
            raise StoreUnavailable("SQLite: database is locked")
        return await super().claim(name, holder, now, lease)

    async def release(self, name, holder, went):
        if self.broken:
            raise StoreUnavailable("SQLite: database is locked")
        await super().release(name, holder, went)


async def test_a_book_that_can_not_be_written_ends_no_job():
    """R30: the janitor comes back when the disk does."""
    book = BrokenBook()
    rounds = {"alone": 0, "shared": 0}
    enough = asyncio.Event()

    def job(name, *, shared):
        async def one_round():
            rounds[name] += 1
            if rounds["shared"] >= 3:
                book.broken = False
            if rounds["alone"] and rounds["shared"] >= 5:
                enough.set()
            return 0

        return Job(name=name, round=one_round, every=timedelta(microseconds=1), shared=shared)

    workshop = Workshop(
        Foreman(book=book, clock=lambda: NOW, holder="h"),
        [job("alone", shared=False), job("shared", shared=True)],
    )
    workshop.start()
    await enough.wait()
    await workshop.stop()
    assert rounds["alone"] >= 1
    assert rounds["shared"] >= 5


async def test_a_round_that_breaks_is_counted_and_the_next_one_comes():
    async def broken():
        raise ZeroDivisionError

    store = MemoryStore()
    foreman = Foreman(book=store, clock=lambda: NOW, holder="h")
    assert await foreman.run(Job(name="j", round=broken, every=timedelta(seconds=1))) == 0
    (ran,) = await store.jobs.ran()
    assert (ran.runs, ran.failures) == (1, 1)
