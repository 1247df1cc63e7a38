"""A till that WeChat can call: the notify path behind real HTTP, a store behind it, and an open ear."""

from datetime import UTC, datetime, timedelta

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from attrs import Factory, define, field

from adapters.metrics import Metrics
from adapters.store.memory import MemoryStore
from adapters.wechat import v2_wire
from adapters.wechat.notices import V2Notices, V3Notices
from adapters.wechat.notify import PATH, Notify
from adapters.wechat.watch import Watch
from application.failures import FailureBook
from application.payments import Payments
from application.ports import RefundEar
from tests.wechat_side import NOW, NUMBER, Line, WechatSide, certificate_pem, order

ACK = b"<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>"


@define
class Ear(RefundEar):
    """Remembers what it heard; refuses to listen when told to."""

    heard: list = Factory(list)
    refusal: Exception | None = None

    async def hear(self, report, cause, *, signed):
        if self.refusal:
            raise self.refusal
        self.heard.append((report, cause, signed))


@define
class NotifyTill:
    """One merchant's notify path; `wechat` is whom it would call for certificates."""

    line: Line
    store: MemoryStore
    ear: Ear = Factory(Ear)
    metrics: Metrics = Factory(Metrics)
    client: TestClient = field(init=False)

    @classmethod
    async def open(cls, merchant, folder, store=None, now=NOW):
        folder.mkdir(exist_ok=True)
        (folder / "go_platform.pem").write_bytes(certificate_pem())
        line = Line(await WechatSide().start(), merchant, folder, now=now)
        till = cls(line, store or MemoryStore())
        payments = Payments(
            orders=till.store,
            answers=till.store,
            gateway=line.gateway,
            clock=line.clock,
            mint=lambda: "unused",
        )
        notify = Notify(
            payments=payments,
            failures=FailureBook(till.store.failures, line.clock, write_every=timedelta(0)),
            refunds=till.ear,
            clock=line.clock,
            v2=V2Notices(merchant, payments),
            v3=V3Notices(merchant, line.certificates),
            observer=till.metrics,
        )
        line.certificates.watch = Watch(observer=till.metrics)
        app = web.Application()
        app.router.add_post(PATH, notify.handle)
        till.client = TestClient(TestServer(app))
        await till.client.start_server()
        return till

    async def close(self):
        await self.client.close()
        await self.line.close()

    async def holds(self, *args, **changes):
        """Put an order into the store."""
        placed = order(*args, **changes)
        await self.store.save(placed)
        return placed

    async def told(self, body, headers=None):
        """WeChat's POST; the answer's status and bytes."""
        if isinstance(body, str):
            body = body.encode()
        answer = await self.client.post(PATH, data=body, headers=headers or {"Content-Type": "text/xml"})
        return answer.status, await answer.read()

    @property
    def status(self):
        return self.store.rows[NUMBER].status.value

    @property
    def events(self):
        return [event.name for event in self.store.events]

    @property
    def kept(self):
        """All that was refused, alarming or not."""
        return list(self.store.failures.kept.values())

    @property
    def failures(self):
        """What a person has to look at."""
        return [failure for failure in self.store.failures.kept.values() if failure.is_alarm]


def v2_refusal(answer):
    """The status and the reason of V2's FAIL."""
    status, body = answer
    fields = v2_wire.read(body)
    assert fields.keys() == {"return_code", "return_msg"}
    assert fields["return_code"] == "FAIL"
    return status, fields["return_msg"]


def at(seconds):
    return datetime.fromtimestamp(seconds, UTC)
