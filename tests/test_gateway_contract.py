"""One contract for every gateway: the book without a wire, V2 and V3 against a WeChat that behaves."""

import ssl

import pytest
from attrs import evolve

from adapters.wechat.simulator.codes import Refusal
from adapters.wechat.simulator.gateway import Weather
from application.ports import Meaning, Prepared, Refused, Unknown
from domain.refund import Refund
from domain.trade import RefundStatus, TradeState
from tests.gateway_worlds import WIRED, WORLDS, world_of


@pytest.fixture(params=WORLDS)
def world(request, runner, tmp_path):
    world = world_of(request.param)
    runner.run(world.open(tmp_path))
    yield world
    runner.run(world.close())


def refund_of(world, **changes):
    given = {"out_refund_no": "REF1", "refund_fee": 30, "reason": "少了一杯", "created_at": world.now}
    return Refund(**(given | changes))


# -- placing -------------------------------------------------------------------------------------


async def test_an_order_is_placed_as_it_stands(world):
    """R8, R11, R18."""
    order = world.order()
    answer = await world.gateway.prepay(order)
    assert isinstance(answer, Prepared)
    taken = world.book.orders[order.out_trade_no]
    assert (taken.total_fee, taken.request.openid) == (100, order.openid)
    assert (taken.request.body, taken.request.attach) == (order.body, order.attach)
    assert (taken.request.notify_url, taken.expires_at) == (order.placement.notify_url, order.expires_at)
    assert world.book.prepaid(answer.prepay_id, world.now) == taken


async def test_the_same_order_again_gets_a_fresh_prepay_id(world):
    """R11, R12: after the two hours of the old one."""
    order = await world.placed()
    await world.ahead(hours=3)
    again = await world.gateway.prepay(order)
    assert isinstance(again, Prepared)
    assert again.prepay_id != order.prepay_id
    assert world.book.pay(order.out_trade_no, world.now).is_paid
    assert len(world.book.orders) == 1


async def test_the_same_number_with_other_parameters_is_refused(world):
    """R11. V2 may call it INVALID_REQUEST, with a text we do not read (v2.md section 5)."""
    order = await world.placed()
    answer = await world.gateway.prepay(evolve(order, total_fee=101))
    assert isinstance(answer, Refused)
    assert answer.meaning is (Meaning.NUMBER_USED if world.version == "v3" else Meaning.BAD_REQUEST)
    assert world.book.orders[order.out_trade_no].total_fee == 100


async def test_a_paid_or_closed_order_is_not_placed_again(world):
    paid, closed = await world.paid(), await world.placed()
    world.book.close(closed.out_trade_no, world.now)
    assert (await world.gateway.prepay(paid)).meaning is Meaning.ALREADY_PAID
    assert (await world.gateway.prepay(closed)).meaning is Meaning.ALREADY_CLOSED


async def test_the_payers_phone_takes_the_pay_params(world):
    """R1, R2: rebuilt and verified with the public half of the merchant's key."""
    order = await world.placed()
    params = await world.gateway.pay_params(order, world.now)
    assert params.keys() == {"appId", "timeStamp", "nonceStr", "package", "signType", "paySign"}
    assert world.accepts(params).out_trade_no == order.out_trade_no
    if world.name in WIRED:
        with pytest.raises(Refusal):
            world.accepts({**params, "timeStamp": str(int(params["timeStamp"]) + 1)})


# -- asking and closing --------------------------------------------------------------------------


async def test_a_query_tells_where_the_order_stands(world):
    """R14, R17: one failed attempt leaves NOTPAY."""
    order = await world.placed()
    assert (await world.gateway.query(order)).trade_state is TradeState.NOTPAY
    world.book.fail(order.out_trade_no, world.now)
    assert (await world.gateway.query(order)).trade_state is TradeState.NOTPAY
    await world.ahead(minutes=1)
    paid = world.book.pay(order.out_trade_no, world.now)
    trade = await world.gateway.query(order)
    assert trade.trade_state is TradeState.SUCCESS
    assert (trade.out_trade_no, trade.transaction_id) == (order.out_trade_no, paid.transaction_id)
    assert (trade.total_fee, trade.currency, trade.openid) == (100, "CNY", order.openid)
    assert (trade.appid, trade.mch_id) == (order.placement.appid, order.placement.mch_id)
    assert trade.time_end == world.now
    assert order.apply(trade, world.now, "test").is_paid


