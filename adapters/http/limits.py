"""How often one caller may log in and place orders."""

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Network, ip_address

from aiohttp import web
from attrs import Factory, define, field, frozen

from adapters.http.address import client_address
from adapters.http.errors import TooManyRequests
from adapters.http.routes import AnyRoute, Caller, Who

LOGIN = "/api/wechat/login"
CREATE = "/api/wechat/pay/create"
MINUTE = 60.0  # seconds
NAMES_MAX = 10_000  # callers remembered at a time; the one longest quiet is forgotten first
HOUSE_BITS = 64  # whoever has one IPv6 address has all that begin like it


@define
class Buckets:
    """A bucket of tokens for each name: `per_minute` to begin with, refilled at that pace.

    Kept as the one moment at which a bucket is full again (seconds of `monotonic`).
    """

    per_minute: int
    monotonic: Callable[[], float] = time.monotonic
    names_max: int = NAMES_MAX
    full_at: OrderedDict[str, float] = Factory(OrderedDict)

    def take(self, name: str) -> None:
        """Take a token; raise TooManyRequests with the seconds until there is one."""
        now = self.monotonic()
        full_at = max(self.full_at.pop(name, now), now)
        then = full_at + MINUTE / self.per_minute
        wait = then - now - MINUTE
        self.full_at[name] = full_at if wait > 1e-6 else then
        if len(self.full_at) > self.names_max:
            self.full_at.popitem(last=False)
        if wait > 1e-6:  # what adding up fractions gets wrong is no reason to refuse
            raise TooManyRequests(wait)


@frozen(kw_only=True)
class Limits:
    """`logins` by network address; `creates` by payer, or by address where nobody logs in."""

    logins: Buckets = field(factory=lambda: Buckets(30))
    creates: Buckets = field(factory=lambda: Buckets(60))

    def check(self, request: web.Request, route: AnyRoute, caller: Caller) -> None:
        """Raise TooManyRequests. The shop's own keys are not counted: its backend speaks for many payers."""
        if route.path == LOGIN:
            self.logins.take(house(client_address(request)))
        elif route.path == CREATE and caller.kind & (Who.PAYER | Who.ANYONE):
            self.creates.take(caller.openid or house(client_address(request)))


def house(address: str) -> str:
    """What counts as one address: an IPv4 one, or the /64 of an IPv6 one."""
    found = ip_address(address)
    return str(IPv6Network((found, HOUSE_BITS), strict=False)) if found.version == 6 else str(found)
