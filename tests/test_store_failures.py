"""What every store promises about failures: one of each, counted, until nobody needs it."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from adapters.store import schema
from adapters.store.sqlite import SqliteStore, upgrade
from application.failures import Failure, FailureNotFound

NOW = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def failure(about="PAY001", at=NOW, **changes):
    return Failure(
        **{
            "kind": "notify.v3",
            "code": "FEE_MISMATCH",
            "about": about,
            "detail": "金额",
            "out_trade_no": about,
            "serial": "7132D72A03E93CDDF8C03BBD1F37EEDF",
            "request_id": "08F9-268443699",
            "explanation": "look",
            "headers": {"wechatpay-serial": "7132", "user-agent": "Mozilla/4.0"},
            "evidence": '{"total": 1}',
            "at": at,
            "is_alarm": True,
            **changes,
        }
    )


async def test_a_failure_comes_back_whole(store):
    await store.failures.keep(failure())
    assert list(await store.failures.newest(10)) == [failure()]
    assert await store.failures.find(failure().id) == failure()


async def test_the_same_failure_is_counted_and_not_stored_again(store):
    """Its latest evidence is kept, and when it first came."""
    later = failure(at=NOW + 9 * SECOND, detail="b", evidence="[]", count=41, headers={})
    await store.failures.keep(failure())
    await store.failures.keep(later)
    assert list(await store.failures.newest(10)) == [evolve(later, count=42, first_at=NOW)]


@pytest.mark.parametrize("changes", [{"kind": "notify.v2"}, {"code": "SERIAL"}, {"about": "PAY002"}])
async def test_another_kind_code_or_subject_is_another_failure(store, changes):
    await store.failures.keep(failure())
    await store.failures.keep(failure(**changes))
    assert [one.count for one in await store.failures.newest(10)] == [1, 1]


async def test_the_newest_come_first_and_no_more_than_asked_for(store):
    for n in (2, 0, 1):
        await store.failures.keep(failure(f"PAY{n}", NOW + n * SECOND))
    assert [one.about for one in await store.failures.newest(2)] == ["PAY2", "PAY1"]


async def test_what_is_not_there_is_not_found(store):
    with pytest.raises(FailureNotFound):
        await store.failures.find("0123456789abcdef")


async def test_only_what_has_not_come_again_is_forgotten(store):
    await store.failures.keep(failure("old"))
    await store.failures.keep(failure("again"))
    await store.failures.keep(failure("again", NOW + 2 * SECOND))
    assert await store.failures.forget(NOW + SECOND) == 1
    assert [one.about for one in await store.failures.newest(10)] == ["again"]


async def test_what_was_kept_by_an_older_minitill_can_still_be_read(tmp_path):
    path = tmp_path / "minitill.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(schema.TABLE)
    for migration in schema.migrations()[:2]:
        for statement in migration.statements:
            db.execute(statement)
        db.execute(schema.APPLY, {"number": migration.number, "name": migration.name, "applied_at": 1})
    db.execute("INSERT INTO failures VALUES ('notify.v2', 'FEE_MISMATCH', 'PAY9', 'd', '{}', 1000000, 3)")
    upgrade(db, migrate=True)
    db.close()
    store = await SqliteStore.open(path)
    (old,) = await store.failures.newest(10)
    assert (old.out_trade_no, old.count, old.is_alarm, old.evidence) == ("PAY9", 3, True, "{}")
    assert await store.failures.find(old.id) == old
    await store.close()
