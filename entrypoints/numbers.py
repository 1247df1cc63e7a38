"""New out_trade_no and out_refund_no: unique over processes and restarts without asking anyone."""

from collections.abc import Callable
from secrets import randbelow

from attrs import define, field

from application.ports import Clock

ROOM = 10**10  # ten digits after the seconds
# Shares no factor with ROOM, so a walk of this stride meets each of the 10^10
# places once before it comes back; neighbours look unrelated.
STRIDE = 6_180_339_887


@define
class Numbers:
    """`PAY` or `REF`, ten digits of unix seconds, ten digits of a walk that began at a random place.

    Within a process no number repeats before 10^10 of them. Two processes walk
    with the same stride from places drawn at random, so that numbers of one
    second meet only if the starts lie closer together than the numbers made in
    that second: for a thousand a second, once in five million pairs of
    processes. WeChat and the store refuse a repeat all the same (R7, R34), and
    the order is then placed under a new number.
    """

    prefix: str
    clock: Clock
    chance: Callable[[int], int] = randbelow
    place: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.place = self.chance(ROOM)

    def __call__(self) -> str:
        """The next number, 23 characters."""
        self.place = (self.place + STRIDE) % ROOM
        return f"{self.prefix}{int(self.clock().timestamp()):010}{self.place:010}"
