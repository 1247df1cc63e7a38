"""Refunds over real HTTP: promised first, then carried, and never under a second number (R34–R40)."""

import json
import logging
from datetime import timedelta
from functools import partial

import pytest
from attrs import evolve
from yarl import URL

from application.ports import Meaning, Refused, Unknown
from domain.refund import REFUND_WINDOW
from tests.http_till import QUERY, REFUND, REFUNDS, Till, refusal, report

SILENCE = Unknown(why="no answer within 5 s")
NO_SUCH_REFUND = Refused(meaning=Meaning.NO_SUCH_REFUND, err_code="REFUNDNOTEXIST")
TOO_OLD = Refused(
    meaning=Meaning.TOO_LATE, err_code="TRADE_OVERDUE", description="订单已经超过退款期限", request_id="08F7"
)
SHORT = Refused(meaning=Meaning.NOT_ENOUGH, err_code="NOTENOUGH", description="余额不足")
ABNORMAL = partial(report, refund_status="ABNORMAL")
SUCCESS = partial(report, refund_status="SUCCESS")


@pytest.fixture
def till(runner):
    till = runner.run(Till().open())
    yield till
    runner.run(till.close())


@pytest.fixture
def paid(till, runner):
    """The number of a paid order of 100 fen."""
    return runner.run(till.paid())


async def ask(till, out_trade_no, **wish):
    async with till.client.post(REFUND, json={"out_trade_no": out_trade_no} | wish) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["data"]


async def ask_in_vain(till, out_trade_no, **wish):
    return await till.client.post(REFUND, json={"out_trade_no": out_trade_no} | wish)


async def found(till, out_refund_no):
    """The refund as a query answers it, when WeChat may be asked again."""
    till.now += timedelta(seconds=2)
    async with till.client.get(f"{REFUND}/{out_refund_no}") as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["data"]


# -- asking ----------------------------------------------------------------------------------


async def test_a_refund_is_of_all_that_is_left_unless_told_otherwise(till, paid):
    answer = await till.client.post(REFUND, json={"out_trade_no": paid})
    number = till.gateway.carried[0].out_refund_no
    assert (answer.status, number[:3]) == (200, "REF")
    assert await answer.json() == {
        "success": True,
        "data": {
            "out_refund_no": number,
            "out_trade_no": paid,
            "refund_id": "50300806962023122100000000001",
            "status": "PROCESSING",
            "refund_fee": 100,
            "reason": "",
            "create_time": "2023-12-21T12:34:56",
            "success_time": None,
            "failure": "",
        },
    }
    (refund,) = till.gateway.carried
    assert (refund.refund_fee, till.store.events[-1].cause) == (100, "api anyone")


async def test_parts_are_refunded_until_nothing_is_left(till, paid):
    assert (await ask(till, paid, refund_fee=30, reason="少一杯"))["reason"] == "少一杯"
    assert (await ask(till, paid, refund_fee=50, out_refund_no=None, reason=None))["refund_fee"] == 50
    await refusal(await ask_in_vain(till, paid, refund_fee=21), 409, "REFUND_EXCEEDS_PAYMENT")
    assert (await ask(till, paid))["refund_fee"] == 20
    await refusal(await ask_in_vain(till, paid), 409, "REFUND_NOT_ALLOWED")
    await refusal(await ask_in_vain(till, paid, refund_fee=1), 409, "REFUND_EXCEEDS_PAYMENT")
    assert [refund.refund_fee for refund in till.gateway.carried] == [30, 50, 20]


async def test_the_same_number_again_is_the_same_refund(till, paid):
    """R34: a repeat is never a second refund."""
    first = await ask(till, paid, refund_fee=30, out_refund_no="R|1*@_-")
    assert await ask(till, paid, refund_fee=30, out_refund_no="R|1*@_-") == first
    assert await ask(till, paid, out_refund_no="R|1*@_-") == first
    order = await till.store.get(paid)
    assert (len(order.refunds), order.refundable_fee) == (1, 70)
    assert {refund.out_refund_no for refund in till.gateway.carried} == {"R|1*@_-"}


