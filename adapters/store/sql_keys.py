"""API keys and used quotes in SQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import frozen

from adapters.store.engine import Engine, Row, Step, maybe_micros, maybe_moment, micros, moment
from application.access import USE_SHOWN, ApiKey, KeyNotFound, Keys, Quote, QuoteUsed, Scope

QUOTES_KEPT = timedelta(days=1)  # after they expire: clocks of several processes never part so far

COLUMNS = "id, name, scopes, created_at, last_used_at, revoked_at"
ADD = (
    f"INSERT INTO api_keys ({COLUMNS}, digest)"
    " VALUES (:id, :name, :scopes, :created_at, :last_used_at, :revoked_at, :digest)"
)
FIND = f"SELECT {COLUMNS} FROM api_keys WHERE digest = :digest AND revoked_at IS NULL"
USED = (
    "UPDATE api_keys SET last_used_at = :at"
    " WHERE id = :id AND (last_used_at IS NULL OR last_used_at <= :before)"
)
REVOKE = f"UPDATE api_keys SET revoked_at = COALESCE(revoked_at, :at) WHERE id = :id RETURNING {COLUMNS}"
LISTED = f"SELECT {COLUMNS} FROM api_keys ORDER BY created_at, id"

USE_QUOTE = (
    "INSERT INTO quotes (id, out_trade_no, expires_at) VALUES (:id, :out_trade_no, :expires_at)"
    " ON CONFLICT (id) DO NOTHING"
)
IS_QUOTE_USED = "SELECT 1 FROM quotes WHERE id = :id"
FORGET_QUOTES = "DELETE FROM quotes WHERE expires_at < :before"


@frozen
class SqlKeys(Keys):
    """API keys in a database."""

    engine: Engine

    async def add(self, key: ApiKey, digest: str) -> None:
        values = {
            "id": key.id,
            "name": key.name,
            "scopes": ",".join(sorted(key.scopes)),
            "created_at": micros(key.created_at),
            "last_used_at": maybe_micros(key.last_used_at),
            "revoked_at": maybe_micros(key.revoked_at),
            "digest": digest,
        }
        await self.engine.write([Step(ADD, values)])

    async def find(self, digest: str) -> ApiKey | None:
        for row in await self.engine.read(FIND, {"digest": digest}):
            return key_of(row)
        return None

    async def used(self, key_id: str, at: datetime) -> None:
        values = {"id": key_id, "at": micros(at), "before": micros(at - USE_SHOWN)}
        await self.engine.write([Step(USED, values)])

    async def revoke(self, key_id: str, at: datetime) -> ApiKey:
        for row in await self.engine.write([Step(REVOKE, {"id": key_id, "at": micros(at)})]):
            return key_of(row)
        raise KeyNotFound(f"no key {key_id[:80]!r}")

    async def listed(self) -> Sequence[ApiKey]:
        return [key_of(row) for row in await self.engine.read(LISTED, {})]


def use_quote(quote: Quote, out_trade_no: str, now: datetime) -> list[Step]:
    """The steps that make a quote the order's own; refused if another order has it."""
    values = {"id": quote.id, "out_trade_no": out_trade_no, "expires_at": micros(quote.expires_at)}
    return [
        Step(FORGET_QUOTES, {"before": micros(now - QUOTES_KEPT)}),
        Step(USE_QUOTE, values, QuoteUsed("an order was made by this quote")),
    ]


def key_of(row: Row) -> ApiKey:
    """The key that a row tells of."""
    key_id, name, scopes, created_at, last_used_at, revoked_at = row
    return ApiKey(
        id=key_id,
        name=name,
        scopes=frozenset(Scope(scope) for scope in scopes.split(",")),
        created_at=moment(created_at),
        last_used_at=maybe_moment(last_used_at),
        revoked_at=maybe_moment(revoked_at),
    )
