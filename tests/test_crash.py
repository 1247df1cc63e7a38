"""The process dies at every call of a port in turn; after a restart all ends as if it had lived.

Each scene is played once in peace, and once for each call it makes: dying before the call, and dying when
its work is done and its answer lost. What was asked is then asked again, as callers, WeChat and jobs do.
"""

from collections import Counter
from datetime import timedelta
from random import Random

import pytest

from adapters.store.sqlite import SqliteStore
from application.payments import NewOrder
from application.refunds import NewRefund
from domain.errors import PaymentError
from domain.order import Status
from domain.trade import RefundStatus
from tests.both_books import check_agreement, check_safety, snapshot
from tests.crashing import Fuse, until_death
from tests.simulated_shop import Service, Shop, keyed
from tests.simulated_wechat import BookSide, Chances
from tests.simulation import START

pytestmark = pytest.mark.slow

TEA = NewOrder(openid="o1", total_fee=100, body="茶", expire_minutes=24 * 60)


class Stage:
    """A shop, WeChat, and a file that outlives every process; nothing goes wrong but the deaths."""

    def __init__(self, path):
        self.path, self.now, self.store, self.starts = path, START, None, 0
        self.shop, self.number = Shop(), ""
        self.side = BookSide(Chances("calm", fair=True), lambda: self.now, mute=True)

    async def start(self, fuse=None):
        """A fresh process on the file."""
        await self.stop()
        self.store = await SqliteStore.open(self.path, listening=True)
        gateway = self.side.gateway(("v3", "RSA"))
        self.starts += 1
        self.service = Service.over(
            self.store, gateway, self.shop, lambda: self.now, fuse=fuse, chance=Random(self.starts)
        )

    async def stop(self):
        """The process is gone; the file is there."""
        if self.store is not None:
            await self.store.close()

    async def ready(self, scene):
        """Play what comes before the scene."""
        await self.start()
        if scene.order:
            self.number = (await self.service.payments.create(TEA, "api")).order.out_trade_no
        for step in scene.before:
            await step(self)

    async def settle(self):
        """Days go by, and the jobs run."""
        for _ in range(30):
            await self.side.settle(self.service.hear, lambda: True)
            while await self.service.janitor.look() + await self.service.refunds.look():
                pass
            while await self.service.courier.deliver():
                pass
            self.now += timedelta(hours=12)

    async def ending(self):
        """What there is in the end, apart from numbers and moments."""
        await check_safety(self.store, self.side, self.shop, {})
        await check_agreement(self.store, self.side, self.shop)
        orders, events = await snapshot(self.store)
        paid = [order for order in self.side.book.orders.values() if order.is_paid]
        return {
            "orders": sorted(
                (o.status, o.total_fee, o.refunded_fee, len(o.refunds)) for o in orders.values()
            ),
            "refunds": sorted((r.refund_fee, r.refund_status) for o in orders.values() for r in o.refunds),
            "paid at WeChat": len(paid),
            "refunds at WeChat": sorted((r.refund_fee, r.status) for r in self.side.book.refunds.values()),
            "told": Counter(event.name for told in events.values() for event in told if event.is_public),
        }


# -- what happens in the scenes ----------------------------------------------------------------


async def pay(stage):
    stage.side.pay(stage.number)


async def hear_of_it(stage):
    """WeChat repeats a notification until it is acknowledged (R29)."""
    word = stage.side.notices[-1].word
    await stage.service.hear(word, signed=True)


async def half_an_hour_passes(stage):
    stage.now += timedelta(minutes=31)


async def a_day_passes(stage):
    stage.now += timedelta(days=1, minutes=1)


async def three_hours_pass(stage):
    stage.now += timedelta(hours=3)


async def create(stage):
    """Without a key a caller who hears nothing asks again only if no order is there."""
    if not (await stage.service.payments.orders_of("o1", limit=9)).orders:
        await stage.service.payments.create(TEA, "api")


async def create_keyed(stage):
    stage.answer = await stage.service.payments.create_keyed(TEA, "api", keyed("k1"))


async def pay_again(stage):
    await stage.service.payments.pay(stage.number, "api")


