"""The same stories over real sockets: the simulator, the real V2 and V3 lines, the real handler.

What goes wrong follows from the seed as far as sockets allow: calls made side by side may draw their faults
in another order the next time.
"""

import socket
from datetime import timedelta

import aiohttp
from attrs import define, evolve, field
from dotenv import dotenv_values

from adapters.wechat.client import Client
from adapters.wechat.gateway import WechatGateway
from adapters.wechat.notify import PATH
from adapters.wechat.simulator import SimClock, Simulator, prepare
from adapters.wechat.simulator.faults import FORGEABLE, Fault
from adapters.wechat.simulator.letters import news_of_payment
from adapters.wechat.v2 import V2
from adapters.wechat.v3 import V3
from domain.trade import TradeState
from entrypoints.container import nonce
from entrypoints.numbers import Numbers
from entrypoints.settings import load
from entrypoints.till import Till, address_of, listen
from tests.simulated_shop import Service
from tests.simulation import Story

CALLS = {
    "timeout_before": 0.012,
    "timeout_after": 0.012,
    "unavailable_before": 0.02,
    "unavailable_after": 0.02,
    "cut_before": 0.03,
    "cut_after": 0.03,
    "wrong_signature": 0.03,
    "unsigned": 0.03,
    "probe": 0.02,
    "system_error": 0.03,
    "system_error_after": 0.03,
}
NOTIFICATIONS = {
    "drop": 0.2,
    "delay": 0.1,
    "duplicate": 0.1,
    "reorder": 0.1,
    "corrupt": 0.05,
    "probe": 0.05,
    "forged": 0.1,
}
REFUNDS = {"abnormal": 0.15, "closed": 0.1, "delay": 0.3}
HURRIED_SECONDS, PATIENT_SECONDS = 0.2, 5.0


@define
class HurriedClient(Client):
    """A line that waits for nothing longer than its own limit, and pauses for nobody."""

    async def send(self, *given, read_seconds=None, **named):  # noqa: ARG002 - refunds may wait no longer
        return await Client.send(self, *given, read_seconds=self.read_seconds, **named)


async def no_pause(seconds):
    """Repeats come at once."""


@define(eq=False)
class WireSide:
    """The simulator, as a story handles WeChat."""

    simulator: Simulator
    mute: bool
    notify_url: str
    session: aiohttp.ClientSession
    line: HurriedClient = None
    till: Till = None
    door: socket.socket = None

    @property
    def book(self):
        """WeChat's."""
        return self.simulator.book

    def gateway(self, version):
        """The real lines, set up to place in that version."""
        api_version, sign_type = version
        container = self.till.container
        clock, certificates = container.clock(), container.certificates()
        sign_type = "MD5" if api_version == "v3" else sign_type
        merchant = evolve(container.merchant(), api_version=api_version, sign_type=sign_type)
        v2 = V2(merchant, self.line, clock, nonce)
        return WechatGateway(merchant, v2, V3(merchant, self.line, certificates, clock, nonce))

    def storm(self):
        """Everything goes wrong now and then."""
        for group, faults in (("calls", CALLS), ("notifications", NOTIFICATIONS), ("refunds", REFUNDS)):
            for kind, rate in faults.items():
                seconds = timedelta(days=3) if group == "refunds" else timedelta(seconds=90)
                how = {"field": self.simulator.book.chance.choice(FORGEABLE)} if kind == "forged" else {}
                self.simulator.faults.set(group, kind, rate=rate, seconds=seconds.total_seconds(), **how)
        if self.mute:
            self.simulator.faults.set("notifications", "drop", rate=1)

    def clear_up(self):
        """From now on calls and notifications go well, except that a mute WeChat stays mute."""
        self.simulator.faults.clear()
        if self.mute:
            self.simulator.faults.set("notifications", "drop", rate=1)
        self.line.read_seconds = PATIENT_SECONDS

    def heard(self):
        """What the merchant has acknowledged."""
        for notification in self.simulator.notifier.sent:
            news = notification.news
            if notification.heard:
                yield news.out_trade_no, news.out_refund_no, news.event_type == "REFUND.ABNORMAL"

    def pay(self, out_trade_no, bank_type="OTHERS"):
        """The payer pays; raise Refusal if it can't be."""
        self.simulator.platform.pay(out_trade_no, bank_type)

    def pay_late(self, out_trade_no):
        """Money that was under way when the order was closed."""
        order, now = self.book.orders[out_trade_no], self.simulator.clock.now()
        self.book.orders[out_trade_no] = evolve(
            order, trade_state=TradeState.NOTPAY, expires_at=now + timedelta(days=9)
        )
        self.book.place(order.request, now)
        self.pay(out_trade_no)

    def end_refund(self, out_refund_no, status):
        """The bank, or a person in the merchant platform, ends the refund now."""
        self.simulator.platform.end_refund(out_refund_no, status)

    async def settle(self, _hear, _alive):
        """What is due on WeChat's calendar happens; the handler hears it."""
        self.simulator.clock.wake()
        await self.simulator.settle()

    async def forge(self, _hear, number):
        """A rightly signed notification with a lie in it is never acknowledged."""
        now, order = self.simulator.clock.now(), self.book.orders[number]
        paid = evolve(order, trade_state=TradeState.SUCCESS, transaction_id="4200000000000000", paid_at=now)
        news = news_of_payment(self.simulator.notifier.new_id(), paid, now)
        fields = [name for name in FORGEABLE if name != "total_fee" or order.total_fee != 1]  # the lie is 1
        lie = Fault(kind="forged", field=self.book.chance.choice(fields))
        letter = self.simulator.notifier.scribe.write(news, lie, self.simulator.clock.wire_now())
        async with self.session.post(self.notify_url, data=letter.body, headers=dict(letter.headers)) as told:
            assert told.status >= 400, (lie, number, await told.text())


