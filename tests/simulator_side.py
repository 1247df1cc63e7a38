"""A merchant for tests of the simulator: places orders by hand, and hears notifications."""

import asyncio
import atexit
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from aiohttp import web
from attrs import Factory, define, evolve
from yarl import URL

from adapters.wechat import v2_wire, v3_wire
from adapters.wechat.simulator import Credentials, SimClock, Simulator, prepare

START = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)  # a Tuesday
OPENID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
NUMBER = "PAY202401020304050001"
OK_V2 = b"<xml><return_code>SUCCESS</return_code></xml>"


@cache
def account() -> Credentials:
    """Credentials made once for all tests of a process: keys are slow to make."""
    folder = TemporaryDirectory(prefix="simulator")
    atexit.register(folder.cleanup)
    return prepare(Path(folder.name), base_url="http://127.0.0.1:5001", notify_url="http://127.0.0.1:5000/n")


@cache
def merchant_key():
    return v3_wire.load_private_key(account().file("apiclient_key.pem").read_bytes())


@define
class Heard:
    """A request that arrived at the merchant's notify_url."""

    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        return v2_wire.read(self.body)

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def resource(self) -> dict[str, Any]:
        box = self.document["resource"]
        plain = v3_wire.open_resource(
            account().apiv3_key, box["nonce"], box["associated_data"], box["ciphertext"]
        )
        return json.loads(plain)


