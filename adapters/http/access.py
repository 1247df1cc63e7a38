"""The guard at the door: whose token or key is it, and may its holder do this? Deny by default."""

import logging
from datetime import datetime, timedelta

from aiohttp import web
from attrs import Factory, define, frozen

from adapters.http.routes import ANYONE, AnyRoute, Caller, Who
from adapters.http.tokens import JWT_MAX, Tokens
from application.access import KEY, USE_SHOWN, ApiKey, Forbidden, Keys, Unauthenticated, digest_of
from application.errors import StoreUnavailable
from application.ports import Clock

log = logging.getLogger("minitill.http")

KNOWN_FOR = timedelta(seconds=5)  # so long a revoked key may still open
KNOWN_MAX = 1000


@define
class KeyRing:
    """The keys that were shown of late, so that a request need not ask the database."""

    keys: Keys
    clock: Clock
    known: dict[str, tuple[datetime, ApiKey]] = Factory(dict)

    async def find(self, key: str) -> ApiKey:
        """The key by the text that was shown. Raises Unauthenticated or StoreUnavailable."""
        digest, now = digest_of(key), self.clock()
        if digest in self.known and self.known[digest][0] > now:
            return self.known[digest][1]
        self.known.pop(digest, None)
        found = await self.keys.find(digest)
        if found is None:
            raise Unauthenticated("no such key, or a revoked one")
        if found.last_used_at is None or now - found.last_used_at >= USE_SHOWN:
            await self._note(found, now)
        while len(self.known) >= KNOWN_MAX:
            del self.known[next(iter(self.known))]
        self.known[digest] = now + KNOWN_FOR, found
        return found

    async def _note(self, key: ApiKey, now: datetime) -> None:
        try:
            await self.keys.used(key.id, now)
        except StoreUnavailable as error:  # to know it is a comfort, no condition
            log.warning("the use of key %s is not noted: %s", key.id, error)


@frozen(kw_only=True)
class AccessGuard:
    """Asks on every route that is not open. In open mode whoever comes may do what a payer may."""

    tokens: Tokens
    ring: KeyRing
    is_open: bool = False

    async def __call__(self, request: web.Request, route: AnyRoute) -> Caller:
        """Who calls. Raises Unauthenticated, TokenExpired, Forbidden or StoreUnavailable."""
        if self.is_open and Who.PAYER in route.who:
            return ANYONE
        shown = bearer(request)
        if not KEY.match(shown):
            caller = Caller(kind=Who.PAYER, name="payer", openid=self.tokens.read(shown))
            if Who.PAYER not in route.who:
                raise Forbidden("not for payers")
            return caller
        key = await self.ring.find(shown)
        name = f"key {key.id} {key.name}"
        if key.is_operator and route.who & (Who.OPERATOR | Who.BACKEND):
            return Caller(kind=Who.OPERATOR, name=name)
        if Who.BACKEND in route.who and route.scope is not None and key.allows(route.scope):
            return Caller(kind=Who.BACKEND, name=name)
        raise Forbidden(f"key {key.id} has not the scope for it")


def bearer(request: web.Request) -> str:
    """What the caller shows, in the one place where we look. Raises Unauthenticated."""
    shown = request.headers.getall("Authorization", [])
    if len(shown) != 1:
        raise Unauthenticated("no Authorization header, or several")
    scheme, _, text = shown[0].partition(" ")
    if scheme.casefold() != "bearer" or not text or len(text) > JWT_MAX or not text.isascii():
        raise Unauthenticated("no bearer token")
    return text
