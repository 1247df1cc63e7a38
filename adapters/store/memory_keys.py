"""API keys in memory: for tests, held to the same contract as the others."""

from collections.abc import Sequence
from datetime import datetime

from attrs import Factory, define, evolve

from application.access import USE_SHOWN, ApiKey, KeyNotFound, Keys


@define
class MemoryKeys(Keys):
    """API keys by their digests, until the process ends."""

    rows: dict[str, ApiKey] = Factory(dict)

    async def add(self, key: ApiKey, digest: str) -> None:
        self.rows[digest] = key

    async def find(self, digest: str) -> ApiKey | None:
        key = self.rows.get(digest)
        return None if key is None or key.revoked_at else key

    async def used(self, key_id: str, at: datetime) -> None:
        for digest, key in self.rows.items():
            if key.id == key_id and (key.last_used_at is None or key.last_used_at <= at - USE_SHOWN):
                self.rows[digest] = evolve(key, last_used_at=at)

    async def revoke(self, key_id: str, at: datetime) -> ApiKey:
        for digest, key in self.rows.items():
            if key.id == key_id:
                self.rows[digest] = evolve(key, revoked_at=key.revoked_at or at)
                return self.rows[digest]
        raise KeyNotFound(f"no key {key_id[:80]!r}")

    async def listed(self) -> Sequence[ApiKey]:
        return sorted(self.rows.values(), key=lambda key: (key.created_at, key.id))
