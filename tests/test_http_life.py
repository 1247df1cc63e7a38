"""Closing an order and coming back to pay it, over real HTTP; and what every route says of itself."""

from datetime import timedelta
from functools import partial

import msgspec
import pytest
from attrs import evolve

from adapters.http.errors import MESSAGE
from adapters.http.life_api import LetterApi, OrderLifeApi, RefundApi
from adapters.http.routes import OPEN
from application.ports import Meaning, Prepared, Refused, Unknown
from domain.order import PREPAY_TTL
from domain.trade import Trade, TradeState
from tests.http_till import CLOSE, ORDERS, PAY, QUERY, REFUNDS, STATS, WEBHOOKS, Till, refusal

NO_SUCH_ORDER = Refused(meaning=Meaning.NO_SUCH_ORDER, err_code="ORDERNOTEXIST")
ALREADY_PAID = Refused(meaning=Meaning.ALREADY_PAID, err_code="ORDERPAID", description="该订单已支付")
SILENCE = Unknown(why="no answer within 5 s")
INSTANT = timedelta(microseconds=1)
STRANGE_NUMBERS = ["PAY17031234560000000009", "short", "a" * 33, "a%2Fb%2Fcdef", "PAY123%0A", "%00" * 6]


@pytest.fixture
def till(runner):
    till = runner.run(Till().open())
    yield till
    runner.run(till.close())