async def test_the_same_number_for_another_amount_or_order_is_refused(till, paid):
    await ask(till, paid, refund_fee=30, out_refund_no="R1")
    await refusal(
        await ask_in_vain(till, paid, refund_fee=31, out_refund_no="R1"), 409, "REFUND_NUMBER_REUSED"
    )
    other = await till.paid()
    answer = await ask_in_vain(till, other, refund_fee=30, out_refund_no="R1")
    await refusal(answer, 409, "REFUND_NUMBER_REUSED")
    assert len(till.gateway.carried) == 1


async def test_an_unpaid_order_has_nothing_to_refund(till):
    number = await till.create()
    await refusal(await ask_in_vain(till, number), 409, "REFUND_NOT_ALLOWED")
    assert till.gateway.carried == []


async def test_a_payment_of_over_a_year_ago_is_not_refunded(till, paid):
    """R37."""
    till.now += REFUND_WINDOW + timedelta(seconds=13)  # it was paid twelve seconds after it was made
    await refusal(await ask_in_vain(till, paid), 409, "REFUND_TOO_LATE")


async def test_an_order_has_fifty_refunds_at_most(till, paid):
    """R36."""
    for _ in range(50):
        await ask(till, paid, refund_fee=1)
    await refusal(await ask_in_vain(till, paid, refund_fee=1), 409, "TOO_MANY_REFUNDS")


@pytest.mark.parametrize(
    "number", ["PAY17031234560000000009", "", "中", "a" * 33, "a\nb caller=root", "\0" * 6]
)
async def test_an_order_we_do_not_have_is_not_refunded(till, caplog, number):
    caplog.set_level(logging.INFO, "minitill.http")
    await refusal(await ask_in_vain(till, number), 404, "ORDER_NOT_FOUND")
    assert "root" not in caplog.text


@pytest.mark.parametrize(
    ("wish", "code", "field"),
    [
        *[({"refund_fee": fee}, "FEE_INVALID", "refund_fee") for fee in (True, 1.0, 1e2, 0.5, "100", [], {})],
        *[
            ({"refund_fee": fee}, "FEE_OUT_OF_RANGE", "refund_fee")
            for fee in (0, -1, 1_000_001, 2**63, 10**30)
        ],
        *[
            ({"out_refund_no": number}, "REFUND_NO_INVALID", "out_refund_no")
            for number in ("", "a b", "退", "a/b", "R1\n", "R" * 65)
        ],
        *[
            ({"reason": reason}, "REASON_INVALID", "reason")
            for reason in ("退" * 27, "\0", "\x1b[2J", "a" * 81)
        ],
        ({"reason": 1}, "BAD_REQUEST", "reason"),
        ({"out_refund_no": 1}, "BAD_REQUEST", "out_refund_no"),
        ({"out_trade_no": None}, "BAD_REQUEST", "out_trade_no"),
        ({"total_fee": 1}, "BAD_REQUEST", "total_fee"),
    ],
)
async def test_a_wish_no_refund_can_have_is_refused_by_name(till, paid, wish, code, field):
    answer = await till.client.post(REFUND, json={"out_trade_no": paid} | wish)
    await refusal(answer, 400, code, field)
    assert (till.gateway.carried, (await till.store.get(paid)).refunds) == ([], ())


async def test_a_refund_of_no_order_at_all_is_refused(till):
    await refusal(await till.client.post(REFUND, json={}), 400, "BAD_REQUEST", "out_trade_no")
    await refusal(await till.client.post(REFUND, data=b"{"), 415, "UNSUPPORTED_MEDIA_TYPE")
    headers = {"Content-Type": "application/json"}
    await refusal(await till.client.post(REFUND, data=b"{", headers=headers), 400, "BAD_JSON")


# -- what WeChat makes of it -----------------------------------------------------------------


