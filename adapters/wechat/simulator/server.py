"""The simulator as a server: V2, V3, login, the payer's page and the control API on one port."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from adapters.wechat.simulator.book import Book, chance
from adapters.wechat.simulator.clock import Agenda, SimClock
from adapters.wechat.simulator.control import Control
from adapters.wechat.simulator.credentials import Credentials
from adapters.wechat.simulator.faults import Fault, Faults
from adapters.wechat.simulator.keys import PlatformKeys
from adapters.wechat.simulator.letters import Scribe
from adapters.wechat.simulator.notifier import Notifier
from adapters.wechat.simulator.page import Page
from adapters.wechat.simulator.phone import LoginRefused, Logins
from adapters.wechat.simulator.platform import Call, Platform
from adapters.wechat.simulator.v2 import V2Calls, client_certificate
from adapters.wechat.simulator.v3 import V3Calls

BODY_BYTES_MAX = 256 * 1024
SILENCE_SECONDS = 120.0  # a caller that is never answered is let go then
FRONT_END_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CallHandler = Callable[[web.Request, Fault], Awaitable[web.Response]]


class Simulator:
    """WeChat Pay, as one merchant meets it. Start it, and point a client at `url`."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        seed: int = 0,
        clock: SimClock | Callable[[], datetime] | None = None,
    ) -> None:
        clock = clock if isinstance(clock, SimClock) else SimClock(clock) if clock else SimClock()
        faults, agenda = Faults(seed), Agenda(clock)
        keys = PlatformKeys.of(credentials, chance(seed + 1))
        self.platform = Platform(
            credentials=credentials,
            book=Book(credentials.appid, credentials.mch_id, chance(seed + 2)),
            clock=clock,
            agenda=agenda,
            faults=faults,
            keys=keys,
            notifier=Notifier(clock, agenda, faults, Scribe(credentials, keys), chance(seed + 3)),
        )
        self.logins = Logins()
        self.credentials, self.clock, self.faults = credentials, clock, faults
        self.book, self.notifier = self.platform.book, self.platform.notifier
        self.silence_seconds = SILENCE_SECONDS
        self.url = ""
        self.tls_url = ""
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int, *, tls_port: int | None = None) -> None:
        """Listen; `url` tells where, port 0 takes a free one. Raise OSError for a port that is taken.

        With a `tls_port`, the same is served there over TLS (`tls_url`, its certificate `tls_cert.pem`),
        and V2 refunds have to show the merchant's certificate. Over plain HTTP nobody can show one, so
        there V2 refunds are taken without, which the log of calls notes as "not asked".
        """
        self._stopping.clear()
        self._runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )
        await self._runner.setup()
        try:
            self.url = await self._listen(host, port, None)
            if tls_port is not None:
                self.tls_url = await self._listen(host, tls_port, self._tls())
        except OSError:
            await self._runner.cleanup()
            raise
        self.notifier.start()
        self.platform.agenda.start()

    async def stop(self) -> None:
        """Break off what is under way, and wait for its end."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
        await self.platform.agenda.stop()
        await self.notifier.stop()

    async def settle(self) -> None:
        """Wait until nothing that is due is left: notifications told, refunds ended."""
        await self.platform.agenda.settle()

    async def _listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> str:
        if self._runner is None:
            raise RuntimeError("start the simulator first")
        site = web.TCPSite(self._runner, host, port, ssl_context=tls)
        await site.start()
        bound = self._runner.addresses[-1][1]
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if tls else 'http'}://{shown}:{bound}"

    def _tls(self) -> ssl.SSLContext:
        """Asks for a client certificate and trusts the merchant's alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        credentials = self.credentials
        context.load_cert_chain(credentials.file("tls_cert.pem"), credentials.own_file("tls_key.pem"))
        context.load_verify_locations(credentials.file("apiclient_cert.pem"))
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    # -------------------------------------------------------------- the application

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.on_response_prepare.append(self._date)
        application.add_routes([*self._v2_routes(), *self._v3_routes()])
        application.add_routes([web.get("/sns/jscode2session", self._call("login", "", self._login))])
        application.add_routes(Page(self.platform).routes())
        application.add_routes(Control(self.platform, self.logins).routes())
        return application

    async def _date(self, _request: web.Request, response: web.StreamResponse) -> None:
        """The front end's clock is WeChat's (R5)."""
        response.headers["Date"] = format_datetime(self.clock.wire_now(), usegmt=True)

    def _v2_routes(self) -> list[web.RouteDef]:
        calls = V2Calls(self.platform)
        table: dict[str, tuple[str, CallHandler]] = {
            "/pay/unifiedorder": ("order", calls.order),
            "/pay/orderquery": ("query", calls.query),
            "/pay/closeorder": ("close", calls.close),
            "/secapi/pay/refund": ("refund", calls.refund),
            "/pay/refundquery": ("refund_query", calls.refund_query),
        }
        return [web.route("*", path, self._call(name, "v2", act)) for path, (name, act) in table.items()]

    def _v3_routes(self) -> list[web.RouteDef]:
        calls = V3Calls(self.platform)
        pay, refunds = "/v3/pay/transactions", "/v3/refund/domestic/refunds"
        table: list[tuple[str, str, str, CallHandler]] = [
            ("POST", f"{pay}/jsapi", "order", calls.order),
            ("GET", f"{pay}/out-trade-no/{{out_trade_no}}", "query", calls.query),
            ("GET", f"{pay}/id/{{transaction_id}}", "query", calls.query_by_transaction),
            ("POST", f"{pay}/out-trade-no/{{out_trade_no}}/close", "close", calls.close),
            ("POST", refunds, "refund", calls.refund),
            ("GET", f"{refunds}/{{out_refund_no}}", "refund_query", calls.refund_query),
            (
                "POST",
                f"{refunds}/{{refund_id}}/apply-abnormal-refund",
                "abnormal_refund",
                calls.abnormal_refund,
            ),
            ("GET", "/v3/certificates", "certificates", calls.certificates),
            ("POST", "/v3/security/echo", "echo", calls.echo),
        ]
        return [web.route(method, path, self._call(name, "v3", act)) for method, path, name, act in table]

    def _call(self, operation: str, version: str, act: CallHandler) -> Handler:
        """A merchant's call with the faults in force, and its line in the log of calls."""

        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self.faults.call(operation)
            kind, _, when = fault.kind.rpartition("_")
            spoils = kind in {"timeout", "unavailable", "cut"}
            response: web.Response | None = None
            try:
                if not (spoils and when == "before"):
                    response = await act(request, fault)
                if spoils:
                    response = await self._spoil(request, kind)
            finally:
                self._log(request, operation, version, fault, response)
            return response if response is not None else web.Response()

        return handle

    async def _spoil(self, request: web.Request, kind: str) -> web.Response | None:
        """The front end's own answer, or none at all: then the connection breaks."""
        if kind == "unavailable":
            return web.Response(status=502, text=FRONT_END_PAGE, content_type="text/html")
        if kind == "timeout":
            with suppress(TimeoutError):
                async with asyncio.timeout(self.silence_seconds):
                    await self._stopping.wait()
        if request.transport is not None:
            request.transport.abort()
        return None

    def _log(
        self,
        request: web.Request,
        operation: str,
        version: str,
        fault: Fault,
        response: web.Response | None,
    ) -> None:
        self.platform.calls.append(
            Call(
                operation=operation,
                version=version,
                path=request.path,
                status=response.status if response is not None else 0,
                fault=fault.kind,
                client_certificate=client_certificate(request),
            )
        )

    async def _login(self, request: web.Request, fault: Fault) -> web.Response:
        """code2session: JSON in text/plain, HTTP 200 even for errors (miniprogram.md section 1)."""
        asked, credentials = request.query, self.credentials
        wrong = {
            (40013, "invalid appid"): asked.get("appid") != credentials.appid,
            (40125, "invalid appsecret"): asked.get("secret") != credentials.app_secret,
            (41008, "missing code"): not asked.get("js_code"),
            (40002, "invalid grant_type"): asked.get("grant_type") != "authorization_code",
            (-1, "system error"): fault.kind in {"system_error", "refuse"},
        }
        errcode, errmsg = next((error for error, so in wrong.items() if so), (0, ""))
        answer: dict[str, Any] = {"errcode": errcode, "errmsg": errmsg}
        if not errcode:
            try:
                openid = self.logins.openid(asked["js_code"], credentials.appid, self.clock.now())
                answer = {"session_key": self.logins.session_key(), "openid": openid}
            except LoginRefused as refused:
                answer = {"errcode": refused.errcode, "errmsg": refused.errmsg}
        return web.json_response(answer, content_type="text/plain")
