"""WeChat's side of the wire for tests: keys, signed messages, and a server that says what a test wants."""

import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from itertools import count
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer
from attrs import Factory, define, field

from adapters.wechat import v2_wire, v3_wire
from adapters.wechat.certificates import Certificates
from adapters.wechat.client import Client
from adapters.wechat.gateway import WechatGateway
from adapters.wechat.merchant import Merchant
from adapters.wechat.v2 import V2
from adapters.wechat.v3 import V3
from domain.order import Order, Placement
from domain.refund import Refund

DOCUMENT = json.loads((Path(__file__).parent / "data" / "protocol_vectors.json").read_text(encoding="utf-8"))
VECTORS = {vector["id"]: vector for vector in DOCUMENT["vectors"]}

NOW = datetime.fromtimestamp(1722850430, UTC)  # a moment after the vectors' notifications were signed
API_KEY = "192006250b4c09247ec02edce69f6a2d"
API_V3_KEY = "a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb"
APPID = "wxd678efh567hg6787"
MCH_ID = "1900007291"
OPENID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
NOTIFY_URL = "https://merchant.example/api/wechat/pay/notify"
NUMBER = "PAY202401020304050001"
PREPAY_ID = "wx201410272009395522657a690389285100"
TRANSACTION_ID = "4200002050202408051234567890"
PUBLIC_KEY_ID = "PUB_KEY_ID_0119000072912024092000000000000001"
PLATFORM_SERIAL = "D7CE59D1F522D701"


@cache
def private_key(name):
    return v3_wire.load_private_key(DOCUMENT["keys"][name]["private_pem"].encode())


def certificate_pem(name="go_platform"):
    return DOCUMENT["keys"][name]["cert_pem"].encode()


def merchant(**changes):
    """A merchant with the keys of both versions and, unless told otherwise, no WeChat Pay public key."""
    return Merchant(
        **{
            "mch_id": MCH_ID,
            "appid": APPID,
            "notify_url": NOTIFY_URL,
            "api_key": API_KEY,
            "api_v3_key": API_V3_KEY,
            "private_key": private_key("doc_merchant"),
            "serial": DOCUMENT["keys"]["doc_merchant"]["merchant_serial"],
            **changes,
        }
    )


def public_key_merchant(**changes):
    public_key = private_key("java_wechatpay").public_key()
    return merchant(public_key_id=PUBLIC_KEY_ID, public_key=public_key, **changes)


def order(version="v3", sign_type=None, **changes):
    """An order that WeChat has taken."""
    placement = Placement(
        appid=APPID,
        mch_id=changes.pop("mch_id", MCH_ID),
        api_version=version,
        sign_type=sign_type or {"v2": "MD5", "v3": "RSA"}[version],
        notify_url=NOTIFY_URL,
        client_ip="14.23.150.211",
    )
    new = Order(
        **{
            "out_trade_no": NUMBER,
            "openid": OPENID,
            "total_fee": 100,
            "body": "图片增强服务",
            "attach": "user_id_123",
            "placement": placement,
            "created_at": NOW,
            "expires_at": NOW.replace(microsecond=0) + timedelta(minutes=30),
            **changes,
        }
    )
    return new.placed(PREPAY_ID, NOW, "api")


def refund(**changes):
    return Refund(
        **{"out_refund_no": "REF202401030001", "refund_fee": 30, "reason": "少了一杯", "created_at": NOW}
        | changes
    )


# -- messages as WeChat signs them ---------------------------------------------------------------


def v2_xml(fields, sign_type="MD5", api_key=API_KEY):
    """A signed V2 body."""
    fields = {name: str(value) for name, value in fields.items()}
    return v2_wire.write({**fields, "sign": v2_wire.sign(fields, api_key, sign_type)})


def v2_success(sign_type="MD5", api_key=API_KEY, **fields):
    """A V2 answer of two successes."""
    fields = {
        "return_code": "SUCCESS",
        "return_msg": "OK",
        "appid": APPID,
        "mch_id": MCH_ID,
        "nonce_str": "IITRi8Iabbblz1Jc",
        "result_code": "SUCCESS",
        **fields,
    }
    return v2_xml({name: value for name, value in fields.items() if value is not None}, sign_type, api_key)


def v2_failure(err_code, sign_type="MD5", **fields):
    """A signed V2 answer that says no."""
    return v2_success(sign_type, result_code="FAIL", err_code=err_code, err_code_des="详见文档", **fields)