async def test_while_wechat_is_silent_the_refund_is_under_way(till, paid):
    """R34: what is unknown is carried again under its number, and never refused."""
    till.gateway.refunding = SILENCE
    first = await ask(till, paid, out_refund_no="R1")
    assert (first["status"], first["refund_id"]) == ("PROCESSING", None)
    till.gateway.refunding = report
    assert (await ask(till, paid, out_refund_no="R1"))["refund_id"] == "50300806962023122100000000001"
    assert [refund.out_refund_no for refund in till.gateway.carried] == ["R1", "R1"]


async def test_a_short_balance_leaves_the_refund_under_way(till, paid):
    till.gateway.refunding = SHORT
    assert (await ask(till, paid))["status"] == "PROCESSING"


async def test_a_definite_refusal_is_told_in_wechats_words_and_frees_the_money(till, paid):
    till.gateway.refunding, till.gateway.refund_word = TOO_OLD, NO_SUCH_REFUND
    error = await refusal(await ask_in_vain(till, paid, out_refund_no="R1"), 502, "WECHAT_REFUSED")
    assert error["wechat"] == {
        "err_code": "TRADE_OVERDUE",
        "err_code_des": "订单已经超过退款期限",
        "request_id": "08F7",
    }
    closed = await found(till, "R1")
    assert (closed["status"], closed["failure"]) == ("CLOSED", "TRADE_OVERDUE 订单已经超过退款期限")
    assert (await till.store.get(paid)).refundable_fee == 100
    assert await ask(till, paid, out_refund_no="R1") == closed
    till.gateway.refunding = report
    assert (await ask(till, paid))["status"] == "PROCESSING"


async def test_a_refusal_that_speaks_of_a_repeat_alone_is_none(till, paid):
    """R34: the first call arrived, its answer was lost; the query knows."""
    till.gateway.refunding, till.gateway.refund_word = TOO_OLD, SUCCESS
    assert (await ask(till, paid))["status"] == "SUCCESS"


async def test_a_word_on_the_refund_that_contradicts_us_is_a_conflict(till, paid):
    till.gateway.refunding = lambda order, refund: evolve(report(order, refund), refund_fee=7)
    await refusal(await ask_in_vain(till, paid, out_refund_no="R1"), 409, "REFUND_CONFLICT")
    till.gateway.refund_word = till.gateway.refunding
    await refusal(await till.client.get(f"{REFUND}/R1"), 409, "REFUND_CONFLICT")


async def test_a_refusal_of_a_refund_is_logged_under_its_order(till, paid, caplog):
    caplog.set_level(logging.INFO, "minitill.http")
    till.gateway.refunding, till.gateway.refund_word = TOO_OLD, NO_SUCH_REFUND
    await ask_in_vain(till, paid, out_refund_no="R1")
    (line,) = [record for record in caplog.records if record.levelname == "INFO"]
    assert (line.code, line.out_trade_no) == ("WECHAT_REFUSED", paid)


# -- looking ---------------------------------------------------------------------------------


async def test_a_finished_refund_has_its_time_and_makes_the_order_refunded(till, paid):
    await ask(till, paid, out_refund_no="R1", reason="退一杯")
    till.now += timedelta(minutes=3, seconds=4)
    till.gateway.refund_word = SUCCESS
    assert await found(till, "R1") == {
        "out_refund_no": "R1",
        "out_trade_no": paid,
        "refund_id": "50300806962023122100000000001",
        "status": "SUCCESS",
        "refund_fee": 100,
        "reason": "退一杯",
        "create_time": "2023-12-21T12:34:56",
        "success_time": "2023-12-21T12:38:02",
        "failure": "",
    }
    async with till.client.get(QUERY + paid) as answer:
        assert (await answer.json())["data"]["trade_state"] == "REFUND"
    await refusal(await ask_in_vain(till, paid), 409, "REFUND_NOT_ALLOWED")


@pytest.mark.parametrize("word", [SILENCE, NO_SUCH_REFUND])
async def test_what_we_hold_is_the_answer_while_wechat_tells_nothing(till, paid, word):
    await ask(till, paid, out_refund_no="R1")
    till.gateway.refund_word = word
    assert (await found(till, "R1"))["status"] == "PROCESSING"


