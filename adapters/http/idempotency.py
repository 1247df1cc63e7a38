"""The Idempotency-Key header: read it, let twins wait for each other, write the answer to remember."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from attrs import Factory, define
from msgspec import UNSET, Struct

from adapters.http.errors import BadRequest, explained, status_of
from adapters.http.routes import Call, Rendered
from adapters.http.serving import encode
from adapters.http.shapes import ErrorAnswer
from adapters.http.trace import Trace
from application.answers import Answer, Keyed
from domain.errors import PaymentError

HEADER = "Idempotency-Key"
KEY_MAX = 255  # characters

log = logging.getLogger("minitill.http")


@define
class Turns:
    """Requests of one caller with one key take turns in this process; across processes the store decides."""

    waiting: dict[tuple[str, str], tuple[asyncio.Lock, int]] = Factory(dict)

    @asynccontextmanager
    async def of(self, keyed: Keyed) -> AsyncIterator[None]:
        """Wait until nobody else works on the key."""
        name = (keyed.caller, keyed.key)
        lock, users = self.waiting.get(name, (asyncio.Lock(), 0))
        self.waiting[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            _, users = self.waiting[name]
            if users == 1:
                del self.waiting[name]
            else:
                self.waiting[name] = (lock, users - 1)


def keyed(call: Call[Any, None], answer_of: Callable[[Any], Struct]) -> Keyed | None:
    """The request's key, if it came with one; `answer_of` shapes what went well. Raises BadRequest."""
    keys = call.request.headers.getall(HEADER, [])
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not 0 < len(key) <= KEY_MAX or not key.isprintable():
        raise BadRequest(f"{HEADER} must be one of 1 to {KEY_MAX} characters that can be read", field=HEADER)
    caller = f"{call.caller.kind.name} {call.caller.openid or call.caller.name}"

    def write(outcome: object) -> tuple[int, bytes]:
        if isinstance(outcome, PaymentError):
            return status_of(type(outcome)), encode(explained(outcome, call.trace.request_id))
        return 200, encode(answer_of(outcome))

    said = call.request.path.encode() + b"\n" + encode(call.body)
    return Keyed(caller=caller, key=key, request_hash=hashlib.sha256(said).hexdigest(), write=write)


def rendered(answer: Answer, trace: Trace) -> Rendered:
    """The answer to a key as it goes out; when it is a refusal, the log hears of it as of any other."""
    if answer.status != 200:
        error = msgspec.json.decode(answer.body, type=ErrorAnswer).error
        trace.code = error.code
        words = "" if error.wechat is UNSET else f"{error.wechat.err_code} {error.wechat.err_code_des}"
        first = "" if error.request_id == trace.request_id else f", as first answered to {error.request_id}"
        log.warning(
            "request_id=%s: %s: %s %s%s",
            *(trace.request_id, error.code, answer.number, " ".join(words.split()), first),
        )
    return Rendered(answer.status, answer.body)
