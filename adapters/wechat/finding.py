"""What a doctor says: one finding for each check, and how checks hang together."""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from attrs import frozen

Bench = TypeVar("Bench")


class Verdict(StrEnum):
    """What a check comes down to; only FAILED is a reason not to go live."""

    FINE = "ok"
    FAILED = "failed"
    WARNING = "warning"  # works, or can't be told from here; worth a look
    SKIPPED = "skipped"


@frozen
class Finding:
    """One line of the doctor's table. It names settings and files, never a secret."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


@frozen
class Probe(Generic[Bench]):
    """One check. Each of `needs` lists checks of which one must be fine; none of `unless` may have failed."""

    name: str
    run: Callable[[Bench], Awaitable[Finding]]
    needs: tuple[tuple[str, ...], ...] = ()
    unless: tuple[str, ...] = ()

    def obstacle(self, done: Mapping[str, Finding]) -> str:
        """The earlier check without which this one would tell nothing; "" when there is none."""
        good = {Verdict.FINE, Verdict.WARNING}
        for choice in self.needs:
            if not any(name in done and done[name].verdict in good for name in choice):
                return choice[0]
        return next((n for n in self.unless if n in done and done[n].verdict is Verdict.FAILED), "")


def fine(found: str) -> Finding:
    """As it should be; whoever runs the check names it."""
    return Finding("", Verdict.FINE, found)


def failed(found: str, remedy: str) -> Finding:
    """To be mended."""
    return Finding("", Verdict.FAILED, found, remedy)


def warning(found: str, remedy: str) -> Finding:
    """Not proven wrong."""
    return Finding("", Verdict.WARNING, found, remedy)


def skipped(found: str, remedy: str = "") -> Finding:
    """Nothing to check, and why."""
    return Finding("", Verdict.SKIPPED, found, remedy)
