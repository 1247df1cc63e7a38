"""What the machinery around us asks: are you alive, can you work?"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from attrs import frozen

from adapters.http.errors import NotReady
from adapters.http.routes import Call, Route, Who
from adapters.http.shapes import HealthAnswer
from domain.errors import PaymentError

log = logging.getLogger("minitill.http")

Check = Callable[[], Awaitable[None]]  # raises OSError or a PaymentError when it fails


@frozen(kw_only=True)
class Health:
    """`checks` by name; each has `seconds_max` to answer."""

    checks: Mapping[str, Check]
    seconds_max: float = 2.0

    def routes(self) -> tuple[Route, ...]:
        """Open to anyone: they tell nothing but a word."""
        return (
            Route(
                method="GET",
                path="/healthz",
                who=Who.ANYONE,
                handler=self.alive,
                summary="进程是否存活",
                answer=HealthAnswer,
            ),
            Route(
                method="GET",
                path="/readyz",
                who=Who.ANYONE,
                handler=self.ready,
                summary="是否可以提供服务",
                answer=HealthAnswer,
                refusals=(NotReady,),
            ),
        )

    async def alive(self, _call: Call[None, None]) -> HealthAnswer:
        """That we answer is the answer."""
        return HealthAnswer()

    async def ready(self, _call: Call[None, None]) -> HealthAnswer:
        """Raise NotReady with the names of the checks that fail; why is in the log."""
        failed = [name for name, check in self.checks.items() if not await self._passes(name, check)]
        if failed:
            raise NotReady(*failed)
        return HealthAnswer()

    async def _passes(self, name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(self.seconds_max):
                await check()
        except (OSError, PaymentError) as error:  # a TimeoutError is an OSError
            log.warning("not ready: %s: %s %s", name, type(error).__name__, error)
            return False
        return True
