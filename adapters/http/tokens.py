"""JSON Web Tokens signed by HMAC-SHA256: a payer's login, and what they share with the shop's quotes."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from attrs import field, frozen

from application.access import TokenExpired, Unauthenticated
from application.ports import Clock
from domain.order import OPENID

ALGORITHM = "HS256"
TYP = "payer"
JWT_MAX = 4096  # characters
JWT = re.compile(r"[0-9A-Za-z_\-]+\.[0-9A-Za-z_\-]+\.[0-9A-Za-z_\-]{43}\Z")
PAYER_CLAIMS = ("sub", "appid", "iat", "exp", "typ")

# Besides what the library says of a token: text that is none, and JSON nested too deep.
UNREADABLE = (jwt.InvalidTokenError, ValueError, RecursionError)

# Times are compared with our own clock, after the signature.
OPTIONS: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


class Forged(Exception):
    """Not a JSON Web Token that one of the secrets signed; the words never hold it."""


def kid_of(secret: str) -> str:
    """The name of a secret, which tells nothing of it: 8 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def opened(text: str, secrets: Iterable[str], required: Iterable[str]) -> Mapping[str, Any]:
    """The claims of a token that one of the secrets signed with HS256, whatever its time. Raises Forged.

    A header's `kid` chooses the secret; without one, each is tried.
    """
    if len(text) > JWT_MAX or not JWT.match(text):
        raise Forged("no JSON Web Token")
    try:
        kid = jwt.get_unverified_header(text).get("kid")
    except UNREADABLE as error:  # what stands here is not known to be signed
        raise Forged(type(error).__name__) from None
    options: Any = {**OPTIONS, "require": list(required)}
    why = "no secret has that kid"
    for secret in secrets:
        if kid is not None and kid != kid_of(secret):
            continue
        try:
            return jwt.decode(text, secret, algorithms=[ALGORITHM], options=options)
        except UNREADABLE as error:
            why = type(error).__name__
    raise Forged(why)


def moment_of(claim: object) -> datetime:
    """The moment of `exp`, `iat` or `nbf`: whole seconds since 1970. Raises Forged."""
    if isinstance(claim, bool) or not isinstance(claim, int):
        raise Forged("a moment that is no whole number")
    try:
        return datetime.fromtimestamp(claim, UTC)
    except (ValueError, OverflowError, OSError):
        raise Forged("a moment that no calendar has") from None


@frozen(kw_only=True)
class Tokens:
    """Payers' logins: the first secret signs, all verify, so that one can be put in another's place."""

    secrets: tuple[str, ...] = field(repr=False)
    appid: str
    hours: int
    clock: Clock

    def issue(self, openid: str) -> tuple[str, int]:
        """A token for the payer, and how many seconds it is good for. There must be a secret."""
        now = self.clock().replace(microsecond=0)
        life = timedelta(hours=self.hours)
        claims = {"sub": openid, "appid": self.appid, "iat": now, "exp": now + life, "typ": TYP}
        secret = self.secrets[0]
        return jwt.encode(claims, secret, ALGORITHM, {"kid": kid_of(secret)}), int(life.total_seconds())

    def read(self, text: str) -> str:
        """The openid of the payer who was given this token (R20). Raises Unauthenticated or TokenExpired."""
        try:
            claims = opened(text, self.secrets, PAYER_CLAIMS)
            expires_at, issued_at = moment_of(claims["exp"]), moment_of(claims["iat"])
        except Forged as forged:
            raise Unauthenticated(f"a token that is not ours: {forged}") from None
        openid = claims["sub"]
        if claims["typ"] != TYP or claims["appid"] != self.appid or not OPENID.match(openid):
            raise Unauthenticated("a token for something else")
        if expires_at <= self.clock():
            raise TokenExpired("the token's time is over")
        if issued_at >= expires_at:
            raise Unauthenticated("a token that ends before it begins")
        return str(openid)
