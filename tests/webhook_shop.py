"""A shop's backend behind real HTTP, the letter it gets and the names it may go by."""

import asyncio
import socket
from base64 import b64encode
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.abc import AbstractResolver
from aiohttp.test_utils import TestServer
from attrs import Factory, define

from adapters.webhook import ShopBackend
from domain.events import Event

# The library's verifier reads the real clock: what it is to verify is stamped by the same.
NOW = datetime.now(UTC)


def secret_of(size: int, letter: bytes = b"k") -> str:
    return "whsec_" + b64encode(letter * size).decode()


NEW, OLD = secret_of(32, b"n"), secret_of(24, b"o")
EVENT = Event(
    name="order.paid",
    out_trade_no="PAY17040000001234567890",
    version=2,
    at=datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    cause="notify 2f1c",
    facts={
        "out_trade_no": "PAY17040000001234567890",
        "transaction_id": None,
        "total_fee": 100,
        "body": "绿茶 🍵",
    },
    evidence="what WeChat said",
)


@define
class Shop:
    """Remembers every request as it came, and answers as it is told."""

    answer: object = Factory(lambda: lambda _request: web.Response(text="ok"))
    heard: list = Factory(list)
    connections: set = Factory(set)
    backends: list = Factory(list)
    server: TestServer | None = None

    async def open(self, tls=None):
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.hear)
        self.server = TestServer(app, scheme="https" if tls else "http")
        await self.server.start_server(ssl=tls, access_log=None)
        return self

    async def close(self):
        for backend in self.backends:
            await backend.close()
        await self.server.close()

    async def hear(self, request):
        self.heard.append((request.method, request.raw_path, request.headers.copy(), await request.read()))
        self.connections.add(request.transport.get_extra_info("peername"))
        answer = self.answer(request)
        return await answer if asyncio.iscoroutine(answer) else answer

    def url(self, host="127.0.0.1"):
        return f"{self.server.scheme}://{host}:{self.server.port}/hooks/minitill?key=u-42"

    def backend(self, url="", **options):
        """What minitill knows the shop by; closed with the shop."""
        given = {"url": url or self.url(), "secrets": [NEW, OLD], "allow_private": True}
        self.backends.append(ShopBackend(**(given | options)))
        return self.backends[-1]


@define
class Names(AbstractResolver):
    """A name server that gives one answer after the other, then the last one for ever; None is silence."""

    answers: list
    asked: list = Factory(list)

    async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
        self.asked.append((host, port, family))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, OSError):
            raise answer
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in answer
        ]

    async def close(self):
        return


def abort(request):
    """An answer that is none: the connection breaks."""
    request.transport.abort()
    return web.Response()
