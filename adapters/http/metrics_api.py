"""Where Prometheus reads."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from attrs import frozen

from adapters.http.routes import PlainRoute, Who


@frozen(kw_only=True)
class MetricsApi:
    """One route; open to anyone only where the settings say so. `who` and content come from outside."""

    render: Callable[[], Awaitable[bytes]]
    content_type: str
    is_open: bool = False

    def routes(self) -> tuple[PlainRoute, ...]:
        """GET /metrics."""
        return (
            PlainRoute(
                method="GET",
                path="/metrics",
                who=Who.ANYONE if self.is_open else Who.OPERATOR,
                handler=self.read,
                summary="Prometheus 监控指标",
            ),
        )

    async def read(self, _request: web.Request) -> web.Response:
        """All metrics in Prometheus' text form."""
        return web.Response(
            body=await self.render(),
            headers={"Content-Type": self.content_type, "Cache-Control": "no-store"},
        )
