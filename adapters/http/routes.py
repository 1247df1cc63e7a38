"""A route: what is called, who may, what goes in and comes out. A route without `who` cannot be made."""

import re
from collections.abc import Awaitable, Callable, Mapping
from enum import Flag, auto
from typing import Any, Generic, TypeVar

from aiohttp import web
from attrs import Attribute, field, frozen
from msgspec import Struct

from adapters.http.errors import (
    BadJson,
    BadRequest,
    BodyTooLarge,
    InternalError,
    RequestTimeout,
    UnsupportedMediaType,
)
from adapters.http.trace import Trace
from application.access import Forbidden, Scope, TokenExpired, Unauthenticated
from application.errors import StoreUnavailable
from domain.errors import PaymentError

Body = TypeVar("Body")
Parameters = TypeVar("Parameters")

IN_PATH = re.compile(r"{(\w+)}")


class Who(Flag):
    """The kinds of caller. WECHAT and ANYONE are never asked for a login (R22)."""

    PAYER = auto()
    BACKEND = auto()
    OPERATOR = auto()
    WECHAT = auto()
    ANYONE = auto()


OPEN = Who.WECHAT | Who.ANYONE
GUARDED = (Unauthenticated, TokenExpired, Forbidden, StoreUnavailable)  # what a guard refuses with


@frozen(kw_only=True)
class Caller:
    """Who calls. A payer has an openid; `name` is for the log and an order's history: never an openid."""

    kind: Who
    name: str
    openid: str | None = None

    def check_own(self, openid: str) -> None:
        """Raise Forbidden for a payer who means somebody else's orders (R20)."""
        if self.kind is Who.PAYER and openid != self.openid:
            raise Forbidden("another payer's orders")


ANYONE = Caller(kind=Who.ANYONE, name="anyone")


@frozen(kw_only=True)
class Call(Generic[Body, Parameters]):
    """One request, read and checked."""

    request: web.Request
    caller: Caller
    body: Body
    parameters: Parameters
    trace: Trace

    @property
    def cause(self) -> str:
        """What the history of an order names as the reason of a step."""
        return f"api {self.caller.name}"


@frozen
class Rendered:
    """An answer as it went out the first time."""

    status: int
    body: bytes


def valid_who(_owner: object, _attribute: "Attribute[Who]", who: Who) -> None:
    """Somebody must be named; who is open to all is open to all."""
    if not who or (who & OPEN and who not in (Who.WECHAT, Who.ANYONE)):
        raise ValueError(f"a route says who may call it, and an open one nothing else: {who}")


@frozen(kw_only=True)
class AnyRoute:
    """What every route says: the call, who may make it, and what it is for.

    `scope` is what a backend's key must allow; an operator's key allows everything.
    """

    method: str
    path: str
    who: Who = field(validator=valid_who)
    scope: Scope | None = None
    summary: str

    def __attrs_post_init__(self) -> None:
        if (Who.BACKEND in self.who) != (self.scope is not None):
            raise ValueError(f"{self.path}: a backend's route, and no other, says which scope it takes")

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        return bool(self.who & OPEN)


@frozen(kw_only=True)
class PlainRoute(AnyRoute):
    """A route that answers in its own words: WeChat's notifications, pages. Its errors are plain text.

    `described` is what the API's document says of it: parts of an OpenAPI operation.
    """

    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    described: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class Route(AnyRoute):
    """A route of the JSON API.

    `body` is the shape of the request's JSON, `parameters` that of path and
    query together (a name in the path's braces comes from the path), `answer`
    that of the whole answer, envelope and all. `refusals` are those of this
    route alone; `all_refusals` adds what follows from its shapes. An `idempotent`
    one heeds the header Idempotency-Key.
    """

    handler: Callable[[Call[Any, Any]], Awaitable[Struct | Rendered]]
    body: type[Struct] | None = None
    parameters: type[Struct] | None = None
    answer: type[Struct]
    refusals: tuple[type[PaymentError], ...] = ()
    idempotent: bool = False

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        known = self.parameters.__struct_fields__ if self.parameters else ()
        nameless = set(IN_PATH.findall(self.path)) - set(known)
        if nameless:
            raise ValueError(f"{self.path}: no shape says what {', '.join(sorted(nameless))} is")

    @property
    def all_refusals(self) -> tuple[type[PaymentError], ...]:
        """Every refusal this route may answer with."""
        implied: tuple[type[PaymentError], ...] = (InternalError,)
        if not self.is_open:
            implied += GUARDED
        if self.parameters:
            implied += (BadRequest,)
        if self.body:
            implied += (BadRequest, BadJson, UnsupportedMediaType, BodyTooLarge, RequestTimeout)
        return tuple(dict.fromkeys(self.refusals + implied))


Guard = Callable[[web.Request, AnyRoute], Awaitable[Caller]]  # raises a PaymentError to refuse


async def open_door(_request: web.Request, _route: AnyRoute) -> Caller:
    """Whoever can reach us may call everything: the guard of the sandbox."""
    return ANYONE
