"""What happened to an order, in the words the shop's backend hears."""

from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

Fact = str | int | None

# Steps that matter to the history of an order and not to the shop.
INTERNAL = frozenset({"order.prepared", "refund.accepted"})


@frozen
class Event:
    """One step of one order; each version of an order has exactly one."""

    name: str  # "order.paid"
    out_trade_no: str
    version: int
    at: datetime
    cause: str  # who or what brought it: "api", "notify 2f1c…", "query", "janitor", …
    facts: Mapping[str, Fact]  # the order as it stood right after this step
    status_before: str | None = None  # None: the order did not exist
    evidence: str = field(default="", repr=False)  # WeChat's message that brought it, masked

    @property
    def id(self) -> str:
        """Stable across retries, so that a receiver can drop repeats."""
        return f"{self.out_trade_no}-{self.version}"

    @property
    def is_public(self) -> bool:
        """Whether the shop's backend hears of it."""
        return self.name not in INTERNAL
