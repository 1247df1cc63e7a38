"""A till that asks who calls: secrets, tokens, keys and quotes for its tests."""

from contextlib import asynccontextmanager
from datetime import timedelta

import jwt

from adapters.http.access import AccessGuard, KeyRing
from adapters.http.login_api import LoginApi
from adapters.http.tokens import Tokens, kid_of
from adapters.store.memory import MemoryStore
from application.access import ApiKey, Scope, digest_of
from application.login import LoginCodeInvalid, Logins
from tests.http_till import TEA, Till

TOKEN_SECRET = "the till's own secret: long enough for HS512 as well which is refused all the same"
OLD_SECRET = "the secret before this one on its way out"
SHOP = "what the shop and the till share: long enough for HS512 as well, which is refused"
APPID = "wx1234567890abcdef"
ALICE = TEA["openid"]
BOB = "oBob0000000000000000000000AA"
NOW = Till().now
ADMIN, PAY, READ, REFUND = Scope


def key_of(*scopes):
    """The key whose holder may do these, as its holder knows it."""
    return "mt_" + "-".join(scopes).ljust(43, "0")


def unix(moment=NOW, **later):
    return int((moment + timedelta(**later)).timestamp())


def signed(claims, secret=TOKEN_SECRET, algorithm="HS256", **header):
    """A JSON Web Token."""
    return jwt.encode(claims, secret, algorithm, headers={"kid": kid_of(secret)} | header)


def token(openid=ALICE, secret=TOKEN_SECRET, **changes):
    """A payer's token of ours, or one that differs; a claim that is None is left out."""
    claims = {"sub": openid, "appid": APPID, "iat": unix(), "exp": unix(hours=24), "typ": "payer"} | changes
    return signed({name: claim for name, claim in claims.items() if claim is not None}, secret)


def quote(secret=SHOP, **changes):
    """The shop's quote for the tea, or one that differs; a claim that is None is left out."""
    claims = {"total_fee": 100, "body": TEA["body"], "attach": TEA["attach"], "exp": unix(minutes=10)}
    claims |= changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, secret, "HS256")


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


def tokens(clock=lambda: NOW, secrets=(TOKEN_SECRET, OLD_SECRET)):
    return Tokens(secrets=secrets, appid=APPID, hours=24, clock=clock)


class Wechat(Logins):
    """Knows Alice."""

    async def openid(self, code):
        if code != "code-alice":
            raise LoginCodeInvalid("who?")
        return ALICE


async def with_keys(store):
    """Put a key for each scope, and for all but admin, into the store."""
    wanted = [(scope,) for scope in Scope] + [(PAY, READ, REFUND)]
    for number, scopes in enumerate(wanted):
        made = ApiKey(id=f"key{number}", name="shop", scopes=frozenset(scopes), created_at=NOW)
        await store.keys.add(made, digest_of(key_of(*scopes)))


@asynccontextmanager
async def guarded_till(*, is_open=False, quote_secrets=(SHOP,)):
    """A till whose callers are asked, with a key for each scope."""
    till = Till(store=MemoryStore(), quote_secrets=quote_secrets)
    await with_keys(till.store)

    def clock():
        return till.now

    guard = AccessGuard(tokens=tokens(clock), ring=KeyRing(till.store.keys, clock), is_open=is_open)
    login = LoginApi(logins=Wechat(), tokens=tokens(clock)).routes()
    await till.open(*login, guard=guard)
    try:
        yield till
    finally:
        await till.close()