@define(eq=False)
class Merchant:
    """Signs calls in V2 and V3 as the protocol sheets say; `heard` holds what was notified."""

    simulator: Simulator
    session: aiohttp.ClientSession
    now: datetime = START
    notify_url: str = ""
    answer: tuple[int, bytes] = (200, OK_V2)
    answer_headers: dict[str, str] = Factory(dict)
    heard: list[Heard] = Factory(list)
    silent: bool = False
    rang: asyncio.Event = Factory(asyncio.Event)

    # ---------------------------------------------------------- V2

    async def v2(self, path: str, fields: dict[str, Any], sign_type: str = "MD5", **change: Any):
        """A signed V2 call; `change` replaces fields before signing, None leaves one out."""
        return await self.v2_raw(path, self.v2_signed({**fields, **change}, sign_type))

    def v2_signed(self, fields: dict[str, Any], sign_type: str = "MD5") -> bytes:
        credentials = self.simulator.credentials
        sent = {
            "appid": credentials.appid,
            "mch_id": credentials.mch_id,
            "nonce_str": secrets.token_hex(16),
            **({"sign_type": sign_type} if sign_type != "MD5" else {}),
            **fields,
        }
        sent = {name: str(value) for name, value in sent.items() if value is not None}
        sent["sign"] = v2_wire.sign(sent, credentials.api_key, sign_type)
        return v2_wire.write(sent)

    async def v2_raw(self, path: str, body: bytes, method: str = "POST") -> dict[str, str]:
        async with self.session.request(method, self.simulator.url + path, data=body) as response:
            assert response.status == 200
            return v2_wire.read(await response.read())

    def v2_order(self, number: str = NUMBER, **change: Any) -> dict[str, Any]:
        return {
            "body": "茶",
            "out_trade_no": number,
            "total_fee": 100,
            "spbill_create_ip": "127.0.0.1",
            "notify_url": self.notify_url,
            "trade_type": "JSAPI",
            "openid": OPENID,
            **change,
        }

    async def place_v2(self, number: str = NUMBER, sign_type: str = "MD5", **change: Any):
        return await self.v2("/pay/unifiedorder", self.v2_order(number), sign_type, **change)

    def is_signed(self, fields: dict[str, str], sign_type: str = "MD5") -> bool:
        return v2_wire.verify(fields, self.simulator.credentials.api_key, sign_type)

    # ---------------------------------------------------------- V3

    async def v3(
        self,
        method: str,
        url: str,
        document: object = None,
        *,
        serial: str = "",
        headers: dict[str, str | None] | None = None,
        **change: str,
    ):
        """A signed V3 call; gives (status, document, headers, raw body)."""
        body, sent = self.v3_signed(method, url, document, **change)
        sent |= {"Wechatpay-Serial": serial} if serial else {}
        sent |= headers or {}
        kept = {name: value for name, value in sent.items() if value is not None}
        left_out = [name for name, value in sent.items() if value is None]
        async with self.session.request(
            method,
            URL(self.simulator.url + url, encoded=True),
            data=body or None,
            headers=kept,
            skip_auto_headers=left_out,
        ) as response:
            answer = await response.read()
            return response.status, json.loads(answer) if answer else None, dict(response.headers), answer

    def v3_signed(self, method: str, url: str, document: object = None, **change: str):
        """The body of a V3 call, and headers that are right for it."""
        credentials = self.simulator.credentials
        body = document if isinstance(document, bytes) else b""
        if document is not None and not isinstance(document, bytes):
            body = json.dumps(document, ensure_ascii=False).encode()
        authorization = v3_wire.authorization(
            merchant_key(),
            change.get("mchid", credentials.mch_id),
            change.get("serial_no", credentials.merchant.serial),
            method,
            url,
            body,
            change.get("timestamp", str(int(self.now.timestamp()))),
            secrets.token_hex(16),
        )
        headers: dict[str, str | None] = {
            "Authorization": authorization,
            "Accept": "application/json",
            "User-Agent": "test",
            "Content-Type": "application/json",
        }
        return body, headers

    def v3_order(self, number: str = NUMBER, **change: Any) -> dict[str, Any]:
        credentials = self.simulator.credentials
        document = {
            "appid": credentials.appid,
            "mchid": credentials.mch_id,
            "description": "茶",
            "out_trade_no": number,
            "notify_url": self.notify_url,
            "amount": {"total": 100, "currency": "CNY"},
            "payer": {"openid": OPENID},
            **change,
        }
        return {name: value for name, value in document.items() if value is not ...}

    async def place_v3(self, number: str = NUMBER, *, serial: str = "", **change: Any):
        return await self.v3(
            "POST", "/v3/pay/transactions/jsapi", self.v3_order(number, **change), serial=serial
        )

    async def query_v3(self, number: str = NUMBER):
        mchid = self.simulator.credentials.mch_id
        return await self.v3("GET", f"/v3/pay/transactions/out-trade-no/{number}?mchid={mchid}")

    async def close_v3(self, number: str = NUMBER):
        mchid = self.simulator.credentials.mch_id
        return await self.v3("POST", f"/v3/pay/transactions/out-trade-no/{number}/close", {"mchid": mchid})

    def v3_refund(self, number: str = "REF1", **change: Any) -> dict[str, Any]:
        return {
            "out_trade_no": NUMBER,
            "out_refund_no": number,
            "amount": {"refund": 60, "total": 100, "currency": "CNY"},
            **change,
        }

    async def refund_v3(self, number: str = "REF1", **change: Any):
        return await self.v3("POST", "/v3/refund/domestic/refunds", self.v3_refund(number, **change))

    def ring(self) -> v3_wire.KeyRing:
        """Every key of WeChat's that there is."""
        keys = self.simulator.platform.keys
        certificates = [each.certificate for each in keys.certificates]
        public = v3_wire.PlatformKey(serial=keys.public.serial, public_key=keys.public.key.public_key())
        return v3_wire.KeyRing().with_keys(public, *certificates)

    def check(self, headers: dict[str, str], body: bytes) -> str:
        """The serial that signed; raises Rejected."""
        return v3_wire.check(headers, body, self.ring(), self.now)

    # ---------------------------------------------------------- control

    async def sim(self, call: str, document: object = None, *, status: int = 200, method: str = ""):
        method = method or ("GET" if document is None else "POST")
        async with self.session.request(
            method, f"{self.simulator.url}/_sim/{call}", json=document
        ) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def pay(self, number: str = NUMBER, **how: Any):
        paid = await self.sim("pay", {"out_trade_no": number, **how})
        await self.simulator.settle()
        return paid

    async def advance(self, **ahead: float) -> None:
        """WeChat's calendar moves, and everything that falls due is done."""
        self.simulator.clock.advance(timedelta(**ahead))
        await self.simulator.settle()

    async def _hear(self, request: web.Request) -> web.Response:
        self.heard.append(Heard(dict(request.headers), await request.read()))
        self.rang.set()
        if self.silent:
            await asyncio.Event().wait()
        status, body = self.answer
        return web.Response(status=status, body=body, headers=self.answer_headers)


@asynccontextmanager
async def merchant(
    *, public_key_mode: bool = False, tls: bool = False, **how: Any
) -> AsyncIterator[Merchant]:
    """A running simulator, and a merchant with a notify_url of its own."""
    credentials = evolve(account(), public_key_mode=public_key_mode)
    application = web.Application()
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    async with aiohttp.ClientSession() as session:
        one = Merchant(None, session)
        simulator = one.simulator = Simulator(credentials, clock=SimClock(lambda: one.now), **how)
        application.router.add_post("/notify", one._hear)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        one.notify_url = f"http://127.0.0.1:{runner.addresses[0][1]}/notify"
        await simulator.start("127.0.0.1", 0, tls_port=0 if tls else None)
        try:
            yield one
        finally:
            await simulator.stop()
            await runner.cleanup()
