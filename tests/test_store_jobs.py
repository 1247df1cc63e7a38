"""What every store promises about jobs: one holder at a time, and what became of each round."""

import asyncio
from datetime import timedelta

from application.jobs import ROUND_TIME, Ran, Round
from tests.sample_orders import NOW, SECOND

INSTANT = timedelta(microseconds=1)
HOUR = timedelta(hours=1)


def claim(store, holder, at=NOW, name="sweep"):
    return store.jobs.claim(name, holder, at, ROUND_TIME)


def went(at=NOW, done=3, *, failed=False, every=HOUR):
    return Round(at=at, done=done, failed=failed, next_at=at + every)


async def test_a_job_is_taken_by_one_holder(store):
    assert await claim(store, "a")
    assert not await claim(store, "b")
    assert not await claim(store, "a")


async def test_of_many_who_ask_at_once_one_has_the_job(store):
    answers = await asyncio.gather(*(claim(store, f"p{n}") for n in range(20)))
    assert answers.count(True) == 1


async def test_each_job_has_its_own_holder(store):
    assert await claim(store, "a")
    assert await claim(store, "b", name="reconcile")


async def test_a_holder_that_died_loses_the_job_when_its_lease_runs_out(store):
    assert await claim(store, "a")
    assert not await claim(store, "b", NOW + ROUND_TIME - INSTANT)
    assert await claim(store, "b", NOW + ROUND_TIME)
    assert not await claim(store, "a", NOW + ROUND_TIME)


async def test_a_released_job_rests_until_its_next_time(store):
    await claim(store, "a")
    await store.jobs.release("sweep", "a", went())
    assert not await claim(store, "a", NOW + HOUR - INSTANT)
    assert not await claim(store, "b", NOW + HOUR - INSTANT)
    assert await claim(store, "b", NOW + HOUR)


async def test_whoever_lost_the_job_does_not_let_it_go(store):
    await claim(store, "a")
    await claim(store, "b", NOW + ROUND_TIME)
    await store.jobs.release("sweep", "a", went(NOW + ROUND_TIME, every=SECOND))
    assert not await claim(store, "c", NOW + ROUND_TIME + SECOND)
    assert await claim(store, "c", NOW + 2 * ROUND_TIME)


async def test_whoever_lost_the_job_does_not_put_it_off(store):
    await claim(store, "a")
    await claim(store, "b", NOW + ROUND_TIME)
    await store.jobs.release("sweep", "a", went(NOW + ROUND_TIME, every=9 * HOUR))
    await store.jobs.release("sweep", "b", went(NOW + ROUND_TIME, every=SECOND))
    assert await claim(store, "c", NOW + ROUND_TIME + SECOND)


async def test_nothing_is_known_of_jobs_before_the_first(store):
    assert list(await store.jobs.ran()) == []


async def test_a_job_that_never_ended_a_round_is_known(store):
    await claim(store, "a")
    assert list(await store.jobs.ran()) == [Ran(name="sweep", last_run_at=None, runs=0, done=0, failures=0)]


async def test_rounds_are_counted(store):
    await claim(store, "a")
    await store.jobs.release("sweep", "a", went(done=3))
    await claim(store, "b", NOW + HOUR)
    await store.jobs.release("sweep", "b", went(NOW + HOUR, done=0, failed=True))
    await claim(store, "a", NOW + 2 * HOUR)
    await store.jobs.release("sweep", "a", went(NOW + 2 * HOUR, done=4))
    assert list(await store.jobs.ran()) == [
        Ran(name="sweep", last_run_at=NOW + 2 * HOUR, runs=3, done=7, failures=1)
    ]


async def test_rounds_that_nobody_claimed_are_counted(store):
    """A shared job's round claims its entries and not the job."""
    await store.jobs.release("watch", "a", went(done=2, every=timedelta(0)))
    await store.jobs.release("watch", "b", went(NOW + SECOND, done=5, every=timedelta(0)))
    assert list(await store.jobs.ran()) == [
        Ran(name="watch", last_run_at=NOW + SECOND, runs=2, done=7, failures=0)
    ]


async def test_jobs_are_told_by_name(store):
    for name in ("sweep", "bill", "watch"):
        await store.jobs.release(name, "a", went())
    assert [ran.name for ran in await store.jobs.ran()] == ["bill", "sweep", "watch"]
