"""The whole loop over real sockets: we place, the payer pays, WeChat notifies, and the order is PAID."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from attrs import define, field

from adapters.store.memory import MemoryStore
from adapters.wechat.notices import V2Notices, V3Notices
from adapters.wechat.notify import PATH, Notify
from adapters.wechat.simulator.orders import Form, RefundRequest
from application.failures import FailureBook
from application.payments import Payments
from domain.order import Status
from domain.trade import RefundStatus
from tests.gateway_worlds import WIRED, WiredWorld
from tests.notify_till import Ear


@define
class Loop:
    """A till and a WeChat that notifies it."""

    world: WiredWorld
    store: MemoryStore = field(factory=MemoryStore)
    ear: Ear = field(factory=Ear)
    answers: list = field(factory=list)
    server: TestServer = field(init=False)
    notify: Notify = field(init=False)

    async def open(self, folder):
        app = web.Application()
        app.router.add_post(PATH, self.hear)
        self.server = TestServer(app)
        await self.server.start_server()
        await self.world.open(folder, str(self.server.make_url(PATH)))
        gateway = self.world.gateway
        payments = Payments(
            orders=self.store,
            answers=self.store,
            gateway=gateway,
            clock=self.world.clock,
            mint=lambda: "unused",
        )
        self.notify = Notify(
            payments=payments,
            failures=FailureBook(self.store.failures, self.world.clock),
            refunds=self.ear,
            clock=self.world.clock,
            v2=V2Notices(gateway.merchant, payments),
            v3=V3Notices(gateway.merchant, self.world.certificates),
        )

    async def hear(self, request):
        answer = await self.notify.handle(request)
        self.answers.append(answer.status)
        return answer

    async def close(self):
        await self.world.close()
        await self.server.close()

    async def pays(self, order):
        """The payer pays, and WeChat tells us at once, if it does."""
        await self.store.save(order)
        self.world.simulator.platform.pay(order.out_trade_no)
        await self.world.simulator.settle()

    def status(self, order):
        return self.store.rows[order.out_trade_no].status


@pytest.fixture(params=WIRED)
def loop(request, runner, tmp_path):
    loop = Loop(WiredWorld(request.param))
    runner.run(loop.open(tmp_path))
    yield loop
    runner.run(loop.close())


def fault(loop, kind, **how):
    loop.world.simulator.faults.set("notifications", kind, **({"next": 1} | how))


async def test_a_payment_becomes_known_by_its_notification(loop):
    order = await loop.world.placed()
    await loop.pays(order)
    assert loop.status(order) is Status.PAID
    assert loop.answers == [200 if loop.world.version == "v2" else 204]


@pytest.mark.parametrize("kind", ["drop", "corrupt", "probe", "delay", "reorder"])
async def test_a_notification_that_went_wrong_comes_again(loop, kind):
    """R23, R26, R29."""
    fault(loop, kind)
    order = await loop.world.placed()
    await loop.pays(order)
    assert loop.status(order) is Status.PENDING
    await loop.world.ahead(minutes=2)
    assert loop.status(order) is Status.PAID
    assert not any(failure.is_alarm for failure in loop.store.failures.kept.values())


async def test_a_notification_that_comes_twice_is_one_payment(loop):
    """R25."""
    fault(loop, "duplicate")
    order = await loop.world.placed()
    await loop.pays(order)
    assert [event.name for event in loop.store.events] == ["order.created", "order.paid"]
    assert len(loop.answers) == 2
    assert len(set(loop.answers)) == 1


@pytest.mark.parametrize("lie", ["total_fee", "appid", "mch_id", "currency", "out_trade_no"])
async def test_a_rightly_signed_lie_pays_nothing(loop, lie):
    """R28: an alarm, the evidence, and WeChat repeats, with the truth."""
    fault(loop, "forged", field=lie)
    order = await loop.world.placed()
    await loop.pays(order)
    assert loop.status(order) is Status.PENDING
    (failure,) = loop.store.failures.kept.values()
    assert failure.is_alarm
    assert failure.kind == f"notify.{loop.world.version}"
    await loop.world.ahead(minutes=1)
    assert loop.status(order) is Status.PAID


@pytest.mark.parametrize("end", [RefundStatus.SUCCESS, RefundStatus.ABNORMAL, RefundStatus.CLOSED])
async def test_a_refund_becomes_known_by_its_notification(loop, end):
    """R40."""
    order = await loop.world.placed()
    await loop.pays(order)
    platform = loop.world.simulator.platform
    platform.refund(
        RefundRequest(
            out_refund_no="REF1",
            refund_fee=30,
            total_fee=100,
            out_trade_no=order.out_trade_no,
            notify_url=order.placement.notify_url,
            form=Form(loop.world.version),
        )
    )
    platform.end_refund("REF1", end)
    await loop.world.simulator.settle()
    ((report, _, signed),) = loop.ear.heard
    assert (report.out_trade_no, report.out_refund_no) == (order.out_trade_no, "REF1")
    assert (report.refund_status, report.refund_fee, report.total_fee) == (end, 30, 100)
    assert report.mch_id == order.placement.mch_id
    assert signed is (loop.world.version == "v3")
