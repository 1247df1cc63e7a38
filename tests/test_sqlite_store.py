"""What SQLite promises beyond the contract: durability, migrations, one file for several processes."""

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from adapters.store import schema
from adapters.store.sqlite import SqliteStore
from application.errors import StoreUnavailable
from domain.order import Order, Placement, Status

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "minitill.db"


def an_order(number: int) -> Order:
    order = Order(
        out_trade_no=f"PAY{number:06}",
        openid="o1",
        total_fee=100,
        body="tea",
        placement=Placement(
            appid="wx1", mch_id="1", api_version="v3", sign_type="RSA", notify_url="u", client_ip="::1"
        ),
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=30),
    )
    return order.placed("wx42", NOW, "test")


async def test_what_was_saved_is_there_after_a_restart(path):
    store = await SqliteStore.open(path)
    await store.orders.save(an_order(1))
    await store.close()
    store = await SqliteStore.open(path, migrate=False)
    assert (await store.orders.get("PAY000001")).version == 1
    await store.close()


async def test_every_commit_waits_for_the_disk(path):
    store = await SqliteStore.open(path)
    assert await store.engine.writer.work(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)
    assert await store.engine.writer.work(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    assert await store.engine.writer.work(lambda db: db.execute("PRAGMA foreign_keys").fetchone()) == (1,)
    await store.close()


async def test_concurrent_writes_share_commits(path):
    store = await SqliteStore.open(path)
    commits = []
    await store.engine.writer.work(
        lambda db: db.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    )
    await asyncio.gather(*(store.orders.save(an_order(number)) for number in range(100)))
    assert (await store.orders.counts())[Status.PENDING] == 100
    assert len(commits) < 10
    await store.close()


async def test_two_connections_to_one_file_see_each_other_s_orders(path):
    first, second = await SqliteStore.open(path), await SqliteStore.open(path)
    await asyncio.gather(
        *(store.orders.save(an_order(number)) for number, store in enumerate([first, second] * 50))
    )
    assert await first.orders.counts() == await second.orders.counts()
    assert (await first.orders.counts())[Status.PENDING] == 100
    await first.close()
    await second.close()


async def test_a_newer_schema_is_refused_and_left_alone(path):
    await (await SqliteStore.open(path)).close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO migrations VALUES (9999, 'from_the_future', 0)")
    db.close()
    with pytest.raises(schema.SchemaTooNew, match="9999"):
        await SqliteStore.open(path)


async def test_a_file_that_is_not_there_is_not_made_where_migrating_is_not_asked_for(path):
    with pytest.raises(StoreUnavailable):
        await SqliteStore.open(path, migrate=False)
    assert not path.exists()


async def test_an_older_schema_is_refused_where_migrating_is_not_asked_for(path):
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(schema.SchemaTooOld, match="minitill migrate"):
        await SqliteStore.open(path, migrate=False)


async def test_a_file_that_is_no_database_is_refused(path):
    path.write_text("not a database, but a letter of some length " * 10)
    with pytest.raises(StoreUnavailable):
        await SqliteStore.open(path)


async def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StoreUnavailable):
        await SqliteStore.open(tmp_path / "missing" / "minitill.db")


async def test_a_disk_that_gives_way_refuses_the_write_and_the_next_one_goes_on(path):
    store = await SqliteStore.open(path)
    pages = await store.engine.writer.work(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    await store.engine.writer.work(lambda db: db.execute(f"PRAGMA max_page_count={pages}").fetchall())
    results = await asyncio.gather(
        *(store.orders.save(an_order(number)) for number in range(200)), return_exceptions=True
    )
    assert StoreUnavailable in {type(result) for result in results}
    await store.engine.writer.work(lambda db: db.execute("PRAGMA max_page_count=1000000").fetchall())
    await store.orders.save(an_order(999))
    stored = (await store.orders.counts())[Status.PENDING]
    assert stored == 1 + sum(result is None for result in results)
    await store.close()


def test_migrations_are_numbered_without_a_gap():
    numbers = [migration.number for migration in schema.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
