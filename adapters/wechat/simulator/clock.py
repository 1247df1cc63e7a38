"""The simulator's time, and what is to be done at which moment of it.

There are two readings. `wire_now` is the time both sides of the wire share: signatures carry it and are
checked against it, so a client with a right clock is understood whatever happens here; only `disagree`
sets it apart from the caller's. `now` is WeChat's calendar, which `advance` moves ahead: expiry, the
notification schedule, banking days.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count

from attrs import define, field

Action = Callable[[], Awaitable[None]]

NAP_MAX_SECONDS = 3600.0


def real_time() -> datetime:
    """The machine's clock, aware, in UTC."""
    return datetime.now(UTC)


@define(eq=False)
class SimClock:
    """Time that can be moved ahead; whoever waits on it is told."""

    base: Callable[[], datetime] = real_time
    offset: timedelta = timedelta(0)
    skew: timedelta = timedelta(0)  # by how much the wire's time is ahead of the caller's (R5)
    _listeners: list[Callable[[], None]] = field(factory=list)

    def now(self) -> datetime:
        """The moment on WeChat's calendar, aware, in UTC."""
        return self.base() + self.offset

    def wire_now(self) -> datetime:
        """The moment that signatures carry: it never jumps, unless someone disagrees."""
        return self.base() + self.skew

    def on_calendar(self, moment: datetime) -> datetime:
        """A moment that a caller named by the shared time, as WeChat's calendar has it: as far ahead."""
        return moment + self.offset

    def advance(self, by: timedelta) -> None:
        """Move WeChat's calendar ahead; raise ValueError for a step back."""
        if by < timedelta(0):
            raise ValueError("time does not run backwards")
        self.offset += by
        self.wake()

    def disagree(self, by: timedelta) -> None:
        """Let WeChat's clock be ahead of the caller's, or behind it: what a caller without NTP sees."""
        self.skew = by

    def reset(self) -> None:
        """Put WeChat's calendar and its clock back on the shared time."""
        self.offset = self.skew = timedelta(0)
        self.wake()

    def wake(self) -> None:
        """Tell the waiting that time has moved; needed after moving `base` from outside."""
        for listener in self._listeners:
            listener()

    def on_move(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)


@define(eq=False)
class Agenda:
    """Actions, each due at a moment; those that are due run side by side."""

    clock: SimClock
    _entries: list[tuple[datetime, int, Action]] = field(factory=list)
    _serial: "count[int]" = field(factory=count)
    _running: set[asyncio.Task[None]] = field(factory=set)
    _moved: asyncio.Event = field(factory=asyncio.Event)
    _loop: asyncio.Task[None] | None = None
    _failure: BaseException | None = None

    def __attrs_post_init__(self) -> None:
        self.clock.on_move(self._moved.set)

    def at(self, due_at: datetime, action: Action) -> None:
        """Do it once that moment has come."""
        heapq.heappush(self._entries, (due_at, next(self._serial), action))
        self._moved.set()

    def clear(self) -> None:
        """Forget what is not yet due, and break off what is under way."""
        self._entries.clear()
        for task in self._running:
            task.cancel()

    def start(self) -> None:
        self._loop = asyncio.create_task(self._run(), name="simulator agenda")

    async def stop(self) -> None:
        """End every task and wait for its end."""
        tasks = [*self._running, *([self._loop] if self._loop else [])]
        self._entries.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loop = None

    async def settle(self) -> None:
        """Wait until nothing is due and nothing is under way; raise what an action raised."""
        while self._running or self._due():
            self._moved.set()
            if self._running:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _due(self) -> bool:
        return bool(self._entries) and self._entries[0][0] <= self.clock.now()

    async def _run(self) -> None:
        while True:
            self._moved.clear()
            while self._due():
                _, _, action = heapq.heappop(self._entries)
                task = asyncio.ensure_future(action())
                self._running.add(task)
                task.add_done_callback(self._ended)
            try:
                async with asyncio.timeout(self._nap()):
                    await self._moved.wait()
            except TimeoutError:
                continue

    def _nap(self) -> float:
        if not self._entries:
            return NAP_MAX_SECONDS
        ahead = (self._entries[0][0] - self.clock.now()).total_seconds()
        return min(max(ahead, 0.001), NAP_MAX_SECONDS)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
        self._moved.set()
