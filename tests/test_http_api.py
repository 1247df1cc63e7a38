"""The calls of existing mini-programs, over real HTTP: exactly their shapes."""

import re
from datetime import UTC, datetime, timedelta
from itertools import chain

import msgspec
import pytest

from adapters.http.api import PaymentApi
from adapters.http.cursor import read_cursor, write_cursor
from adapters.http.errors import InvalidCursor
from application.errors import StoreUnavailable
from application.ports import Meaning, Position, Refused, Unknown
from domain.trade import Trade, TradeState
from tests.http_till import CREATE, ORDERS, PAY_PARAMS, QUERY, STATS, TEA, Till, refusal


@pytest.fixture
def till(runner):
    till = runner.run(Till().open())
    yield till
    runner.run(till.close())


async def get(till, path, **query):
    async with till.client.get(path, params=query) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


# -- create ----------------------------------------------------------------------------------


async def test_create_answers_the_number_and_the_parameters_of_request_payment(till):
    answer = await till.client.post(CREATE, json=TEA)
    assert answer.status == 200
    assert await answer.json() == {
        "success": True,
        "data": {"out_trade_no": "PAY17031234560000000001", "pay_params": PAY_PARAMS},
    }


async def test_an_order_is_what_was_asked_for(till):
    await till.client.post(CREATE, json=TEA | {"expire_minutes": 5})
    (order,) = till.gateway.placed
    assert (order.openid, order.total_fee, order.body, order.attach) == tuple(TEA.values())
    assert order.expires_at == till.now.replace(microsecond=0) + timedelta(minutes=5)
    assert order.placement.client_ip == "127.0.0.1"
    assert [event.cause for event in till.store.events] == ["api anyone"]


@pytest.mark.parametrize("left_out", [{}, {"attach": None, "expire_minutes": None}, {"attach": ""}])
async def test_optional_fields_may_be_left_out_or_null(till, left_out):
    await till.client.post(CREATE, json={"openid": "o1", "total_fee": 1, "body": "tea"} | left_out)
    (order,) = till.gateway.placed
    assert (order.attach, order.expires_at - till.now.replace(microsecond=0)) == ("", timedelta(minutes=30))


@pytest.mark.parametrize("total_fee", [1, 1_000_000])
async def test_both_ends_of_the_fee_are_allowed(till, total_fee):
    number = await till.create(total_fee=total_fee)
    assert (await till.store.get(number)).total_fee == total_fee


async def test_wechats_refusal_is_told_in_wechats_words_and_recorded(till):
    till.gateway.answer = Refused(
        meaning=Meaning.CONFIGURATION,
        err_code="APPID_MCHID_NOT_MATCH",
        description="appid和mch_id不匹配",
        request_id="08F78BB5AF0610D302",
        explanation="bind them in the merchant platform",
    )
    error = await refusal(await till.client.post(CREATE, json=TEA), 502, "WECHAT_REFUSED")
    assert error["wechat"] == {
        "err_code": "APPID_MCHID_NOT_MATCH",
        "err_code_des": "appid和mch_id不匹配",
        "request_id": "08F78BB5AF0610D302",
    }
    assert (await get(till, STATS))["data"]["failed"] == 1


async def test_wechats_silence_is_no_refusal(till):
    till.gateway.answer = Unknown(why="no answer within 5 s")
    error = await refusal(await till.client.post(CREATE, json=TEA), 504, "WECHAT_NO_ANSWER")
    assert "wechat" not in error
    assert (await get(till, STATS))["data"]["pending"] == 1


# -- query -----------------------------------------------------------------------------------


async def test_an_unpaid_order_has_no_transaction_and_no_time(till):
    number = await till.create()
    assert await get(till, QUERY + number) == {
        "success": True,
        "data": {
            "out_trade_no": number,
            "transaction_id": None,
            "trade_state": "NOTPAY",
            "total_fee": "100",
            "time_end": None,
        },
    }


async def test_a_paid_order_is_told_as_wechat_v2_prints_it(till):
    number = await till.create()
    await till.pay(number)
    assert (await get(till, QUERY + number))["data"] == {
        "out_trade_no": number,
        "transaction_id": "4200001234202312211234567890",
        "trade_state": "SUCCESS",
        "total_fee": "100",
        "time_end": "20231221123508",
    }


@pytest.mark.parametrize(
    "number", ["PAY17031234560000000009", "short", "a" * 33, "a%2Fb%2Fcdef", "PAY123%0A"]
)
async def test_an_unknown_number_is_not_found(till, number):
    from yarl import URL

    answer = await till.client.get(URL(QUERY + number, encoded=True))
    await refusal(answer, 404, "ORDER_NOT_FOUND")
    assert till.gateway.queried == []


