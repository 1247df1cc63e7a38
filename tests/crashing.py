"""A process that dies in the middle: at the n-th call of one of its ports, before it or right after it."""

import asyncio
import inspect

from attrs import define


class Crash(BaseException):
    """The process is gone; nothing of it runs any more, not even an `except Exception`."""


@define(eq=False)
class Fuse:
    """Counts the calls that go through it; at the call numbered `at` the process dies."""

    at: int = -1  # never
    after: bool = False  # the call's work is done, and its answer lost
    calls: int = 0
    burnt: bool = False

    async def through(self, call):
        """Make the call, unless the process is dead or dies of it."""
        self.calls += 1
        fatal = self.calls == self.at
        if self.burnt or (fatal and not self.after):
            self.burnt = True
            raise Crash
        answer = await call()
        if self.burnt or fatal:
            self.burnt = True
            raise Crash
        return answer


class Fused:
    """A port whose every call goes through the fuse."""

    def __init__(self, port, fuse):
        self._port, self._fuse = port, fuse

    def __getattr__(self, name):
        """The port's own, with the fuse before every call that waits."""
        found = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *given, **named: self._fuse.through(lambda: found(*given, **named))


async def until_death(*work):
    """Run the work side by side; return whether it was cut off by a Crash. What it left running dies too."""
    before = asyncio.all_tasks()
    try:
        await asyncio.gather(*work)
    except Crash:
        return True
    finally:
        await asyncio.gather(*(asyncio.all_tasks() - before), return_exceptions=True)
    return False
