"""The failures in SQL."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import fields, frozen

from adapters.store.engine import Engine, Step, micros, moment
from application.failures import Failure, FailureNotFound, Failures

COLUMNS = tuple(f.name for f in fields(Failure))
KEEP = (
    f"INSERT INTO failures ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{c}' for c in COLUMNS)})"
    " ON CONFLICT (id) DO UPDATE SET"
    " detail = excluded.detail, out_trade_no = excluded.out_trade_no, serial = excluded.serial,"
    " request_id = excluded.request_id, explanation = excluded.explanation, headers = excluded.headers,"
    " evidence = excluded.evidence, at = excluded.at, count = failures.count + excluded.count"
)
NEWEST = f"SELECT {', '.join(COLUMNS)} FROM failures ORDER BY at DESC LIMIT :limit"
FIND = f"SELECT {', '.join(COLUMNS)} FROM failures WHERE id = :id"
FORGET = "DELETE FROM failures WHERE at < :before RETURNING id"


@frozen
class SqlFailures(Failures):
    """Failures in a database."""

    engine: Engine

    async def keep(self, failure: Failure) -> None:
        values = {name: getattr(failure, name) for name in COLUMNS} | {
            "headers": json.dumps(dict(failure.headers), ensure_ascii=False),
            "at": micros(failure.at),
            "first_at": micros(failure.first_at),
            "is_alarm": int(failure.is_alarm),
        }
        await self.engine.write([Step(KEEP, values)])

    async def newest(self, limit: int) -> Sequence[Failure]:
        return [failure_of(row) for row in await self.engine.read(NEWEST, {"limit": limit})]

    async def find(self, failure_id: str) -> Failure:
        for row in await self.engine.read(FIND, {"id": failure_id}):
            return failure_of(row)
        raise FailureNotFound(failure_id)

    async def forget(self, before: datetime) -> int:
        return len(await self.engine.write([Step(FORGET, {"before": micros(before)})]))


def failure_of(row: Sequence[Any]) -> Failure:
    stored = dict(zip(COLUMNS, row, strict=True))
    stored["is_alarm"] = bool(stored["is_alarm"])
    stored["headers"] = json.loads(stored["headers"])
    stored["at"] = moment(stored["at"])
    stored["first_at"] = moment(stored["first_at"])
    return Failure(**stored)
