"""A server with limits of the test's own, and a caller who writes bytes as it likes."""

import asyncio
import json
import re
import socket

from aiohttp import web
from attrs import Factory, define, field

from adapters.http.app import SERVER_OPTIONS, application
from adapters.http.line import Door
from adapters.http.routes import open_door
from tests.http_till import GIVEN_REQUEST_ID
from tests.http_till import Till as HttpTill


@define
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: dict
    body: bytes

    @property
    def code(self):
        return json.loads(self.body)["error"]["code"]


@define
class Caller:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, text):
        self.writer.write(text if isinstance(text, bytes) else text.encode())

    async def answer(self):
        """The next answer; None when the server hung up instead."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.split("\r\n")[:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        assert len(headers) == len(lines), "a header came twice"
        body = await self.reader.readexactly(int(headers.get("Content-Length", 0)))
        return Answer(int(re.fullmatch(r"HTTP/1\.[01] (\d{3}) .*", first)[1]), headers, body)

    async def hears(self, text):
        self.send(text)
        return await self.answer()

    async def is_hung_up_on(self):
        """Whether nothing more comes and the line is down."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


@define
class OpenLine:
    """A till behind a Door with limits of its own."""

    till: HttpTill = Factory(HttpTill)
    port: int = 0
    door: Door = field(init=False)
    runner: web.AppRunner = field(init=False)
    lines: asyncio.Server = field(init=False)
    writers: list = Factory(list)

    async def open(self, *, body_seconds=20.0, **limits):
        await self.till.open()
        app = application(self.till.routes, guard=open_door, body_seconds=body_seconds)
        self.runner = web.AppRunner(app, **SERVER_OPTIONS)
        await self.runner.setup()
        self.door = Door(server=self.runner.server, **limits)
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self.lines = await asyncio.get_running_loop().create_server(self.door, sock=listening)
        return self

    async def call(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return Caller(reader, writer)

    async def hears(self, text):
        return await (await self.call()).hears(text)

    async def close(self):
        for writer in self.writers:
            writer.close()
        self.lines.close()
        await self.runner.cleanup()
        await self.till.close()


def refused(answer, status, code):
    """Assert that the answer is this refusal, in the words and with the headers of all refusals."""
    assert (answer.status, answer.code) == (status, code)
    error = json.loads(answer.body)["error"]
    assert error["request_id"] == answer.headers["X-Request-Id"]
    assert GIVEN_REQUEST_ID.match(error["request_id"])
    assert error["message"].endswith("。")
    assert answer.headers["Server"] == "minitill"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    return error