async def post(till, path):
    async with till.client.post(path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def statuses(till):
    """How many orders have each status that any order has."""
    async with till.client.get(STATS) as answer:
        counts = (await answer.json())["data"]
    return {status: count for status, count in counts.items() if count and status != "total"}


def word_of(order, trade_state="SUCCESS", **changes):
    """WeChat's word on the order."""
    fields = {"total_fee": order.total_fee, "transaction_id": "42"}
    return Trade(out_trade_no=order.out_trade_no, trade_state=TradeState(trade_state), **fields | changes)


# -- close (R16) -----------------------------------------------------------------------------


async def test_an_open_order_is_closed_at_wechat_and_here(till):
    number = await till.create()
    assert await post(till, CLOSE + number) == {
        "success": True,
        "data": {
            "out_trade_no": number,
            "transaction_id": None,
            "trade_state": "CLOSED",
            "total_fee": "100",
            "time_end": None,
        },
    }
    assert [order.out_trade_no for order in till.gateway.closed] == [number]
    assert await statuses(till) == {"cancelled": 1}
    assert till.store.events[-1].cause == "api anyone"


async def test_closing_a_closed_order_is_a_success_again(till):
    number = await till.create()
    first = await post(till, CLOSE + number)
    assert await post(till, CLOSE + number) == first
    assert (len(till.gateway.closed), len(till.store.events)) == (1, 2)


async def test_a_paid_order_is_not_closed(till):
    number = await till.paid()
    await refusal(await till.client.post(CLOSE + number), 409, "ORDER_PAID")
    assert (till.gateway.closed, await statuses(till)) == ([], {"paid": 1})


async def test_an_order_paid_meanwhile_at_wechat_is_paid_here_and_not_closed(till):
    number = await till.create()
    till.gateway.closing, till.gateway.word = ALREADY_PAID, word_of
    await refusal(await till.client.post(CLOSE + number), 409, "ORDER_PAID")
    assert await statuses(till) == {"paid": 1}


async def test_money_of_another_amount_found_while_closing_is_a_conflict(till):
    number = await till.create()
    till.gateway.closing, till.gateway.word = ALREADY_PAID, partial(word_of, total_fee=1)
    await refusal(await till.client.post(CLOSE + number), 409, "FEE_MISMATCH")
    assert await statuses(till) == {"pending": 1}


async def test_while_wechat_is_silent_the_order_stays_open(till):
    number = await till.create()
    till.gateway.closing = SILENCE
    await refusal(await till.client.post(CLOSE + number), 504, "WECHAT_NO_ANSWER")
    assert await statuses(till) == {"pending": 1}
    till.gateway.closing = NO_SUCH_ORDER
    till.gateway.word = SILENCE
    await refusal(await till.client.post(CLOSE + number), 504, "WECHAT_NO_ANSWER")
    assert await statuses(till) == {"pending": 1}


async def test_an_order_that_wechat_twice_does_not_know_is_closed(till):
    number = await till.create()
    till.gateway.closing = till.gateway.word = NO_SUCH_ORDER
    assert (await post(till, CLOSE + number))["data"]["trade_state"] == "CLOSED"
    assert (len(till.gateway.closed), len(till.gateway.queried)) == (1, 1)
    assert await statuses(till) == {"cancelled": 1}


async def test_wechats_refusal_to_close_is_told_in_its_words(till):
    number = await till.create()
    till.gateway.closing = Refused(
        meaning=Meaning.CONFIGURATION, err_code="SIGNERROR", description="签名错误"
    )
    till.gateway.word = partial(word_of, trade_state="NOTPAY")
    error = await refusal(await till.client.post(CLOSE + number), 502, "WECHAT_REFUSED")
    assert error["wechat"] == {"err_code": "SIGNERROR", "err_code_des": "签名错误", "request_id": ""}
    assert await statuses(till) == {"pending": 1}


async def test_a_failed_order_is_closed_after_all(till):
    till.gateway.answer = Refused(meaning=Meaning.BAD_REQUEST, err_code="PARAM_ERROR")
    async with till.client.post("/api/wechat/pay/create", json={"openid": "o1", "total_fee": 1, "body": "t"}):
        number = till.gateway.placed[0].out_trade_no
    assert (await post(till, CLOSE + number))["data"]["trade_state"] == "CLOSED"


@pytest.mark.parametrize("path", [CLOSE, PAY])
@pytest.mark.parametrize("number", STRANGE_NUMBERS)
async def test_what_is_no_order_of_ours_is_not_found(till, path, number):
    from yarl import URL

    await refusal(await till.client.post(URL(path + number, encoded=True)), 404, "ORDER_NOT_FOUND")
    assert (till.gateway.closed, till.gateway.placed) == ([], [])


# -- pay again (R12) -------------------------------------------------------------------------


@pytest.fixture
def long_order(till, runner):
    """The number of an order that can be paid for a day; each call to place it gives another prepay_id."""
    till.gateway.answer = lambda _order: Prepared(prepay_id=f"wx{len(till.gateway.placed)}")
    return runner.run(till.create(expire_minutes=24 * 60))


def package(answer):
    return answer["data"]["pay_params"]["package"]


async def test_a_payer_who_comes_back_soon_pays_by_the_same_prepay_id(till, long_order):
    """R12: nothing is asked of WeChat while the prepay_id lives."""
    till.now += PREPAY_TTL - INSTANT
    answer = await post(till, PAY + long_order)
    assert set(answer["data"]) == {"out_trade_no", "pay_params"}
    assert (answer["data"]["out_trade_no"], package(answer)) == (long_order, "prepay_id=wx1")
    assert (len(till.gateway.placed), len(till.store.events)) == (1, 1)


async def test_after_two_hours_the_identical_order_gives_a_fresh_prepay_id(till, long_order):
    """R12: the same number, and no parameter of it changed."""
    till.now += PREPAY_TTL
    assert package(await post(till, PAY + long_order)) == "prepay_id=wx2"
    assert package(await post(till, PAY + long_order)) == "prepay_id=wx2"
    first, second = till.gateway.placed
    assert evolve(second, version=0, prepay_id="", prepaid_at=None) == first


async def test_an_order_wechat_gave_no_answer_to_goes_on_under_its_number(till):
    till.gateway.answer = SILENCE
    answer = await till.client.post(
        "/api/wechat/pay/create", json={"openid": "o1", "total_fee": 1, "body": "t"}
    )
    await refusal(answer, 504, "WECHAT_NO_ANSWER")
    number = till.gateway.placed[0].out_trade_no
    await refusal(await till.client.post(PAY + number), 504, "WECHAT_NO_ANSWER")
    till.gateway.answer = Prepared(prepay_id="wx3")
    assert package(await post(till, PAY + number)) == "prepay_id=wx3"
    assert [order.out_trade_no for order in till.gateway.placed] == [number] * 3


async def test_a_paid_order_is_not_paid_again(till):
    number = await till.paid()
    await refusal(await till.client.post(PAY + number), 409, "ORDER_PAID")


async def test_an_ended_order_is_not_paid_any_more(till):
    number = await till.create()
    await post(till, CLOSE + number)
    await refusal(await till.client.post(PAY + number), 409, "ORDER_ENDED")
    late = await till.create(expire_minutes=5)
    till.now += timedelta(minutes=5)
    await refusal(await till.client.post(PAY + late), 409, "ORDER_ENDED")
    assert len(till.gateway.placed) == 2


@pytest.mark.parametrize(
    ("word", "told", "then"),
    [
        (word_of, (409, "ORDER_PAID"), "paid"),
        (partial(word_of, trade_state="CLOSED"), (409, "ORDER_ENDED"), "cancelled"),
        (partial(word_of, trade_state="NOTPAY"), (502, "WECHAT_REFUSED"), "pending"),
        (partial(word_of, transaction_id=""), (409, "TRADE_CONFLICT"), "pending"),
        (partial(word_of, mch_id="1"), (409, "PAYEE_MISMATCH"), "pending"),
        (SILENCE, (502, "WECHAT_REFUSED"), "pending"),
    ],
)
async def test_when_wechat_will_not_renew_it_is_asked_why(till, long_order, word, told, then):
    till.now += PREPAY_TTL
    till.gateway.answer, till.gateway.word = ALREADY_PAID, word
    await refusal(await till.client.post(PAY + long_order), *told)
    assert await statuses(till) == {then: 1}


# -- numbers in a query ----------------------------------------------------------------------


@pytest.mark.parametrize("path", [ORDERS + "o1", REFUNDS, WEBHOOKS])
@pytest.mark.parametrize(
    "limit", ["5.0", "1e1", "0.5e1", "+5", " 5", "05", "-0", "0", "101", "five", "", "5,6", "true"]
)
async def test_a_limit_is_a_whole_number_written_plainly(till, path, limit):
    await refusal(await till.client.get(path, params={"limit": limit}), 400, "BAD_REQUEST", "limit")


@pytest.mark.parametrize("path", [ORDERS + "o1", REFUNDS, WEBHOOKS])
@pytest.mark.parametrize("limit", ["1", "20", "100"])
async def test_a_limit_from_one_to_a_hundred_is_taken(till, path, limit):
    async with till.client.get(path, params={"limit": limit}) as answer:
        assert (answer.status, (await answer.json())["data"]) == (200, [])


async def test_a_number_made_of_digits_is_still_a_name(till):
    """What looks like a number elsewhere in the query is no number."""
    await refusal(await till.client.get(QUERY + "1703123456"), 404, "ORDER_NOT_FOUND")
    answer = await till.client.get(ORDERS + "007", params={"cursor": "1e1"})
    await refusal(answer, 400, "CURSOR_INVALID", "cursor")


# -- the routes themselves -------------------------------------------------------------------

ROUTES = (
    *OrderLifeApi(None, None, None).routes(),
    *RefundApi(None).routes(),
    *LetterApi(None, None).routes(),
)
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")


@each_route
def test_a_route_says_who_may_call_and_what_it_refuses_with(route):
    assert not route.who & OPEN
    codes = [kind.code for kind in route.all_refusals]
    assert len(codes) == len(set(codes))
    assert set(codes) <= set(MESSAGE)
    assert "STORE_UNAVAILABLE" in codes


@each_route
def test_the_shapes_of_a_route_can_be_described(route):
    shapes = [shape for shape in (route.body, route.parameters, route.answer) if shape]
    _, schemas = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    assert all(schema.get("properties") or schema.get("enum") for schema in schemas.values())


def test_the_shapes_describe_the_rules_of_the_domain():
    (ask,) = [route.body for route in ROUTES if route.body]
    _, schemas = msgspec.json.schema_components([ask])
    described = schemas["AskRefund"]
    assert (described["required"], described["additionalProperties"]) == (["out_trade_no"], False)
    assert set(described["properties"]) == {"out_trade_no", "refund_fee", "reason", "out_refund_no"}
    number = next(one for one in described["properties"]["out_refund_no"]["anyOf"] if one["type"] == "string")
    assert number["pattern"] == "^[0-9A-Za-z_\\-|*@]{1,64}$"
