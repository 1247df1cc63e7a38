"""One connection and what it may take: how many there are, how much they send, how long they need."""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from attrs import Factory, define

from adapters.http.errors import (
    BadRequest,
    HeadersTooLarge,
    InternalError,
    RequestTimeout,
    TooManyConnections,
    UrlTooLong,
    explained,
    retry_after,
    status_of,
)
from adapters.http.serving import ALWAYS, JSON_HEADERS, encode
from adapters.http.trace import new_request_id
from domain.errors import PaymentError

log = logging.getLogger("minitill.http")

LINES_MAX = 900  # connections at a time; a process usually may hold 1024 files
HEAD_SECONDS = 10.0  # to send a request's line and headers
QUIET_SECONDS = 75.0  # a kept connection without a request is closed; proxies keep theirs for 60
URL_BYTES_MAX = 4096
FIELD_BYTES_MAX = 8190  # one header with its value
HEAD_BYTES_MAX = 32 * 1024  # line and headers together
FIELDS_MAX = 100

# How aiohttp is to treat a connection: we write our own line for each request; a body that
# unpacks to a thousand times its size stays packed; and who is refused for sending too much
# has a second more to notice before the line is cut.
LINE_OPTIONS: Mapping[str, Any] = {
    "access_log": None,
    "auto_decompress": False,
    "keepalive_timeout": QUIET_SECONDS,
    "lingering_time": 1.0,
    "max_field_size": FIELD_BYTES_MAX,
    "max_headers": FIELDS_MAX,
    "max_line_size": URL_BYTES_MAX,
}


@define(kw_only=True)
class Door:
    """Makes a Line of each connection that `asyncio` accepts, and knows those that are open."""

    server: web.Server
    lines_max: int = LINES_MAX
    head_seconds: float = HEAD_SECONDS
    head_bytes_max: int = HEAD_BYTES_MAX
    options: Mapping[str, Any] = LINE_OPTIONS
    lines: set["Line"] = Factory(set)

    def __call__(self) -> "Line":
        return Line(self)


class Line(web.RequestHandler):
    """A connection that hangs up, with a word, on whoever is one too many, too slow or too long-winded."""

    __slots__ = ("_body", "_door", "_head_bytes", "_timer")

    def __init__(self, door: Door) -> None:
        super().__init__(door.server, loop=asyncio.get_running_loop(), **door.options)
        self._door = door
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._body: StreamReader | None = None  # of the request that came last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to listen, unless too many talk already."""
        super().connection_made(transport)
        self._door.lines.add(self)
        if len(self._door.lines) > self._door.lines_max:
            self._hang_up(TooManyConnections())
            return
        self._start_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        self._door.lines.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand on what came; count it while a request's head is not complete."""
        in_head = self._body is None or self._body.is_eof()
        count = self._request_count
        super().data_received(data)
        if self._request_count > count:
            self._stop_timer()
            self._head_bytes = 0
            self._body = self._messages[-1][1]
        elif in_head and data:
            self._head_bytes += len(data)
            if self._head_bytes > self._door.head_bytes_max:
                self._hang_up(HeadersTooLarge())
            elif self._timer is None:
                self._start_timer()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the caller
    ) -> web.StreamResponse:
        """What is not HTTP, in the words of our API; the bytes themselves reach neither log nor answer."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        refusal = _refusal(status, exc)
        number = new_request_id()
        log.warning("request_id=%s: %s: not served", number, refusal.code)
        response = web.Response(
            status=status_of(type(refusal)),
            body=encode(explained(refusal, number)),
            headers={**JSON_HEADERS, **ALWAYS, "X-Request-Id": number},
        )
        response.force_close()
        return response

    def _start_timer(self) -> None:
        self._timer = self._loop.call_later(self._door.head_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._head_bytes:
            self._hang_up(RequestTimeout())
        else:
            self.force_close()  # it never said a word

    def _hang_up(self, refusal: PaymentError) -> None:
        """Say why and end it; while an earlier request is being answered, end it after that."""
        if self._request_in_progress or self._messages:
            self.close()
            return
        if self.transport is None:
            return
        number = new_request_id()
        log.warning("request_id=%s: %s: a connection was ended", number, refusal.code)
        self.transport.write(_whole_answer(refusal, number))
        self.force_close()


def _refusal(status: int, exc: BaseException | None) -> PaymentError:
    if isinstance(exc, LineTooLong):
        # All that aiohttp tells the two apart by is the limit.
        return UrlTooLong() if exc.args[1] == URL_BYTES_MAX else HeadersTooLarge()
    return BadRequest("not HTTP as we read it") if status < 500 else InternalError()


def _whole_answer(refusal: PaymentError, number: str) -> bytes:
    """An answer as it goes over the wire."""
    status = status_of(type(refusal))
    body = encode(explained(refusal, number))
    wait = retry_after(refusal)
    fields = {
        **JSON_HEADERS,
        **ALWAYS,
        **({"Retry-After": wait} if wait else {}),
        "X-Request-Id": number,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    return (head + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n").encode() + body