async def test_a_number_may_have_every_character_that_wechat_takes(till, paid):
    number = "Ab0_-|*@"
    await ask(till, paid, out_refund_no=number)
    url = URL(f"{REFUND}/Ab0_-%7C%2A%40", encoded=True)
    async with till.client.get(url) as answer:
        assert (await answer.json())["data"]["out_refund_no"] == number


@pytest.mark.parametrize("number", ["REF1", "a%20b", "R" * 65, "%E9%80%80", "a%2Fb", "R%0A"])
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("POST", "/recover")])
async def test_an_unknown_refund_is_not_found(till, number, method, rest):
    url = URL(f"{REFUND}/{number}{rest}", encoded=True)
    await refusal(await till.client.request(method, url), 404, "REFUND_NOT_FOUND")


# -- the operator ----------------------------------------------------------------------------


@pytest.fixture
def stuck(till, paid, runner):
    """Two refunds of one order: R1 is ABNORMAL, R2 under way."""
    till.gateway.refunding = ABNORMAL
    runner.run(ask(till, paid, refund_fee=30, out_refund_no="R1"))
    till.gateway.refunding = report
    runner.run(ask(till, paid, refund_fee=20, out_refund_no="R2"))


async def listed(till, **query):
    async with till.client.get(REFUNDS, params=query) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["data"]


async def test_abnormal_refunds_are_listed_for_the_operator(till, paid, stuck):
    """R39."""
    assert await listed(till) == [
        {
            "out_refund_no": "R1",
            "out_trade_no": paid,
            "refund_id": "50300806962023122100000000001",
            "status": "ABNORMAL",
            "refund_fee": 30,
            "reason": "",
            "create_time": "2023-12-21T12:34:56",
            "success_time": None,
            "failure": "",
        }
    ]


async def test_refunds_of_any_status_are_listed_newest_first(till, paid, stuck):
    till.now += timedelta(seconds=1)
    await ask(till, paid, refund_fee=1, out_refund_no="R3")
    assert [one["out_refund_no"] for one in await listed(till, status="PROCESSING")] == ["R3", "R2"]
    assert [one["out_refund_no"] for one in await listed(till, status="PROCESSING", limit="1")] == ["R3"]
    assert await listed(till, status="SUCCESS") == []


@pytest.mark.parametrize("status", ["abnormal", "", "PAID", "null"])
async def test_a_status_that_no_refund_has_is_refused(till, status):
    answer = await till.client.get(REFUNDS, params={"status": status})
    await refusal(answer, 400, "BAD_REQUEST", "status")


async def test_the_operator_sends_an_abnormal_refund_on(till, stuck):
    """R39."""
    till.gateway.recovery = SUCCESS
    async with till.client.post(f"{REFUND}/R1/recover") as answer:
        assert (answer.status, (await answer.json())["data"]["status"]) == (200, "SUCCESS")
    assert [refund.out_refund_no for refund in till.gateway.recovered] == ["R1"]
    assert await listed(till) == []


async def test_only_an_abnormal_refund_is_sent_on(till, stuck):
    await refusal(await till.client.post(f"{REFUND}/R2/recover"), 409, "REFUND_NOT_ALLOWED")
    assert till.gateway.recovered == []


@pytest.mark.parametrize(
    ("recovery", "told"),
    [
        (SILENCE, (504, "WECHAT_NO_ANSWER")),
        (SHORT, (502, "WECHAT_REFUSED")),
        (lambda order, refund: evolve(ABNORMAL(order, refund), refund_id="51"), (409, "REFUND_CONFLICT")),
    ],
)
async def test_an_abnormal_refund_that_could_not_be_sent_on_stays_listed(till, stuck, recovery, told):
    till.gateway.recovery = recovery
    await refusal(await till.client.post(f"{REFUND}/R1/recover"), *told)
    assert [one["status"] for one in await listed(till)] == ["ABNORMAL"]


async def test_amounts_are_written_as_integers(till, paid):
    answer = await ask_in_vain(till, paid, refund_fee=7)
    assert b'"refund_fee":7,' in await answer.read()
    assert json.loads(await answer.read())["data"]["refund_fee"] == 7
