"""Worlds in which a gateway meets WeChat: the book without a wire, and V2 and V3 over real sockets."""

from datetime import datetime, timedelta
from itertools import count

from attrs import define, evolve, field

from adapters.wechat.certificates import Certificates
from adapters.wechat.client import Client
from adapters.wechat.gateway import WechatGateway
from adapters.wechat.merchant import Merchant
from adapters.wechat.simulator import SimClock, Simulator
from adapters.wechat.simulator.book import Book
from adapters.wechat.simulator.gateway import BookGateway, Weather
from adapters.wechat.simulator.phone import check_pay_params
from adapters.wechat.v2 import V2
from adapters.wechat.v3 import V3
from domain.order import Order
from tests.simulator_side import START, account

WORLDS = ("book v2", "book v3", "v2 MD5", "v2 HMAC-SHA256", "v3 certificate", "v3 public key")
WIRED = WORLDS[2:]


@define
class World:
    """One gateway, the book on the other side, and time that only a test moves."""

    name: str
    now: datetime = START
    gateway: object = field(init=False)
    book: Book = field(init=False)
    numbers: count = field(factory=lambda: count(1))

    def clock(self):
        return self.now

    @property
    def version(self):
        return "v2" if "v2" in self.name else "v3"

    def order(self, **changes):
        """A new order, not yet placed."""
        return Order(
            **{
                "out_trade_no": f"PAY2024010203040500{next(self.numbers):04d}",
                "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
                "total_fee": 100,
                "body": "大杯奶茶 <少冰>&]]>",
                "attach": '{"table": 7}',
                "placement": self.gateway.placement("14.23.150.211"),
                "created_at": self.now,
                "expires_at": self.now + timedelta(days=1),
                **changes,
            }
        )

    async def placed(self, **changes):
        """A new order that WeChat has taken."""
        order = self.order(**changes)
        answer = await self.gateway.prepay(order)
        return order.placed(answer.prepay_id, self.now, "test")

    async def paid(self, **changes):
        order = await self.placed(**changes)
        self.book.pay(order.out_trade_no, self.now)
        return order.apply(await self.gateway.query(order), self.now, "test")


@define
class BookWorld(World):
    async def open(self, _folder):
        self.book = Book("wxd678efh567hg6787", "1900007291")
        self.gateway = BookGateway(self.book, self.clock, api_version=self.version)

    async def close(self):
        """Nothing is open."""

    def weather(self, weather):
        self.gateway.weather = weather

    def accepts(self, pay_params):
        """There is no signature to look at."""
        return self.book.prepaid(pay_params["package"].removeprefix("prepay_id="), self.now)

    async def ahead(self, **by):
        self.now += timedelta(**by)


@define
class WiredWorld(World):
    simulator: Simulator = field(init=False)
    certificates: Certificates = field(init=False)
    client: Client = field(init=False)
    nonces: count = field(factory=lambda: count(1))

    async def open(self, folder, notify_url=""):
        credentials = evolve(account(), public_key_mode="public key" in self.name)
        self.simulator = Simulator(credentials, clock=SimClock(self.clock))
        if not notify_url:
            self.simulator.faults.set("notifications", "drop", rate=1)
        await self.simulator.start("127.0.0.1", 0, tls_port=0)
        self.book = self.simulator.book
        merchant = Merchant.load(
            mch_id=credentials.mch_id,
            appid=credentials.appid,
            notify_url=notify_url or credentials.notify_url,
            certs_dir=credentials.directory,
            api_version=self.version,
            sign_type="HMAC-SHA256" if "HMAC" in self.name else "MD5",
            api_key=credentials.api_key,
            api_v3_key=credentials.apiv3_key,
            public_key_id=credentials.public_key_id if credentials.public_key_mode else None,
        )
        self.client = self.line_to(self.simulator.url, merchant)
        self.certificates = Certificates(merchant, self.client, folder / "platform", self.clock, self.nonce)
        v2 = V2(merchant, self.client, self.clock, self.nonce)
        v3 = V3(merchant, self.client, self.certificates, self.clock, self.nonce)
        self.gateway = WechatGateway(merchant, v2, v3)

    def line_to(self, url, merchant):
        return Client(
            clock=self.clock, base_url=url, backup_url="", sleep=self.nap, certificate=merchant.certificate
        )

    async def close(self):
        await self.client.close()
        await self.simulator.stop()

    async def nap(self, _seconds):
        """No test waits."""

    def nonce(self):
        return f"{next(self.nonces):032d}"

    def weather(self, weather):
        faults = self.simulator.faults
        faults.in_force["calls"].clear()
        if weather is not Weather.FAIR:
            kind = {Weather.DOWN: "cut_before", Weather.DEAF: "cut_after"}[weather]
            faults.set("calls", kind, rate=1)

    def accepts(self, pay_params):
        """As a payer's phone looks at them."""
        return check_pay_params(self.simulator.platform, pay_params)

    async def ahead(self, **by):
        self.now += timedelta(**by)
        self.simulator.clock.wake()
        await self.simulator.settle()


def world_of(name):
    return (BookWorld if name.startswith("book") else WiredWorld)(name)
