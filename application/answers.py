"""Idempotency keys: the same key and body get the same answer, whatever happened in between."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from attrs import frozen

from domain.errors import PaymentError

KEEP = timedelta(days=2)  # at least 24 hours, in whatever second the sweeper comes by
PROMISED = timedelta(days=30)  # longer still for a promise: no order can be paid for that long


@frozen(kw_only=True)
class Answer:
    """What a caller got, or will get, for its key.

    `status` 0: the work is promised and not known to be done; a repeat goes on
    with it under `number`, the out_trade_no or out_refund_no.
    """

    caller: str
    key: str
    request_hash: str
    number: str
    status: int = 0
    body: bytes = b""
    at: datetime


@frozen(kw_only=True)
class Keyed:
    """A request that came with an Idempotency-Key; `write` turns its outcome into status and body."""

    caller: str
    key: str
    request_hash: str
    write: Callable[[object], tuple[int, bytes]]

    def answer(self, number: str, now: datetime, outcome: object = None) -> Answer:
        """The answer to remember: finished if there is an outcome, else a promise."""
        status, body = (0, b"") if outcome is None else self.write(outcome)
        return Answer(
            caller=self.caller,
            key=self.key,
            request_hash=self.request_hash,
            number=number,
            status=status,
            body=body,
            at=now,
        )


class KeyTaken(PaymentError):
    """Another request with this key came first: its answer counts."""

    code = "IDEMPOTENCY_KEY_IN_USE"


class KeyReused(PaymentError):
    """The key was used with another body."""

    code = "IDEMPOTENCY_KEY_REUSED"


class Answers(Protocol):
    """What was answered under which key."""

    async def recall(self, caller: str, key: str) -> Answer | None:
        """The answer or promise under this key, if there is one."""
        ...

    async def remember(self, answer: Answer) -> None:
        """Put the finished answer in the promise's place."""
        ...

    async def forget(self, before: datetime) -> int:
        """Drop answers older than that, and promises 30 days older; return how many."""
        ...