async def test_a_word_of_wechats_that_contradicts_us_is_a_conflict_and_changes_nothing(till, caplog):
    number = await till.create()
    till.gateway.word = Trade(
        out_trade_no=number, trade_state=TradeState.SUCCESS, total_fee=1, transaction_id="42"
    )
    await refusal(await till.client.get(QUERY + number), 409, "FEE_MISMATCH")
    assert (await get(till, STATS))["data"]["paid"] == 0
    (alarm,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert f"FEE_MISMATCH: {number}: ours 100 fen, WeChat's 1 CNY" in alarm.getMessage()


async def test_a_store_that_does_not_answer_is_said_to_be_unavailable_for_now(till, monkeypatch):
    async def broken(*_):
        raise StoreUnavailable("disk full: /var/lib/till.db")

    monkeypatch.setattr("adapters.store.memory.MemoryStore.save", broken)
    answer = await till.client.post(CREATE, json=TEA)
    await refusal(answer, 503, "STORE_UNAVAILABLE")
    assert answer.headers["Retry-After"] == "5"
    assert "disk" not in await answer.text()


# -- orders ----------------------------------------------------------------------------------


async def test_a_payers_orders_are_listed_newest_first(till):
    first = await till.create()
    await till.pay(first)
    till.now += timedelta(hours=12)
    second = await till.create(body="红茶", total_fee=250)
    await till.create(openid="someone-else")
    assert await get(till, ORDERS + TEA["openid"]) == {
        "success": True,
        "data": [
            {
                "out_trade_no": second,
                "total_fee": 250,
                "body": "红茶",
                "status": "PENDING",
                "create_time": "2023-12-22T00:34:56",
                "time_end": None,
            },
            {
                "out_trade_no": first,
                "total_fee": 100,
                "body": "绿茶",
                "status": "PAID",
                "create_time": "2023-12-21T12:34:56",
                "time_end": "20231221123508",
            },
        ],
        "next_cursor": None,
    }


async def test_a_payer_without_orders_has_an_empty_list(till):
    assert await get(till, ORDERS + "nobody") == {"success": True, "data": [], "next_cursor": None}


async def test_pages_follow_each_other_without_gap_or_repeat(till):
    numbers = []
    for place in range(7):  # some of them in the same microsecond
        till.now += timedelta(microseconds=place % 2)
        numbers.append(await till.create())
    seen, query = [], {"limit": "3"}
    while True:
        page = await get(till, ORDERS + TEA["openid"], **query)
        seen.append([order["out_trade_no"] for order in page["data"]])
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert [len(page) for page in seen] == [3, 3, 1]
    assert list(chain.from_iterable(seen)) == numbers[::-1]


async def test_twenty_orders_are_a_page_unless_asked_otherwise(till):
    for _ in range(21):
        await till.create()
    assert len((await get(till, ORDERS + TEA["openid"]))["data"]) == 20
    assert len((await get(till, ORDERS + TEA["openid"], limit="100"))["data"]) == 21


async def test_a_list_can_be_of_one_status(till):
    paid, _ = await till.create(), await till.create()
    await till.pay(paid)
    page = await get(till, ORDERS + TEA["openid"], status="PAID")
    assert [order["out_trade_no"] for order in page["data"]] == [paid]


async def test_query_parameters_we_do_not_know_are_ignored(till):
    page = await get(till, ORDERS + TEA["openid"], _="1703123456", openid="someone-else")
    assert page["data"] == []
    await till.create()
    assert len((await get(till, ORDERS + TEA["openid"], openid="someone-else"))["data"]) == 1


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        *[
            ({"limit": limit}, "BAD_REQUEST", "limit")
            for limit in ("0", "101", "-1", "ten", "", "1.5", "9" * 40)
        ],
        *[({"status": status}, "BAD_REQUEST", "status") for status in ("paid", "NOTPAY", "", "null")],
        *[
            ({"cursor": cursor}, "CURSOR_INVALID", "cursor")
            for cursor in ("", "x", "!", "é", "MQ", "A" * 999)
        ],
    ],
)
async def test_a_bad_list_parameter_is_named(till, query, code, field):
    await refusal(await till.client.get(ORDERS + "o1", params=query), 400, code, field)


async def test_what_is_no_openid_is_refused(till):
    for openid in ("a b", "a" * 129, "中", "a%0A"):
        await refusal(await till.client.get(ORDERS + openid), 400, "OPENID_INVALID", "openid")


def test_a_cursor_is_read_back_exactly_and_only_as_written():
    position = Position(datetime(2038, 1, 19, 3, 14, 7, 999_999, tzinfo=UTC), "PAY17031234560000000001")
    cursor = write_cursor(position)
    assert read_cursor(cursor) == position
    for other in (cursor + "=", cursor + "A", cursor[:-1], " " + cursor, cursor.lower()):
        with pytest.raises(InvalidCursor):
            read_cursor(other)


# -- stats -----------------------------------------------------------------------------------


async def test_stats_count_every_status(till):
    paid, pending = await till.create(), await till.create()
    await till.pay(paid)
    till.gateway.answer = Refused(meaning=Meaning.BAD_REQUEST, err_code="PARAM_ERROR")
    await till.client.post(CREATE, json=TEA)
    assert pending
    assert await get(till, STATS) == {
        "success": True,
        "data": {"total": 3, "pending": 1, "paid": 1, "cancelled": 0, "failed": 1, "refunded": 0},
    }


# -- the shapes themselves -------------------------------------------------------------------


def test_the_shapes_that_check_requests_can_describe_them():
    routes = PaymentApi(None).routes()
    shapes = [shape for route in routes for shape in (route.body, route.parameters, route.answer) if shape]
    _, schemas = msgspec.json.schema_components(shapes)
    create = schemas["CreateOrder"]
    assert set(create["required"]) == {"openid", "total_fee", "body"}
    assert create["additionalProperties"] is False
    assert (create["properties"]["total_fee"]["minimum"], create["properties"]["total_fee"]["maximum"]) == (
        1,
        1_000_000,
    )
    for schema in (create["properties"]["openid"], schemas["OneOrder"]["properties"]["out_trade_no"]):
        assert re.match(schema["pattern"], "PAY17031234560000000001")
        assert schema["pattern"].startswith("^[")
        assert schema["pattern"].endswith("}$")  # JSON Schema has no \Z
