"""The letters to the shop's backend: what was delivered, what waits, what was set aside."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from attrs import frozen

from domain.events import Event

# Waits between tries: about three days in all, then the letter is set aside.
WAITS = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200, 57_600, 86_400)
)
ANSWER_BYTES_MAX = 1024  # of the shop's answer that are kept


class LetterState(StrEnum):
    """Where a letter stands."""

    WAITING = "WAITING"
    BEHIND = "BEHIND"  # an earlier letter of its order still waits
    DELIVERED = "DELIVERED"
    SET_ASIDE = "SET_ASIDE"


@frozen
class Letter:
    """One event on its way; `tries` counts those already made."""

    event: Event
    tries: int = 0
    state: LetterState = LetterState.WAITING
    due_at: datetime | None = None


@frozen(kw_only=True)
class Delivery:
    """One try: what the shop answered, or why nothing came back. `milliseconds` is how long it took."""

    event_id: str
    at: datetime
    heard: bool
    status: int | None = None
    answer: str = ""
    error: str = ""
    milliseconds: int = 0


class Outbox(Protocol):
    """Letters are written with their order, in one transaction, and only where a backend listens."""

    async def due(self, now: datetime, limit: int) -> Sequence[Letter]:
        """Claim letters whose time has come: of each order only the first that still waits."""
        ...

    async def settle(self, letter: Letter, delivery: Delivery, state: LetterState, due_at: datetime) -> None:
        """Write down a try and where the letter stands after it."""
        ...

    async def letters(self, state: LetterState | None, limit: int) -> Sequence[Letter]:
        """The newest letters of a state, or of all."""
        ...

    async def replay(self, event_id: str, now: datetime) -> bool:
        """Let the letter wait again, due at once; whether there is such a letter."""
        ...

    async def deliveries(self, out_trade_no: str) -> Sequence[Delivery]:
        """All tries for the order's letters, oldest first."""
        ...

    async def oldest_waiting(self) -> datetime | None:
        """When the event of the oldest waiting letter happened."""
        ...


class Backend(Protocol):
    """The shop behind us."""

    async def hear(self, event: Event, now: datetime) -> Delivery:
        """Tell it once; it may hear the same event twice. Never raises for what the shop does."""
        ...
