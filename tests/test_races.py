"""Many at once on one order: the sums hold, the keys hold, and everybody ends with the same story."""

import asyncio
from datetime import timedelta
from itertools import permutations
from random import Random

import pytest
from attrs import evolve

from application.agenda import MINUTE
from application.errors import Busy, WechatRefused
from application.payments import NewOrder, late_refund_no
from application.ports import Meaning, Refused
from application.refunds import NewRefund
from domain.errors import OrderEnded, OrderPaid, RefundNotAllowed
from domain.order import Status
from domain.refund import REFUNDS_MAX
from domain.trade import RefundStatus, TradeState
from tests.both_books import check_safety
from tests.simulated_shop import Service, Shop, keyed
from tests.simulated_wechat import BookSide, Chances, StormyGateway, trade_of
from tests.simulation import START

TEA = NewOrder(openid="o1", total_fee=100, body="茶")
CROWD = 50


class Counter:
    """One shop over the store of the test; every call to WeChat lets others go ahead."""

    def __init__(self, store, seed="races"):
        self.store, self.now, self.shop = store, START, Shop()
        self.side = BookSide(Chances(seed, fair=True), lambda: self.now)
        self.gateway = self.side.gateway(("v3", "RSA"))
        self.service = self.another()

    def another(self, gateway=None):
        """A process more on the same store."""
        return Service.over(self.store, gateway or self.gateway, self.shop, lambda: self.now, chance=Random())

    async def paid(self, total_fee=100):
        """The number of an order that is paid."""
        checkout = await self.service.payments.create(evolve(TEA, total_fee=total_fee), "api")
        number = checkout.order.out_trade_no
        self.side.pay(number)
        await self.side.settle(self.service.hear, lambda: True)
        return number

    async def check(self):
        """Return the orders' statuses, if nothing is wrong."""
        return await check_safety(self.store, self.side, self.shop, {})


@pytest.fixture
def counter(store):
    return Counter(store)


async def at_once(*calls):
    """The outcomes, refusals included."""
    return await asyncio.gather(*calls, return_exceptions=True)


def kinds(outcomes):
    return {type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)}


@pytest.mark.parametrize("refund_fee", [1, 2, 7, 60, None])
async def test_fifty_refunds_at_once_never_exceed_their_order(counter, refund_fee):
    """R35, R36: whatever is refused, no more leaves than came in."""
    number = await counter.paid()
    wishes = [
        NewRefund(out_trade_no=number, refund_fee=refund_fee, out_refund_no=f"R{n}") for n in range(CROWD)
    ]
    outcomes = await at_once(*(counter.service.refunds.request(wish, "api") for wish in wishes))
    assert kinds(outcomes) <= {RefundNotAllowed, *RefundNotAllowed.__subclasses__(), Busy}
    order = await counter.store.orders.get(number)
    at_wechat = counter.side.book.refunds
    taken = sum(refund.refund_fee for refund in at_wechat.values())
    assert taken <= order.total_fee == 100
    assert len(at_wechat) <= REFUNDS_MAX
    assert await counter.check() == {number: Status.PAID}


async def test_refunds_that_lost_a_race_are_done_when_they_are_asked_for_again(counter):
    """R34: under their own numbers, until nothing is left."""
    number = await counter.paid()
    wishes = [NewRefund(out_trade_no=number, refund_fee=4, out_refund_no=f"R{n}") for n in range(25)]
    for _ in range(9):
        await at_once(*(counter.service.refunds.request(wish, "api") for wish in wishes))
    order = await counter.store.orders.get(number)
    assert (order.refundable_fee, len(order.refunds)) == (0, 25)
    assert set(counter.side.book.refunds) == {wish.out_refund_no for wish in wishes}
    await counter.check()


async def test_fifty_taps_on_one_refund_are_one_refund(counter):
    """R34."""
    number = await counter.paid()
    wish = NewRefund(out_trade_no=number, refund_fee=60, out_refund_no="R1")
    outcomes = await at_once(*(counter.service.refunds.request(wish, "api") for _ in range(CROWD)))
    assert kinds(outcomes) <= {Busy}
    assert list(counter.side.book.refunds) == ["R1"]
    await counter.check()


@pytest.mark.parametrize("refund_fee", [60, None])
async def test_fifty_refunds_with_one_key_are_one_refund_and_one_answer(counter, refund_fee):
    """R10, R34: also when the first has promised all there was."""
    number = await counter.paid()
    wish = NewRefund(out_trade_no=number, refund_fee=refund_fee)
    calls = (counter.service.refunds.request_keyed(wish, "api", keyed("k")) for _ in range(CROWD))
    answers = await at_once(*calls)
    assert len({(a.number, a.status, a.body) for a in answers}) == 1
    assert list(counter.side.book.refunds) == [answers[0].number]
    await counter.check()


async def test_fifty_creates_with_one_key_are_one_order(counter):
    """R10: one row, one set of pay_params."""
    calls = (counter.service.payments.create_keyed(TEA, "api", keyed("k")) for _ in range(CROWD))
    answers = await at_once(*calls)
    assert len({(a.number, a.status, a.body) for a in answers}) == 1
    assert await counter.check() == {answers[0].number: Status.PENDING}


