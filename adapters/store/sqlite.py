"""The SQLite store: one file in WAL mode, one writer whose commits are shared, readers beside it."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import aiosqlite
from attrs import Factory, define

from adapters.store import schema
from adapters.store.engine import Engine, Row, Step, micros
from adapters.store.store import SqlStore
from application.errors import StoreUnavailable

GROUP_MAX = 256  # writes that share one commit
SWITCH_SECONDS = 0.02  # between tries to switch a new file to WAL, on the database's own thread
BUSY_MILLISECONDS = 5000  # how long another process may hold the file before we give up

Answer = TypeVar("Answer")
Outcome = Sequence[Row] | Exception  # of one write


class Connection(aiosqlite.Connection):
    """A connection whose thread can run a whole transaction in one hop."""

    async def _connect(self) -> "Connection":
        try:
            await super()._connect()
        except sqlite3.Error:
            self._thread.join()  # it only stops now; later it would call a loop that is closed
            raise
        return self

    async def work(self, task: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Run the task on the connection's own thread."""
        # aiosqlite's own methods cost a hop for each statement; this is how they are built.
        done: Answer = await self._execute(task, self._conn)  # type: ignore[no-untyped-call]
        return done


def connect(path: Path, *, read_only: bool = False, create: bool = True) -> Connection:
    """A connection to the file, not yet opened: await it. A file that isn't there is made if `create`."""

    def opened() -> sqlite3.Connection:
        mode = "ro" if read_only else "rwc" if create else "rw"
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
            if not read_only:
                switch_to_wal(db)
                db.execute("PRAGMA synchronous=FULL")  # a fact is on the disk before it is answered
                db.execute("PRAGMA foreign_keys=ON")
        except sqlite3.Error:
            db.close()
            raise
        return db

    return Connection(opened, iter_chunk_size=64)


def switch_to_wal(db: sqlite3.Connection) -> None:
    """SQLite does not wait by itself when another process switches a new file at the same moment."""
    until = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(SWITCH_SECONDS)
        else:
            return


def commit(db: sqlite3.Connection, group: Sequence[Sequence[Step]]) -> list[Outcome]:
    """Run several writes in one commit, each of them whole or not at all; tell each one's rows or refusal.

    Raises sqlite3.OperationalError when the disk or the file gave way: then none is done.
    """
    outcomes: list[Outcome] = []
    db.execute("BEGIN IMMEDIATE")
    try:
        for steps in group:
            db.execute("SAVEPOINT write")
            outcome = run(db, steps)
            if isinstance(outcome, Exception):
                db.execute("ROLLBACK TO write")
            db.execute("RELEASE write")
            outcomes.append(outcome)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return outcomes


def run(db: sqlite3.Connection, steps: Sequence[Step]) -> Outcome:
    """Run one write's steps; the first that does not touch its row ends it with its refusal.

    A value that SQLite can't hold, or a broken constraint, is this write's own
    trouble and its outcome.
    """
    rows: Sequence[Row] = ()
    for step in steps:
        try:
            cursor = db.execute(step.sql, step.values)
            rows = cursor.fetchall() if cursor.description else ()
        except (ValueError, OverflowError) as error:  # half a surrogate, a number beyond 64 bits
            return error
        except sqlite3.IntegrityError as error:
            return StoreUnavailable(f"SQLite: {error}")
        if cursor.rowcount != 1 and step.refusal is not None:
            return step.refusal
    return rows


@define
class GroupCommit:
    """Writes that arrive while a commit is under way share the next one: one wait for the disk for all."""

    db: Connection
    waiting: list[tuple[Sequence[Step], asyncio.Future[Sequence[Row]]]] = Factory(list)
    worker: asyncio.Task[None] | None = None

    async def write(self, steps: Sequence[Step]) -> Sequence[Row]:
        """Return the last step's rows when all is durable; raise the refusal of the step that failed.

        Raises StoreUnavailable when the disk or the file gave way: nothing is written then.
        """
        future: asyncio.Future[Sequence[Row]] = asyncio.get_running_loop().create_future()
        self.waiting.append((steps, future))
        if self.worker is None:
            self.worker = asyncio.create_task(self._work())
        return await future

    async def finish(self) -> None:
        """Wait until nothing is waiting any more."""
        while self.worker is not None:
            await asyncio.wait([self.worker])

    async def _work(self) -> None:
        try:
            while self.waiting:
                group, self.waiting = self.waiting[:GROUP_MAX], self.waiting[GROUP_MAX:]
                await self._commit(group)
        finally:
            self.worker = None

    async def _commit(self, group: Sequence[tuple[Sequence[Step], asyncio.Future[Sequence[Row]]]]) -> None:
        try:
            outcomes = await self.db.work(lambda db: commit(db, [steps for steps, _ in group]))
        except (sqlite3.Error, ValueError) as error:  # ValueError: the store is closed
            outcomes = [StoreUnavailable(f"SQLite: {error}") for _ in group]
        for (_, future), outcome in zip(group, outcomes, strict=True):
            if future.done():  # its caller has gone; the write stands or fell all the same
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


@define
class SqliteEngine(Engine):
    """One SQLite file: a connection that writes and one that reads."""

    writer: Connection
    reader: Connection
    group: GroupCommit

    async def write(self, steps: Sequence[Step]) -> Sequence[Row]:
        return await self.group.write(steps)

    async def read(self, statement: str, values: Mapping[str, Any]) -> Sequence[Row]:
        with unavailable():
            return list(await self.reader.execute_fetchall(statement, values))

    async def close(self) -> None:
        await self.group.finish()
        await self.reader.close()
        await self.writer.close()


@define
class SqliteStore(SqlStore):
    """Everything minitill keeps, in one SQLite file."""

    @classmethod
    async def open(cls, path: Path, *, migrate: bool = True, listening: bool = False) -> Self:
        """Open the file, bring its tables up to date if asked, else raise SchemaTooOld.

        `listening` says that there is a shop to write letters to.

        Raises SchemaTooNew for a file a newer minitill has written, StoreUnavailable
        when it can't be opened.
        """
        writer = connect(path, create=migrate)
        with unavailable():
            await writer
        try:
            with unavailable():
                await writer.work(lambda db: upgrade(db, migrate=migrate))
                reader = connect(path, read_only=True)
                await reader
        except BaseException:
            await writer.close()
            raise
        return cls.on(SqliteEngine(writer, reader, GroupCommit(writer)), listening=listening)


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn what SQLite complains of into StoreUnavailable."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(f"SQLite: {error}") from error


def upgrade(db: sqlite3.Connection, *, migrate: bool) -> None:
    """Apply the missing migrations, all or none; of two processes that try at once one waits."""
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(schema.TABLE)
        applied = [number for (number,) in db.execute(schema.APPLIED)]
        for migration in schema.missing(applied, migrate=migrate):
            for statement in migration.statements:
                db.execute(statement)
            applied_at = micros(datetime.now(UTC))
            db.execute(
                schema.APPLY,
                {"number": migration.number, "name": migration.name, "applied_at": applied_at},
            )
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