@define(eq=False)
class WireStory(Story):
    """A story whose every byte goes through a socket. `path` is a folder."""

    address: tuple = ("127.0.0.1", 0)
    settings: object = field(default=None, init=False)
    crowded: bool = False

    async def run(self, steps):
        """As a story's, between the opening and the closing of WeChat's door."""
        mute = self.side.mute
        with listen(*self.address) as door:  # whose port stays ours
            self.address = door.getsockname()[:2]
            notify_url = address_of(door) + PATH
        credentials = prepare(self.path / "wechat", base_url="http://127.0.0.1:1", notify_url=notify_url)
        simulator = Simulator(credentials, seed=hash_of(self.seed), clock=SimClock(self.wechat_time))
        await simulator.start("127.0.0.1", 0)
        prepare(self.path / "wechat", base_url=simulator.url, notify_url=notify_url)
        self.settings = load(self.variables())
        async with aiohttp.ClientSession() as session:
            self.side = WireSide(simulator, mute, notify_url, session)
            self.side.storm()
            try:
                await super().run(steps)
            finally:
                await simulator.stop()

    def wechat_time(self):
        """WeChat's clock."""
        return self.now

    def variables(self):
        """The service's environment."""
        return {
            **dotenv_values(self.path / "wechat" / "simulator.env"),
            "MINITILL_DATABASE": f"sqlite:///{self.path / 'minitill.db'}",
            "MINITILL_WEBHOOK_URL": "https://shop.example/hook",
            "MINITILL_WEBHOOK_SECRET": "whsec_" + "c2VjcmV0" * 4,
            "MINITILL_AUTH_MODE": "open",
            "MINITILL_LATE_PAYMENT": "refund" if self.refund_late else "keep",
        }

    async def start(self, fuse=None):  # noqa: ARG002 - a story's; here processes end in peace
        """A fresh process on the same file, behind the same address."""
        await self.stop()
        self.side.line = HurriedClient(
            clock=self.clock,
            base_url=self.settings.base_url,
            backup_url="",
            read_seconds=HURRIED_SECONDS,
            sleep=no_pause,
            monotonic=lambda: 0.0,
        )
        till = self.side.till = await Till.open(
            self.settings, with_jobs=False, clock=self.clock, client=self.side.line, shop=self.shop
        )
        self.side.door = listen(*self.address)
        await till.start(self.side.door)
        self.store = till.store
        self.begin()

    def begin(self, fuse=None):  # noqa: ARG002 - as start
        """The container's own use cases, with numbers that follow from the seed."""
        container, draw = self.side.till.container, self.chance.randrange
        payments = evolve(container.payments(), mint=Numbers("PAY", self.clock, draw))
        refunds = evolve(container.refunds(), mint=Numbers("REF", self.clock, draw), payments=payments)
        janitor = evolve(container.janitor(), payments=payments)
        self.service = Service(payments, refunds, janitor, container.courier(), self.store.answers)

    async def stop(self):
        """The process ends in peace."""
        if self.side.till is not None:
            await self.side.till.stop()
            self.side.door.close()
            self.side.till = None


def hash_of(seed):
    """A number for the simulator's own chance."""
    return int.from_bytes(str(seed).encode()[-8:], "big")