def v3_headers(body, *, serial=PLATFORM_SERIAL, signer="go_platform", at=NOW, **headers):
    """What WeChat adds to a V3 answer or notification over exactly this body."""
    stamp = str(int(at.timestamp()))
    message = v3_wire.response_message(stamp, "n0nceOfWeChats", body)
    return {
        "Wechatpay-Timestamp": stamp,
        "Wechatpay-Nonce": "n0nceOfWeChats",
        "Wechatpay-Serial": serial,
        "Wechatpay-Signature": v3_wire.sign(private_key(signer), message),
        "Request-ID": "08F78BB5AF0610D302189B8C-0",
        **headers,
    }


def v3_answer(content, status=200, **signing):
    """A signed V3 answer."""
    body = b"" if content is None else json.dumps(content, ensure_ascii=False).encode()
    return web.Response(body=body, status=status, headers=v3_headers(body, **signing))


def v3_error(status, code, message="详见文档", **headers):
    """A V3 error; they come unsigned."""
    return web.json_response({"code": code, "message": message}, status=status, headers=headers)


def by_public_key(content, status=200):
    return v3_answer(content, status, serial=PUBLIC_KEY_ID, signer="java_wechatpay")


def listed_certificates(*names, api_v3_key=API_V3_KEY, **signing):
    """The answer of /v3/certificates, listing those certificates: PEMs, or the names of their keys."""
    data = []
    for name in names:
        key = v3_wire.load_certificate(name if isinstance(name, bytes) else certificate_pem(name))
        sealed = v3_wire.seal_resource(api_v3_key, "61f9c719728a", "certificate", key.pem)
        data.append(
            {
                "serial_no": key.serial,
                "effective_time": "2021-04-27T16:55:23+08:00",
                "expire_time": "2031-04-25T16:55:23+08:00",
                "encrypt_certificate": {
                    "algorithm": v3_wire.ALGORITHM,
                    "nonce": "61f9c719728a",
                    "associated_data": "certificate",
                    "ciphertext": sealed,
                },
            }
        )
    return v3_answer({"data": data}, **signing)


# -- a server that says what a test wants --------------------------------------------------------


@define
class Heard:
    """One request as it came in: the exact path and bytes."""

    method: str
    target: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def fields(self):
        return v2_wire.read(self.body)


Act = Callable[[web.Request], Awaitable[web.StreamResponse]]


@define
class WechatSide:
    """Answers requests with `answers` in turn (bytes, a response, or something to do), and keeps them."""

    answers: list = Factory(list)
    heard: list[Heard] = Factory(list)
    server: TestServer = field(init=False)

    async def start(self):
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self.server = TestServer(app)
        await self.server.start_server()
        return self

    async def stop(self):
        await self.server.close()

    @property
    def url(self):
        return str(self.server.make_url("")).rstrip("/")

    def says(self, *answers):
        self.answers.extend(answers)

    async def _answer(self, request):
        body = await request.read()
        self.heard.append(Heard(request.method, request.raw_path, dict(request.headers), body))
        answer = self.answers.pop(0)
        if isinstance(answer, bytes):
            answer = web.Response(body=answer, content_type="text/xml")
        elif not isinstance(answer, web.StreamResponse):
            answer = await answer(request)
        answer.headers.setdefault("Date", format_datetime(NOW))
        return answer


async def cut(request):
    """Close the connection instead of answering."""
    request.transport.abort()
    return web.Response()


@define
class Line:
    """Everything between our gateway and a WechatSide, with a clock and nonces that a test can foresee."""

    wechat: WechatSide
    merchant: Merchant
    folder: Path
    now: datetime = NOW
    naps: list[float] = Factory(list)
    client: Client = field(init=False)
    certificates: Certificates = field(init=False)
    gateway: WechatGateway = field(init=False)
    nonces: Iterator[str] = field(factory=lambda: (f"{n:032d}" for n in count(1)))

    def __attrs_post_init__(self):
        self.client = Client(
            clock=self.clock, base_url=self.wechat.url, backup_url="", sleep=self.nap, monotonic=lambda: 0.0
        )
        self.certificates = Certificates(self.merchant, self.client, self.folder, self.clock, self.nonce)
        v2 = V2(self.merchant, self.client, self.clock, self.nonce)
        v3 = V3(self.merchant, self.client, self.certificates, self.clock, self.nonce)
        self.gateway = WechatGateway(self.merchant, v2, v3)

    def clock(self):
        return self.now

    def nonce(self):
        return next(self.nonces)

    async def nap(self, seconds):
        self.naps.append(seconds)

    async def close(self):
        await self.client.close()
        await self.wechat.stop()


def lines(runner, folder):
    """A fixture's body: makes lines to a WeChat of their own, and closes them when the test ends."""
    made = []

    async def make(settings=None, **changes):
        wechat = await WechatSide().start()
        made.append(Line(wechat, settings or merchant(), folder / "platform", **changes))
        return made[-1]

    yield make
    for line in made:
        runner.run(line.close())