async def test_nobody_knows_an_order_that_was_never_placed(world):
    order = world.order()
    for answer in (await world.gateway.query(order), await world.gateway.close(order)):
        assert answer.meaning is Meaning.NO_SUCH_ORDER


async def test_closing_is_repeatable_and_final(world):
    """R16."""
    order = await world.placed()
    for _ in range(2):
        trade = await world.gateway.close(order)
        assert (trade.out_trade_no, trade.trade_state) == (order.out_trade_no, TradeState.CLOSED)
    assert (await world.gateway.query(order)).trade_state is TradeState.CLOSED
    with pytest.raises(Refusal):
        world.book.pay(order.out_trade_no, world.now)


async def test_a_paid_order_does_not_close(world):
    """R16."""
    order = await world.paid()
    assert (await world.gateway.close(order)).meaning is Meaning.ALREADY_PAID


async def test_an_order_closes_by_itself_when_its_time_is_up(world):
    order = await world.placed()
    await world.ahead(days=1)
    assert (await world.gateway.query(order)).trade_state is TradeState.CLOSED


# -- bad weather ---------------------------------------------------------------------------------


async def test_when_wechat_never_hears_us_the_outcome_is_unknown(world):
    """R13."""
    order, paid = await world.placed(), await world.paid()
    before = dict(world.book.orders)
    world.weather(Weather.DOWN)
    for answer in (
        await world.gateway.prepay(world.order()),
        await world.gateway.query(order),
        await world.gateway.close(order),
        await world.gateway.refund(paid, refund_of(world)),
        await world.gateway.query_refund(paid, refund_of(world)),
    ):
        assert isinstance(answer, Unknown)
    assert (world.book.orders, world.book.refunds) == (before, {})


async def test_when_wechat_acts_and_we_never_hear_it_a_repeat_makes_no_second(world):
    """R13, R34: no order twice, no refund twice."""
    order, paid = world.order(), await world.paid()
    world.weather(Weather.DEAF)
    assert isinstance(await world.gateway.prepay(order), Unknown)
    assert isinstance(await world.gateway.refund(paid, refund_of(world)), Unknown)
    assert order.out_trade_no in world.book.orders
    (refund_id,) = [refund.refund_id for refund in world.book.refunds.values()]
    world.weather(Weather.FAIR)
    assert isinstance(await world.gateway.prepay(order), Prepared)
    report = await world.gateway.refund(paid, refund_of(world))
    assert report.refund_id == refund_id
    assert len(world.book.refunds) == 1


# -- refunds -------------------------------------------------------------------------------------


async def test_a_refund_is_accepted_and_then_done(world):
    """R38, R40."""
    paid = await world.paid()
    taken = await world.gateway.refund(paid, refund_of(world))
    assert taken.refund_status is RefundStatus.PROCESSING
    assert (taken.out_trade_no, taken.out_refund_no) == (paid.out_trade_no, "REF1")
    assert (taken.refund_fee, taken.total_fee) == (30, 100)
    await world.ahead(minutes=5)
    done = await world.gateway.query_refund(paid, refund_of(world))
    assert (done.refund_status, done.refund_id) == (RefundStatus.SUCCESS, taken.refund_id)
    assert done.success_at is not None
    assert (await world.gateway.query(paid)).trade_state is TradeState.REFUND


async def test_more_than_was_paid_is_not_refunded(world):
    """R35."""
    paid = await world.paid()
    assert not isinstance(await world.gateway.refund(paid, refund_of(world, refund_fee=71)), Refused)
    answer = await world.gateway.refund(paid, refund_of(world, out_refund_no="REF2", refund_fee=30))
    assert isinstance(answer, Refused)
    assert len(world.book.refunds) == 1


