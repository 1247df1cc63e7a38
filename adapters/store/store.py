"""Everything minitill keeps, on whatever database an engine speaks to."""

from typing import Self

from attrs import define

from adapters.store.engine import Engine
from adapters.store.sql_agenda import SqlAgenda
from adapters.store.sql_answers import SqlAnswers
from adapters.store.sql_failures import SqlFailures
from adapters.store.sql_jobs import SqlJobs
from adapters.store.sql_keys import SqlKeys
from adapters.store.sql_orders import SqlOrders
from adapters.store.sql_outbox import SqlOutbox


@define
class SqlStore:
    """One engine and the rooms of what is kept in it."""

    engine: Engine
    orders: SqlOrders
    answers: SqlAnswers
    agenda: SqlAgenda
    outbox: SqlOutbox
    jobs: SqlJobs
    failures: SqlFailures
    keys: SqlKeys

    @classmethod
    def on(cls, engine: Engine, *, listening: bool) -> Self:
        """A store on an open engine; `listening` says that there is a shop to write letters to."""
        orders = SqlOrders(engine, listening)
        return cls(
            engine,
            orders,
            SqlAnswers(engine),
            SqlAgenda(engine, orders),
            SqlOutbox(engine),
            SqlJobs(engine),
            SqlFailures(engine),
            SqlKeys(engine),
        )

    async def close(self) -> None:
        """Let what is being written end, then let the database go."""
        await self.engine.close()
