"""The shop's quotes: a payer must not choose the price (R9)."""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from adapters.http.routes import Caller, Who
from adapters.http.shapes import CreateOrder
from adapters.http.tokens import Forged, moment_of, opened
from application.access import Quote, QuoteExpired, QuoteInvalid, QuoteMismatch, QuoteRequired
from application.ports import Clock

log = logging.getLogger("minitill.http")


@frozen(kw_only=True)
class Quotes:
    """Reads quotes: JSON Web Tokens (HS256) that one of the shop's secrets signed.

    Claims: `total_fee` (fen), `body` and `exp` (unix seconds); `attach` if the
    order has one; `openid` for this payer alone; `nbf` and `jti` if the shop likes.
    """

    secrets: tuple[str, ...] = field(default=(), repr=False)
    clock: Clock

    def check(self, wish: CreateOrder, caller: Caller) -> Quote | None:
        """The quote that fits the order, None for a caller who came without one and may.

        Raises QuoteRequired, QuoteInvalid, QuoteExpired or QuoteMismatch.
        """
        needed = caller.kind is Who.PAYER
        if not self.secrets:
            if needed:
                log.error("payers can not order: set MINITILL_QUOTE_SECRET, or order with an API key")
                raise QuoteRequired("there is no secret to check quotes with")
            return None
        if wish.quote is None:
            if needed:
                raise QuoteRequired("a payer needs the shop's quote")
            return None
        return self._read(wish.quote, wish)

    def _read(self, text: str, wish: CreateOrder) -> Quote:
        try:
            claims = opened(text, self.secrets, ("total_fee", "body", "exp"))
            expires_at = moment_of(claims["exp"])
            begins_at = moment_of(claims["nbf"]) if "nbf" in claims else None
        except Forged as forged:
            raise QuoteInvalid(f"a quote that is not the shop's: {forged}") from None
        if begins_at is not None and begins_at > self.clock():
            raise QuoteInvalid("a quote that is not good yet")
        if expires_at <= self.clock():
            raise QuoteExpired("the quote's time is over")
        _compare(claims, wish)
        return Quote(id=_id_of(text, claims), expires_at=expires_at)


def _compare(claims: Mapping[str, Any], wish: CreateOrder) -> None:
    asked = {"total_fee": wish.total_fee, "body": wish.body, "attach": wish.attach or ""}
    if claims.get("openid") is not None:
        asked["openid"] = wish.openid
    for name, value in asked.items():
        quoted = claims.get(name)
        quoted = "" if name == "attach" and quoted is None else quoted
        if type(quoted) is not type(value) or quoted != value:  # True is not 1 fen, 1.0 neither
            raise QuoteMismatch(f"the quote has another {name}", field=name)


def _id_of(text: str, claims: Mapping[str, Any]) -> str:
    """The same for the same quote: by its `jti` if it has one, else by all that was signed."""
    name = f"jti {claims['jti']}" if claims.get("jti") else f"quote {text.rpartition('.')[0]}"
    return hashlib.sha256(name.encode()).hexdigest()
