"""What a database has to be able to do for us: run one write whole, run one read."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from attrs import frozen

from domain.errors import PaymentError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Row = Sequence[Any]


@frozen
class Step:
    """One statement of a write; with a `refusal`, the whole write is refused unless it touches one row."""

    sql: str
    values: Mapping[str, Any]
    refusal: PaymentError | None = None


class Engine(Protocol):
    """A database. Both calls raise StoreUnavailable when it gives way; a write is then not done."""

    async def write(self, steps: Sequence[Step]) -> Sequence[Row]:
        """Run the steps in one transaction; return when it is durable, with the rows the last step gave.

        Raises the refusal of the first step that did not touch its row: nothing is written then.
        """
        ...

    async def read(self, statement: str, values: Mapping[str, Any]) -> Sequence[Row]:
        """Run one SELECT."""
        ...

    async def close(self) -> None:
        """Let what is being written end, then let the database go."""
        ...


def micros(at: datetime) -> int:
    """Microseconds since 1970, exactly: no float comes near."""
    return (at - EPOCH) // MICROSECOND


def moment(at: int) -> datetime:
    """The moment again, aware UTC."""
    return EPOCH + at * MICROSECOND


def maybe_micros(at: datetime | None) -> int | None:
    """As `micros`, where there may be no moment."""
    return None if at is None else micros(at)


def maybe_moment(at: int | None) -> datetime | None:
    """As `moment`, where there may be none."""
    return None if at is None else moment(at)
