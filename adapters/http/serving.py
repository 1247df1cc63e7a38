"""From a route to a handler: guard, read, call, answer."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct
from multidict import CIMultiDict

from adapters.http.errors import (
    MISSHAPEN,
    BadJson,
    BadRequest,
    BodyTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from adapters.http.routes import ANYONE, AnyRoute, Call, Caller, Guard, PlainRoute, Rendered, Route
from adapters.http.trace import current
from domain.errors import FeeOutOfRange, InvalidOrder

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Check = Callable[[web.Request, AnyRoute, Caller], None]  # raises a PaymentError to refuse

BODY_BYTES_MAX = 64 * 1024
BODY_SECONDS = 20.0  # for the whole body to arrive
FIELD_NAME_MAX = 64  # characters of a caller's own field name that we send back

JSON_HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "Cache-Control": "no-store",
}
# On every answer, whoever wrote it, unless it brought its own.
ALWAYS = {
    "Server": "minitill",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

# msgspec tells where only in its words: "… - at `$.total_fee`", "… field `x`".
NAMED = re.compile(r"Object (?:missing required|contains unknown) field `(.+?)`(?: - at `|\Z)", re.DOTALL)
PLACED = re.compile(r" - at `\$\.([^`]+)`\Z")

encode = msgspec.json.Encoder().encode


def dress(headers: CIMultiDict[str]) -> None:
    """Give an answer what all of them carry; aiohttp has named itself as the server by now."""
    headers["Server"] = ALWAYS["Server"]
    for name, value in ALWAYS.items():
        headers.setdefault(name, value)


def json_answer(answer: Struct, status: int = 200) -> web.Response:
    """The answer as bytes, never to be cached or guessed at."""
    return web.Response(body=encode(answer), status=status, headers=JSON_HEADERS)


def unlimited(_request: web.Request, _route: AnyRoute, _caller: Caller) -> None:
    """As often as they like."""


def serve(
    route: Route, guard: Guard, check: Check = unlimited, body_seconds: float = BODY_SECONDS
) -> Handler:
    """The handler of a JSON route; its decoder is built once. `check` refuses who calls too often."""
    decoder = msgspec.json.Decoder(route.body) if route.body else None

    async def handle(request: web.Request) -> web.StreamResponse:
        trace = current()
        caller = ANYONE if route.is_open else await guard(request, route)
        trace.caller = caller.name
        check(request, route, caller)
        call = Call(
            request=request,
            caller=caller,
            body=await read_body(request, decoder, body_seconds) if decoder else None,
            parameters=read_parameters(request, route.parameters) if route.parameters else None,
            trace=trace,
        )
        answer = await route.handler(call)
        if isinstance(answer, Rendered):
            return web.Response(body=answer.body, status=answer.status, headers=JSON_HEADERS)
        return json_answer(answer)

    return handle


def serve_plain(route: PlainRoute, guard: Guard) -> Handler:
    """The handler of a route that answers in its own words."""

    async def handle(request: web.Request) -> web.StreamResponse:
        trace = current()
        trace.is_plain = True
        caller = ANYONE if route.is_open else await guard(request, route)
        trace.caller = caller.name
        return await route.handler(request)

    return handle


async def read_body(request: web.Request, decoder: msgspec.json.Decoder[Any], seconds: float) -> Any:
    """The request's JSON in the decoder's shape.

    Raises UnsupportedMediaType or BodyTooLarge before anything is read, RequestTimeout
    when it is not there after `seconds`, BadJson, BadRequest, or the refusal that the field has of its own.
    """
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() != "utf-8":
        raise UnsupportedMediaType("the body must be application/json in UTF-8")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("a compressed body is not read")
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise BodyTooLarge(f"the body is over {BODY_BYTES_MAX} bytes")
    try:
        async with asyncio.timeout(seconds):
            body = await request.read()
    except TimeoutError:
        raise RequestTimeout(f"the body was not there after {seconds:g} s") from None
    except (web.RequestPayloadError, ConnectionError):
        raise BadRequest("the body broke off") from None
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise misshapen(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadJson("the body is not JSON") from None


def read_parameters(request: web.Request, shape: type[Struct]) -> Any:
    """Path and query in the route's shape; what the shape doesn't know is ignored. Raises BadRequest."""
    given = {**request.query, **request.match_info}
    try:
        parameters = msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        raise misshapen(error) from None
    for name in given.keys() & set(shape.__struct_fields__):
        value = getattr(parameters, name)
        if isinstance(value, int) and str(value) != given[name]:  # msgspec reads 5.0 and 1e1 as integers
            raise BadRequest(f"{name} is no integer as we write them", field=name)
    return parameters


def misshapen(error: msgspec.ValidationError) -> InvalidOrder:
    """The refusal that names the field msgspec stumbled over."""
    words = str(error)
    found = NAMED.match(words) or PLACED.search(words)
    name = found[1][:FIELD_NAME_MAX] if found else ""
    if words.startswith("Object contains unknown"):
        return BadRequest(words[:200], field=name)
    if name in MISSHAPEN and words.startswith("Integer value out of range"):
        return FeeOutOfRange(f"{name} has thousands of digits", field=name)
    return MISSHAPEN.get(name, BadRequest)(words[:200], field=name)