async def close(stage):
    await stage.service.payments.close(stage.number, "api")


async def refund(stage):
    wish = NewRefund(out_trade_no=stage.number, refund_fee=60, out_refund_no="REF1")
    await stage.service.refunds.request(wish, "api")


async def refund_keyed(stage):
    wish = NewRefund(out_trade_no=stage.number, refund_fee=60)
    await stage.service.refunds.request_keyed(wish, "api", keyed("k2"))


async def refund_all(stage):
    await stage.service.refunds.request(NewRefund(out_trade_no=stage.number, out_refund_no="REF9"), "api")


async def look_after_refunds(stage):
    await stage.service.refunds.look()


async def look_after_orders(stage):
    await stage.service.janitor.look()


async def deliver(stage):
    while await stage.service.courier.deliver():
        pass


class Scene:
    """What is asked for, and what came before."""

    def __init__(self, act, *before, order=True):
        self.act, self.before, self.order = act, before, order


SCENES = {
    "create": Scene(create, order=False),
    "create with a key": Scene(create_keyed, order=False),
    "pay again": Scene(pay_again, three_hours_pass),
    "close": Scene(close),
    "notification": Scene(hear_of_it, pay),
    "refund": Scene(refund, pay, hear_of_it),
    "refund with a key": Scene(refund_keyed, pay, hear_of_it),
    "refund of everything": Scene(refund_all, pay, hear_of_it),
    "refund job": Scene(look_after_refunds, pay, hear_of_it, refund, half_an_hour_passes),
    "janitor, unpaid": Scene(look_after_orders, a_day_passes),
    "janitor, paid": Scene(look_after_orders, pay, half_an_hour_passes),
    "courier": Scene(deliver, pay, hear_of_it, refund),
}


async def play(scene, path, fuse):
    """The scene with a process that may die, what is asked again after its death, and the ending."""
    stage = Stage(path)
    try:
        await stage.ready(scene)
        await stage.start(fuse)
        if await until_death(scene.act(stage)):
            await stage.start()
            await ask_again(scene, stage)
        else:
            await stage.start()
        await stage.settle()
        return await stage.ending()
    finally:
        await stage.stop()


async def ask_again(scene, stage):
    """A refusal now only says that it was done before the death."""
    try:
        await scene.act(stage)
    except PaymentError:
        return


@pytest.mark.parametrize("name", SCENES)
async def test_a_death_at_any_moment_changes_nothing_in_the_end(name, tmp_path):
    """R10, R12, R13, R16, R25, R29, R30, R34, R35, R38, R45."""
    scene = SCENES[name]
    peace = Fuse()
    expected = await play(scene, tmp_path / "peace.db", peace)
    assert peace.calls, "the scene makes calls"
    for at in range(1, peace.calls + 1):
        for after in (False, True):
            fuse = Fuse(at=at, after=after)
            ended = await play(scene, tmp_path / f"{at}-{after}.db", fuse)
            assert fuse.burnt
            assert ended == expected, f"dead {'after' if after else 'before'} call {at}"


async def test_the_scenes_end_as_they_should(tmp_path):
    """Or an empty stage would pass for a full one."""
    ended = await play(SCENES["refund of everything"], tmp_path / "one.db", Fuse())
    assert ended["orders"] == [(Status.REFUNDED, 100, 100, 1)]
    assert ended["refunds at WeChat"] == [(100, RefundStatus.SUCCESS)]
    ended = await play(SCENES["janitor, unpaid"], tmp_path / "two.db", Fuse())
    assert ended["orders"] == [(Status.CANCELLED, 100, 0, 0)]


async def test_a_key_keeps_its_number_over_a_death(tmp_path):
    """R10: whatever was promised under the key before the death is what a repeat gets."""
    stage = Stage(tmp_path / "minitill.db")
    await stage.ready(SCENES["create with a key"])
    await create_keyed(stage)
    first = stage.answer
    await stage.start()
    await create_keyed(stage)
    assert (stage.answer.number, stage.answer.body) == (first.number, first.body)
    await stage.stop()
