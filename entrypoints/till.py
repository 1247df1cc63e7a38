"""The running service: store, jobs and HTTP, started in that order and stopped in the opposite one."""

import asyncio
import os
import socket
import ssl
from importlib.metadata import version
from typing import Any, Self

from aiohttp import web
from attrs import define, field

from adapters.http.app import SERVER_OPTIONS, application
from adapters.http.docs_page import documented
from adapters.http.health import Health
from adapters.http.limits import Buckets, Limits
from adapters.http.line import HEAD_SECONDS, Door
from adapters.http.openapi_notify import NOTIFY
from adapters.http.routes import Guard, PlainRoute, Route, Who, open_door
from adapters.store.opening import open_store
from adapters.store.store import SqlStore
from adapters.wechat.notify import PATH as NOTIFY_PATH
from application.jobs import Foreman
from entrypoints.container import Container
from entrypoints.jobs import Workshop
from entrypoints.settings import Settings
from entrypoints.tls import tls_context

STOP_SECONDS = 15  # requests under way have this long to end


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError when the port can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


def address_of(door: socket.socket, scheme: str = "http") -> str:
    """Where to call a listening socket."""
    host, port = door.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@define
class Till:
    """Made by `open`, begun by `start`, ended by `stop`."""

    settings: Settings
    container: Container
    store: SqlStore
    with_jobs: bool = True
    sandbox: bool = False
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    runner: web.AppRunner | None = field(default=None, init=False)
    lines: asyncio.Server | None = field(default=None, init=False)
    workshop: Workshop | None = field(default=None, init=False)

    @classmethod
    async def open(
        cls, settings: Settings, *, with_jobs: bool = True, sandbox: bool = False, **overrides: Any
    ) -> Self:
        """Open the store and put everything together; `overrides` replace the container's outer edges.

        Raises StoreUnavailable, SchemaTooNew, or Faults when the TLS files will not do.
        """
        tls = tls_context(settings)
        store = await open_store(settings.database, listening=bool(settings.webhook_url))
        container = Container(settings=settings, store=store)
        for name, value in overrides.items():
            getattr(container, name).override(value)
        return cls(settings, container, store, with_jobs, sandbox, tls)

    @property
    def guard(self) -> Guard:
        """Who is asked who they are; in the sandbox, unless it was asked for, nobody."""
        if self.sandbox and self.settings.auth_mode == "open":
            return open_door
        guard: Guard = self.container.guard()
        return guard

    async def start(self, door: socket.socket) -> None:
        """Begin the jobs, then answer at the door."""
        self.start_jobs()
        limits = Limits(
            logins=Buckets(self.settings.logins_per_minute),
            creates=Buckets(self.settings.creates_per_minute),
        )
        app = application(
            documented(self._routes(), version("minitill")),
            guard=self.guard,
            origins=self.settings.cors_origins,
            proxies=self.settings.trusted_proxies,
            check=limits.check,
            observer=self.container.metrics(),
        )
        self.runner = web.AppRunner(app, shutdown_timeout=STOP_SECONDS, **SERVER_OPTIONS)
        await self.runner.setup()
        assert self.runner.server is not None  # noqa: S101 - setup() has just made it
        self.lines = await asyncio.get_running_loop().create_server(
            Door(server=self.runner.server),
            sock=door,
            ssl=self.tls,
            ssl_handshake_timeout=HEAD_SECONDS if self.tls else None,
        )

    def start_jobs(self) -> None:
        """Begin what repeats; the first round of each comes at once."""
        holder = f"{socket.gethostname()}:{os.getpid()}"
        foreman = Foreman(book=self.store.jobs, clock=self.container.clock(), holder=holder)
        work = self.container.work()
        jobs = work.jobs(with_courier=bool(self.settings.webhook_url)) if self.with_jobs else ()
        self.workshop = Workshop(foreman, [*work.own_jobs(), *jobs])
        self.workshop.start()

    async def stop(self) -> None:
        """Answer what is under way, let rounds end, then close the lines and the store."""
        try:
            if self.lines is not None:
                self.lines.close()
            if self.runner is not None:
                await self.runner.cleanup()
            if self.workshop is not None:
                await self.workshop.stop()
            await self.container.failures().write_down(all_of_them=True)
        finally:  # whatever broke, the database's threads end: the process would wait for them
            await self.container.client().close()
            await self.container.weixin().close()
            if (shop := self.container.shop()) is not None:
                await shop.close()
            await self.store.close()

    def _routes(self) -> list[Route | PlainRoute]:
        """Everything that can be called."""
        health = Health(checks={"database": self.store.orders.check, "wechat_keys": self._check_keys})
        notify = PlainRoute(
            method="POST",
            path=NOTIFY_PATH,
            who=Who.WECHAT,
            handler=self.container.notify().handle,
            summary="支付与退款结果通知",
            described=NOTIFY,
        )
        return [
            *self.container.login_api().routes(),
            *self.container.payment_api().routes(),
            *self.container.order_life_api().routes(),
            *self.container.refund_api().routes(),
            *self.container.letter_api().routes(),
            *self.container.failure_api().routes(),
            *(self.container.metrics_api().routes() if self.settings.metrics != "off" else ()),
            *health.routes(),
            notify,
        ]

    async def _check_keys(self) -> None:
        """V3's answers can be verified; raises OSError while no key of WeChat's is there."""
        if self.settings.merchant.speaks_v3 and not self.container.certificates().ring.keys:
            raise OSError("no WeChat Pay public key and no platform certificate yet")