async def test_a_refund_number_with_another_amount_is_refused(world):
    paid = await world.paid()
    await world.gateway.refund(paid, refund_of(world))
    answer = await world.gateway.refund(paid, refund_of(world, refund_fee=31))
    assert answer.meaning is (Meaning.NUMBER_USED if world.version == "v2" else Meaning.BAD_REQUEST)


async def test_an_unpaid_order_is_not_refunded(world):
    """R37."""
    order = await world.placed()
    assert (await world.gateway.refund(order, refund_of(world))).meaning is Meaning.NO_SUCH_ORDER


async def test_nobody_knows_a_refund_that_was_never_carried(world):
    paid = await world.paid()
    assert (await world.gateway.query_refund(paid, refund_of(world))).meaning is Meaning.NO_SUCH_REFUND


async def test_a_refund_the_bank_refused_is_abnormal_until_somebody_acts(world):
    """R39: by V3 it is taken to the merchant's own card; V2 has no such call."""
    paid = await world.paid()
    taken = await world.gateway.refund(paid, refund_of(world))
    world.book.end_refund("REF1", RefundStatus.ABNORMAL, world.now)
    refund = refund_of(world, refund_id=taken.refund_id)
    assert (await world.gateway.query_refund(paid, refund)).refund_status is RefundStatus.ABNORMAL
    answer = await world.gateway.recover_refund(paid, refund)
    if world.name.startswith("v2"):
        assert answer.meaning is Meaning.CONFIGURATION
    else:
        assert answer.refund_status is RefundStatus.PROCESSING


# -- on the wire only ----------------------------------------------------------------------------

wired = pytest.mark.parametrize("world", WIRED, indirect=True)


@wired
@pytest.mark.parametrize("fault", ["wrong_signature", "unsigned", "probe"])
async def test_an_answer_that_wechat_did_not_sign_is_no_answer(world, fault):
    """R23, R26."""
    order = await world.placed()
    world.simulator.faults.set("calls", fault, rate=1)
    for answer in (await world.gateway.prepay(world.order()), await world.gateway.query(order)):
        assert isinstance(answer, Unknown)


@wired
@pytest.mark.parametrize(
    "fault", ["system_error", "system_error_after", "unavailable_before", "unavailable_after"]
)
async def test_trouble_that_passes_is_overcome(world, fault):
    """R13."""
    world.simulator.faults.set("calls", fault, next=2)
    assert isinstance(await world.gateway.prepay(world.order()), Prepared)
    assert len(world.book.orders) == 1


@wired
async def test_what_wechat_refuses_is_a_refusal(world):
    world.simulator.faults.set("calls", "refuse", next=1, code="NO_AUTH")
    assert (await world.gateway.prepay(world.order())).meaning is Meaning.CONFIGURATION


@pytest.mark.parametrize("world", ["v3 certificate"], indirect=True)
async def test_a_rotation_of_certificates_goes_unnoticed(world):
    """R52: the new one is downloaded when it is first met, or before."""
    order = await world.placed()
    world.simulator.platform.keys.rotate(world.now, world.now)
    await world.ahead(hours=13)
    assert (await world.gateway.query(order)).trade_state is TradeState.NOTPAY
    await world.gateway.v3.certificates.refresh()
    assert len(world.gateway.v3.certificates.ring.keys) == 2
    assert (await world.gateway.query(order)).trade_state is TradeState.NOTPAY


@pytest.mark.parametrize("world", ["v2 MD5"], indirect=True)
async def test_v2_refunds_go_by_mutual_tls(world):
    """v2.md section 1: over TLS, WeChat asks for the merchant's certificate."""
    paid = await world.paid()
    client = world.line_to(world.simulator.tls_url, world.gateway.merchant)
    client._mutual_tls.load_verify_locations(world.simulator.credentials.file("tls_cert.pem"))
    assert isinstance(client._mutual_tls, ssl.SSLContext)
    try:
        report = await evolve(world.gateway.v2, client=client).refund(paid, refund_of(world))
    finally:
        await client.close()
    assert report.refund_status is RefundStatus.PROCESSING
    assert world.simulator.platform.calls[-1].client_certificate == "merchant"
