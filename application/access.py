"""Who may call: API keys and their scopes, the shop's quotes, and what is refused to whom."""

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from attrs import Attribute, field, frozen

from domain.errors import InvalidOrder, NotNow, PaymentError, Unknown

KEY = re.compile(r"mt_[0-9A-Za-z_\-]{43}\Z")
KEY_NAME_MAX = 64  # characters
USE_SHOWN = timedelta(minutes=1)  # how exactly it is known when a key was last used


class Scope(StrEnum):
    """What an API key may do; ADMIN makes its holder an operator, who may do everything."""

    ADMIN = "admin"
    PAY = "pay"
    READ = "read"
    REFUND = "refund"


def valid_name(_owner: object, _attribute: "Attribute[str] | None", name: str) -> None:
    """A name can be read in a log line. Raises ValueError."""
    if not 0 < len(name) <= KEY_NAME_MAX or not name.isprintable() or name != name.strip():
        raise ValueError(f"a key's name is 1 to {KEY_NAME_MAX} characters that can be read")


def some_scope(_owner: object, _attribute: "Attribute[frozenset[Scope]]", scopes: frozenset[Scope]) -> None:
    """A key without a scope opens nothing. Raises ValueError."""
    if not scopes:
        raise ValueError("a key has at least one scope")


@frozen(kw_only=True)
class ApiKey:
    """All that is known of an API key; the key itself is known to its holder alone."""

    id: str
    name: str = field(validator=valid_name)
    scopes: frozenset[Scope] = field(validator=some_scope)
    created_at: datetime
    last_used_at: datetime | None = None  # to the minute
    revoked_at: datetime | None = None

    @property
    def is_operator(self) -> bool:
        """Whether its holder may do everything."""
        return Scope.ADMIN in self.scopes

    def allows(self, scope: Scope) -> bool:
        """Whether its holder may do that."""
        return self.is_operator or scope in self.scopes


def digest_of(key: str) -> str:
    """What is kept of a key: 256 bits of chance need no salt and no slow hash, and a look-up by it tells
    nothing by the time it takes.
    """
    return hashlib.sha256(key.encode()).hexdigest()


class Keys(Protocol):
    """The API keys of a till; every method is one atomic action."""

    async def add(self, key: ApiKey, digest: str) -> None:
        """Keep a new key, known by its digest."""
        ...

    async def find(self, digest: str) -> ApiKey | None:
        """The key, unless there is none or it was revoked."""
        ...

    async def used(self, key_id: str, at: datetime) -> None:
        """Note that the key was used, at most once a minute."""
        ...

    async def revoke(self, key_id: str, at: datetime) -> ApiKey:
        """The key opens nothing from now on; of a revoked key the first time stands. Raises KeyNotFound."""
        ...

    async def listed(self) -> Sequence[ApiKey]:
        """All keys, revoked ones too, the oldest first."""
        ...


@frozen(kw_only=True)
class Quote:
    """A price the shop has signed, read and found to fit an order (R9). It is good for one order."""

    id: str
    expires_at: datetime


Quoting = Callable[[], Quote | None]  # checks what came with a create; raises what is wrong with it


def unquoted() -> None:
    """Who may set the price needs no quote."""


# -- refusals: who calls --------------------------------------------------------------------------


class Unauthenticated(PaymentError):
    """Nobody we know; the words never hold what was shown."""

    code = "UNAUTHENTICATED"


class TokenExpired(Unauthenticated):
    """A token of ours whose time is over: the payer logs in again."""

    code = "TOKEN_EXPIRED"


class Forbidden(PaymentError):
    """Somebody we know, who may not do this."""

    code = "FORBIDDEN"


class OpenidMismatch(Forbidden):
    """A payer orders in another payer's name (R20)."""

    code = "OPENID_MISMATCH"


class KeyNotFound(Unknown):
    """No API key has that id."""

    code = "KEY_NOT_FOUND"


# -- refusals: the price --------------------------------------------------------------------------


class QuoteRequired(Forbidden):
    """A payer must not choose the price (R9)."""

    code = "QUOTE_REQUIRED"


class QuoteInvalid(InvalidOrder):
    """Not signed by the shop, or not a quote at all."""

    code = "QUOTE_INVALID"
    field = "quote"


class QuoteExpired(InvalidOrder):
    """The shop's price was good until a moment that has passed."""

    code = "QUOTE_EXPIRED"
    field = "quote"


class QuoteMismatch(InvalidOrder):
    """The order is not the one that was priced; `field` says where they part."""

    code = "QUOTE_MISMATCH"


class QuoteUsed(NotNow):
    """An order was made by this quote already."""

    code = "QUOTE_USED"