async def test_twins_of_which_one_is_refused_agree_all_the_same(store):
    """R10: whichever answer was written down first is the one for all."""
    for seed in range(30):
        counter = Counter(store, f"twins {seed}")
        key = keyed(f"k{seed}")
        counter.side.chances.fair = False
        outcomes = await at_once(
            *(counter.service.payments.create_keyed(TEA, "api", key) for _ in range(4)),
            *(counter.another().payments.create_keyed(TEA, "api", key) for _ in range(4)),
        )
        answers = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len({(a.number, a.status, a.body) for a in answers}) <= 1, seed


class Moody(StormyGateway):
    """Refuses the first call of a refund and is slow to say that there is none; takes the next call."""

    calls = 0

    async def refund(self, order, refund):
        type(self).calls += 1
        if type(self).calls == 1:
            return Refused(meaning=Meaning.PAYER, err_code="USER_ACCOUNT_ABNORMAL")
        await others_go_ahead(10)
        return await super().refund(order, refund)

    async def query_refund(self, order, refund):
        answer = await super().query_refund(order, refund)
        await others_go_ahead(60)
        return answer


async def others_go_ahead(times):
    for _ in range(times):
        await asyncio.sleep(0)


@pytest.fixture
def moody(counter):
    Moody.calls = 0
    old = counter.gateway
    return Moody(old.book, old.clock, chances=old.chances, version=old.version)


async def test_a_refund_that_was_refused_to_one_is_not_taken_for_another(counter, moody):
    """R34, R35: money that WeChat is sending back is never free to be sent back again."""
    number = await counter.paid()
    service = counter.another(moody)
    wish = NewRefund(out_trade_no=number, refund_fee=60, out_refund_no="R1")
    await at_once(*(service.refunds.request(wish, "api") for _ in range(2)))
    refund = (await counter.store.orders.get(number)).refund("R1")
    at_wechat = counter.side.book.refunds.get("R1")
    assert (refund.refund_status is RefundStatus.CLOSED) == (at_wechat is None)


RACERS = ("notification", "query", "close", "janitor")


@pytest.mark.parametrize("first_paid", [True, False], ids=["paid", "unpaid"])
async def test_notification_query_and_close_race_for_one_order(store, first_paid):
    """R16, R25: in whatever order they come, our book ends as WeChat's."""
    for turn, racers in enumerate(permutations(RACERS)):
        counter = Counter(store, f"race {turn}")
        checkout = await counter.service.payments.create(TEA, "api")
        number = checkout.order.out_trade_no
        if first_paid:
            counter.side.pay(number)
        counter.now += timedelta(minutes=2)
        outcomes = await at_once(*(race(counter, racer, number) for racer in racers))
        assert kinds(outcomes) <= {OrderPaid, WechatRefused, OrderEnded}
        order = await store.orders.get(number)
        theirs = counter.side.book.orders[number]
        assert order.is_paid == theirs.is_paid == first_paid
        assert (order.status is Status.CANCELLED) == (theirs.trade_state is TradeState.CLOSED)
        versions = [event.version for event in await store.orders.history(number)]
        assert versions == [1, 2]


async def race(counter, racer, number):
    """One of those who want to have a word on the order."""
    payments, theirs = counter.service.payments, counter.side.book.orders[number]
    if racer == "notification" and theirs.is_paid:
        for _ in range(3):  # the same one, from several of WeChat's senders
            await counter.another().hear(trade_of(theirs), signed=True)
    elif racer == "query":
        await payments.query(number)
    elif racer == "close":
        await payments.close(number, "api")
    elif racer == "janitor":
        counter.now += MINUTE
        await counter.another().janitor.look()


async def test_a_payer_who_comes_back_many_times_at_once_can_pay(counter):
    """R12: one of the fresh prepay_ids counts, and the order stays one."""
    checkout = await counter.service.payments.create(evolve(TEA, expire_minutes=24 * 60), "api")
    number = checkout.order.out_trade_no
    counter.now += timedelta(hours=3)
    outcomes = await at_once(*(counter.service.payments.pay(number, "api") for _ in range(CROWD)))
    assert not kinds(outcomes)
    assert await counter.check() == {number: Status.PENDING}


async def test_late_money_is_taken_in_even_if_its_refund_number_belongs_to_another_order(counter):
    """R34, R45: the payment is a fact, whatever becomes of sending it back."""
    other = await counter.paid()
    checkout = await counter.service.payments.create(TEA, "api")
    number = checkout.order.out_trade_no
    await counter.service.payments.close(number, "api")
    wish = NewRefund(out_trade_no=other, refund_fee=1, out_refund_no=late_refund_no(number))
    await counter.service.refunds.request(wish, "api")
    counter.side.pay_late(number)
    payments = evolve(counter.service.payments, refund_late=True)
    for _ in range(2):
        await payments.record(counter.side.notices[-1].word, "notify")
    order = await counter.store.orders.get(number)
    assert (order.status, order.late, order.refunds) == (Status.PAID, True, ())
    await counter.check()
