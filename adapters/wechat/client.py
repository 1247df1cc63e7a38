"""The one line to WeChat: a pooled session, limits on time and size, and a second host."""

import asyncio
import email.utils
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import aiohttp
from attrs import define, field, frozen
from yarl import URL

from adapters.wechat.errors import Passing
from application.ports import Clock, Unknown

log = logging.getLogger(__name__)

BASE_URL = "https://api.mch.weixin.qq.com"
BACKUP_URL = "https://api2.mch.weixin.qq.com"

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
REFUND_READ_SECONDS = 15.0  # v2.md section 1
KEEP_ALIVE_SECONDS = 30.0  # an idle connection is given up before WeChat's front end gives it up
CONNECTIONS_MAX = 100
ANSWER_BYTES_MAX = 1024 * 1024
SKEW_SECONDS_MAX = 60.0  # alarmed well before WeChat's five minutes (R5)
PAUSES: Sequence[float] = (0.2, 0.8)  # seconds before each repeat of a harmless call (R49)

USER_AGENT = "minitill/0.1 (aiohttp)"
RETRIED = " (Retried-V1)"  # what WeChat's own libraries add on the second host (v3.md section 2)

# What aiohttp raises before the first byte of a request has left.
NOTHING_SENT = (
    aiohttp.ClientConnectorError,  # DNS, refused, unreachable, TLS handshake
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
)

Answer = TypeVar("Answer")
Sleep = Callable[[float], Awaitable[None]]


@frozen
class RawAnswer:
    """What came back, as it came: nothing in it is verified yet."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def request_id(self) -> str:
        """V3's Request-ID; empty in V2."""
        return self.headers.get("Request-ID", "")


@define
class Exchange:
    """What came back last while one call was watched: for the evidence, should the call fail."""

    answer: RawAnswer | None = None


EXCHANGE: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


@define
class Client:
    """Sends exact bytes to WeChat and brings exact bytes back, or says that the outcome is unknown.

    Limits in seconds. `certificate` is (certificate file, key file) for V2's
    refunds. `skew_seconds` is how far our clock was ahead of WeChat's at the
    last answer. Close it when the service stops.
    """

    clock: Clock
    base_url: str = BASE_URL
    backup_url: str = BACKUP_URL
    connect_seconds: float = CONNECT_SECONDS
    read_seconds: float = READ_SECONDS
    certificate: tuple[Path, Path] | None = None
    sleep: Sleep = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    skew_seconds: float = field(default=0.0, init=False)
    _hosts: list[str] = field(factory=list, init=False)
    _mutual_tls: ssl.SSLContext | None = field(default=None, init=False)
    _session: aiohttp.ClientSession | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._hosts = [url.rstrip("/") for url in (self.base_url, self.backup_url) if url]
        if self.certificate is not None:
            self._mutual_tls = ssl.create_default_context()
            self._mutual_tls.load_cert_chain(*self.certificate)

    @property
    def refund_read_seconds(self) -> float:
        """Refunds may take WeChat longer than anything else (v2.md section 1)."""
        return max(self.read_seconds, REFUND_READ_SECONDS)

    async def send(  # noqa: PLR0913 - a request has this many parts
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        read_seconds: float | None = None,
        mutual_tls: bool = False,
    ) -> RawAnswer | Unknown:
        """One exchange; `target` is path and query, byte for byte as signed (R3).

        While nothing has been sent the other host gets the same bytes; after that
        a failure is Unknown, and whether to repeat is the caller's to know (R13).
        """
        given = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
        if self._closed:
            return Unknown(why="the line to WeChat is closed")
        why = ""
        for attempt, host in enumerate(list(self._hosts)):
            if attempt:
                given["User-Agent"] += RETRIED
            try:
                return await self._exchange(
                    host,
                    method,
                    target,
                    body,
                    given,
                    read_seconds or self.read_seconds,
                    mutual_tls=mutual_tls,
                )
            except NOTHING_SENT as error:
                why = f"no connection to {host}: {type(error).__name__}"
                self._prefer_another(host)
            except TimeoutError:
                return Passing(why=f"no answer from {host} in time")
            except aiohttp.ClientError as error:
                return Passing(why=f"the connection to {host} broke: {type(error).__name__}")
        return Passing(why=why)

    async def repeat(self, once: Callable[[], Awaitable[Answer]]) -> Answer:
        """Make a call whose repeat is harmless, up to three times, while its failure may pass.

        No repeat starts later than the read limit after the first try, so a call
        that timed out is not repeated while somebody waits.
        """
        started = self.monotonic()
        for pause in PAUSES:
            answer = await once()
            if not isinstance(answer, Passing):
                return answer
            if self.monotonic() - started + pause > self.read_seconds:
                return answer
            await self.sleep(pause)
        return await once()

    async def close(self) -> None:
        """Give the connections back; calls after this answer Unknown."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _exchange(  # noqa: PLR0913, PLR0917 - as send
        self,
        host: str,
        method: str,
        target: str,
        body: bytes,
        headers: Mapping[str, str],
        read_seconds: float,
        *,
        mutual_tls: bool,
    ) -> RawAnswer | Unknown:
        request = self._open_session().request(
            method,
            URL(host + target, encoded=True),
            data=body or None,
            headers=headers,
            allow_redirects=False,
            ssl=self._mutual_tls if mutual_tls and self._mutual_tls else True,
            timeout=aiohttp.ClientTimeout(
                total=self.connect_seconds + read_seconds,
                sock_connect=self.connect_seconds,
                sock_read=read_seconds,
            ),
        )
        async with request as response:
            self._measure_skew(response.headers)
            if response.status in (502, 503, 504):
                self._prefer_another(host)
            answer = await _bounded(response.content)
            if answer is None:
                response.close()
                return Unknown(why=f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
            raw = RawAnswer(response.status, response.headers, answer)
            if watched := EXCHANGE.get():
                watched.answer = raw
            return raw

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEEP_ALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # signatures are over the bytes as they came
            )
        return self._session

    def _prefer_another(self, host: str) -> None:
        """Begin with the other host from now on: it serves the same paths (v3.md section 2)."""
        if self._hosts[0] == host and len(self._hosts) > 1:
            self._hosts.append(self._hosts.pop(0))
            log.info("%s does not serve us: going on with %s", host, self._hosts[0])

    def _measure_skew(self, headers: Mapping[str, str]) -> None:
        """Compare our clock with WeChat's; alarm once when they part (R5)."""
        told = _told_time(headers)
        if told is None:
            return
        was_off = abs(self.skew_seconds) > SKEW_SECONDS_MAX
        self.skew_seconds = self.clock().timestamp() - told
        if abs(self.skew_seconds) > SKEW_SECONDS_MAX and not was_off:
            log.warning(
                "our clock is %+.0f s off WeChat's; beyond 300 s nothing works: check NTP", self.skew_seconds
            )


def _told_time(headers: Mapping[str, str]) -> float | None:
    """Unix seconds by WeChat's clock; only ever compared, so it needs no signature."""
    stamp = headers.get("Wechatpay-Timestamp", "")
    if stamp.isascii() and stamp.isdecimal():
        return float(stamp)
    try:
        return email.utils.parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return None


async def _bounded(stream: aiohttp.StreamReader) -> bytes | None:
    """The whole body, or None once it grows beyond the limit."""
    parts = bytearray()
    async for part in stream.iter_any():
        parts += part
        if len(parts) > ANSWER_BYTES_MAX:
            return None
    return bytes(parts)
