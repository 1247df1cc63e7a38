"""What the log knows about the request being served."""

import re
import secrets
from contextvars import ContextVar

from aiohttp import web
from attrs import define

GIVEN_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}\Z")


@define
class Trace:
    """Filled in while the request is served; one line of the log when it is done."""

    request_id: str
    caller: str = "-"
    code: str = "-"  # of the refusal, if it ends in one
    out_trade_no: str = "-"
    is_plain: bool = False  # the route answers in its own words, so its errors are no JSON either


TRACE: ContextVar[Trace | None] = ContextVar("trace", default=None)


def request_id() -> str:
    """The id of the request this code runs for; '-' outside of any. For log lines of every room."""
    trace = TRACE.get()
    return trace.request_id if trace else "-"


def current() -> Trace:
    """The trace of the request being served; a stray one outside of any, so that nobody needs to ask."""
    return TRACE.get() or Trace("-")


def note(code: str, out_trade_no: str) -> None:
    """What a route that answers in its own words tells of itself; '' where there is nothing to tell."""
    trace = current()
    trace.code, trace.out_trade_no = code or trace.code, out_trade_no or trace.out_trade_no


def given_request_id(request: web.Request) -> str:
    """The caller's own X-Request-Id if it is safe to log and to send back, else ''."""
    given = request.headers.get("X-Request-Id", "")
    return given if GIVEN_REQUEST_ID.match(given) else ""


def new_request_id() -> str:
    """16 hexadecimal digits of chance."""
    return secrets.token_hex(8)
