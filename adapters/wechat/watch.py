"""Every call to WeChat, watched: how long it took, what came of it, and the evidence when it failed."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import field, frozen

from adapters.wechat.client import EXCHANGE, Exchange
from adapters.wechat.errors import TABLE, Call, canonical, explain_request_id, one_line, verdict
from adapters.wechat.evidence import masked, shown_headers, shown_raw
from application.failures import Failure, FailureBook
from application.observer import Observer
from application.ports import Clock, Refused, Unknown

Answer = TypeVar("Answer")

NO_CODE = "NO_ANSWER"  # nothing came back, or nothing that can be trusted
OUR_CODES = frozenset({"KEYS_MISSING", "OTHER_MERCHANT", "NO_CERTIFICATE", "NOT_IN_V2", "NO_REFUND_ID"})


@frozen(kw_only=True)
class Watch:
    """Looks on; without a book it keeps no evidence. The answer is handed on as it is."""

    clock: Clock | None = None
    book: FailureBook | None = None
    observer: Observer = field(factory=Observer)
    monotonic: Callable[[], float] = time.monotonic

    async def over(self, call: Call, number: str, asking: Awaitable[Answer]) -> Answer:
        """Await the call about the order or refund of that number."""
        exchange, started = Exchange(), self.monotonic()
        token = EXCHANGE.set(exchange)
        try:
            answer = await asking
        finally:
            EXCHANGE.reset(token)
        outcome, code = outcome_of(call, answer)
        self.observer.called(call.value, outcome, code, self.monotonic() - started)
        if isinstance(answer, Refused | Unknown) and self.book is not None and self.clock is not None:
            # The same code to the same call is the same failure, whichever order it was about.
            await self.book.keep(explained(call, number, answer, exchange, self.clock))
        return answer


def outcome_of(call: Call, answer: object) -> tuple[str, str]:
    """done, refused or unknown, and the code; a code that WeChat does not list for the call is OTHER."""
    if not isinstance(answer, Refused | Unknown):
        return "done", ""
    listed = answer.err_code in OUR_CODES or (call, canonical(answer.err_code)) in TABLE
    code = (answer.err_code if listed else "OTHER") if answer.err_code else NO_CODE
    return ("refused" if isinstance(answer, Refused) else "unknown"), code


def explained(
    call: Call, number: str, answer: Refused | Unknown, exchange: Exchange, clock: Clock
) -> Failure:
    """What is known of a failed call: the codes, their meaning (R48), and what came back."""
    raw = exchange.answer
    meaning = answer.explanation if isinstance(answer, Refused) else _meaning(call, answer)
    suffix = explain_request_id(answer.request_id)
    request_id = answer.request_id or (raw.request_id if raw else "")
    detail = f"{answer.why}; {answer.description}" if isinstance(answer, Unknown) else answer.description
    status = f"; HTTP {raw.status}" if raw else ""
    return Failure(
        kind=f"call.{call.value}",
        code=one_line(answer.err_code) or NO_CODE,
        # Calls without an answer fail in ways of their own: a silent host is no wrong signature.
        about=one_line(answer.why) if isinstance(answer, Unknown) and not answer.err_code else "",
        detail=masked(one_line(detail.strip("; ") + status)),
        out_trade_no="" if number == "-" else number,
        serial=one_line(raw.headers.get("Wechatpay-Serial", "")[:64]) if raw else "",
        request_id=one_line(request_id),
        explanation="; ".join(part for part in (meaning, f"Request-Id {suffix}" if suffix else "") if part),
        headers=shown_headers(raw.headers) if raw else {},
        evidence=shown_raw(raw.body) if raw and raw.body else "",
        at=clock(),
    )


def _meaning(call: Call, answer: Unknown) -> str:
    if answer.err_code:
        return verdict(call, answer.err_code).explanation
    if "decrypt" in answer.why or "not verified" in answer.why:
        return "WeChat's signature does not fit the keys we hold: minitill doctor tells which"
    return "WeChat may have acted or not; the janitor asks until it knows"
