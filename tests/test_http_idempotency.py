"""Idempotency-Key over real HTTP: the same key and body get the same bytes, and nothing happens twice."""

import asyncio
import json
import logging
import re
from collections import deque
from datetime import timedelta
from itertools import count

import pytest
from attrs import Factory, define, evolve

from adapters.http.routes import Caller, Who, open_door
from adapters.store.sqlite import SqliteStore
from application.errors import StoreUnavailable
from application.ports import Meaning, Prepared, Refused, Unknown
from domain.trade import Trade, TradeState
from tests.access_till import SHOP, quote
from tests.http_till import CLOSE, CREATE, PAY_PARAMS, REFUND, TEA, ScriptedGateway, Till, refusal

SILENCE = Unknown(why="no answer within 5 s")
TAKEN = Prepared(prepay_id="wx1")
NO_RIGHTS = Refused(meaning=Meaning.CONFIGURATION, err_code="NOAUTH", description="商户无权限")
NO_SUCH_REFUND = Refused(meaning=Meaning.NO_SUCH_REFUND, err_code="REFUNDNOTEXIST")
TAPS = 50


@define
class FreshGateway(ScriptedGateway):
    """Signs each pay_params anew, as the real one does, and lets prepay calls wait at a gate."""

    nonces: count = Factory(count)
    gate: asyncio.Event = None

    async def prepay(self, order):
        answer = await super().prepay(order)
        if self.gate:
            await self.gate.wait()
        return answer

    async def pay_params(self, order, now):
        return await super().pay_params(order, now) | {"nonceStr": f"nonce {next(self.nonces)}"}


async def named_guard(request, _route):
    """Who calls is what they say: `payer o1`, `backend shop`."""
    kind, name = request.headers.get("Authorization", "backend shop").split()
    who = Who[kind.upper()]
    return Caller(
        kind=who, name="payer" if who is Who.PAYER else name, openid=name if who is Who.PAYER else None
    )


@pytest.fixture
def till(runner):
    till = runner.run(Till(gateway=FreshGateway(), quote_secrets=(SHOP,)).open(guard=named_guard))
    yield till
    runner.run(till.close())


@pytest.fixture
def paid(till, runner):
    """The number of a paid order of 100 fen."""
    return runner.run(till.paid())


async def post(till, path, body, key="k1", **headers):
    """Status and exact bytes of the answer."""
    async with till.client.post(path, json=body, headers={"Idempotency-Key": key} | headers) as answer:
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        return answer.status, await answer.read()


def code(answer):
    status, body = answer
    return status, json.loads(body)["error"]["code"]


def number(answer):
    status, body = answer
    assert status == 200, body
    return json.loads(body)["data"]["out_trade_no"]


# -- the same again --------------------------------------------------------------------------


async def test_the_same_create_again_is_the_same_answer_to_the_byte(till):
    first = await post(till, CREATE, TEA)
    till.now += timedelta(hours=23)
    assert await post(till, CREATE, TEA) == first
    assert json.loads(first[1]) == {
        "success": True,
        "data": {
            "out_trade_no": "PAY17031234560000000001",
            "pay_params": PAY_PARAMS | {"nonceStr": "nonce 0"},
        },
    }
    assert (len(till.gateway.placed), len(till.store.rows)) == (1, 1)


async def test_json_written_another_way_is_the_same_body(till):
    first = await post(till, CREATE, TEA)
    other = json.dumps(dict(reversed(TEA.items())) | {"expire_minutes": None}, indent=2, ensure_ascii=True)
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k1"}
    async with till.client.post(CREATE, data=other, headers=headers) as answer:
        assert (answer.status, await answer.read()) == first


async def test_the_same_refund_again_is_the_same_answer_to_the_byte(till, paid):
    wish = {"out_trade_no": paid, "refund_fee": 30}
    first = await post(till, REFUND, wish)
    till.gateway.refund_word = till.gateway.refunding = SILENCE
    till.now += timedelta(hours=23)
    assert await post(till, REFUND, wish) == first
    assert (first[0], json.loads(first[1])["data"]["refund_fee"]) == (200, 30)
    order = await till.store.get(paid)
    assert (len(till.gateway.carried), order.refundable_fee) == (1, 70)


async def test_without_a_key_or_number_each_refund_is_a_refund(till, paid):
    for _ in range(2):
        async with till.client.post(REFUND, json={"out_trade_no": paid, "refund_fee": 30}) as answer:
            assert answer.status == 200
    assert (await till.store.get(paid)).refundable_fee == 40


async def test_a_refusal_of_wechats_is_repeated_to_the_byte(till, paid, caplog):
    caplog.set_level(logging.INFO, "minitill.http")
    till.gateway.answer = NO_RIGHTS
    till.gateway.refunding = evolve(NO_RIGHTS, meaning=Meaning.PAYER)
    till.gateway.refund_word = NO_SUCH_REFUND
    wish = {"out_trade_no": paid}
    placed, refunded = await post(till, CREATE, TEA), await post(till, REFUND, wish, "k2")
    assert code(placed) == code(refunded) == (502, "WECHAT_REFUSED")
    assert json.loads(placed[1])["error"]["wechat"]["err_code_des"] == "商户无权限"
    till.gateway.answer = till.gateway.refunding = TAKEN
    assert await post(till, CREATE, TEA) == placed
    assert await post(till, REFUND, wish, "k2") == refunded
    assert (len(till.gateway.placed), len(till.gateway.carried)) == (2, 1)
    lines = [record.getMessage() for record in caplog.records]
    assert [record.code for record in caplog.records if record.levelname == "INFO"] == ["WECHAT_REFUSED"] * 4
    assert [bool(re.search(r"NOAUTH 商户无权限, as first answered to \w+", line)) for line in lines].count(
        True
    ) == 2


async def test_what_was_refused_before_anything_happened_may_be_mended(till, paid):
    """Nothing was promised: the key is free for the mended body."""
    assert code(await post(till, CREATE, TEA | {"total_fee": 0})) == (400, "FEE_OUT_OF_RANGE")
    assert (await post(till, CREATE, TEA))[0] == 200
    wish = {"out_trade_no": paid, "refund_fee": 101}
    assert code(await post(till, REFUND, wish, "k2")) == (409, "REFUND_EXCEEDS_PAYMENT")
    assert (await post(till, REFUND, wish | {"refund_fee": 100}, "k2"))[0] == 200


# -- another body, another call, another caller ----------------------------------------------


async def test_another_body_under_the_same_key_is_refused(till, paid):
    await post(till, CREATE, TEA)
    assert code(await post(till, CREATE, TEA | {"total_fee": 101})) == (422, "IDEMPOTENCY_KEY_REUSED")
    await post(till, REFUND, {"out_trade_no": paid, "refund_fee": 30}, "k2")
    again = await post(till, REFUND, {"out_trade_no": paid, "refund_fee": 31}, "k2")
    assert code(again) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert (len(till.gateway.placed), len(till.gateway.carried)) == (2, 1)


async def test_a_key_of_another_call_is_refused(till, paid):
    await post(till, CREATE, TEA)
    assert code(await post(till, REFUND, {"out_trade_no": paid})) == (422, "IDEMPOTENCY_KEY_REUSED")
    await post(till, REFUND, {"out_trade_no": paid}, "k2")
    assert code(await post(till, CREATE, TEA, "k2")) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert (len(till.gateway.placed), len(till.gateway.carried)) == (2, 1)


async def test_a_promise_under_the_key_refuses_another_body_too(till):
    till.gateway.answer = SILENCE
    await post(till, CREATE, TEA)
    assert code(await post(till, CREATE, TEA | {"body": "红茶"})) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(till.gateway.placed) == 1


async def test_each_caller_has_its_own_keys(till):
    callers = ["backend shop", "backend o1", "payer o1", "payer o2", "operator shop"]
    wishes = {caller: TEA | {"openid": caller.split()[1]} for caller in callers}
    for caller in ("payer o1", "payer o2"):
        wishes[caller]["quote"] = quote(jti=caller)
    answers = [await post(till, CREATE, wishes[caller], Authorization=caller) for caller in callers]
    assert len({number(answer) for answer in answers}) == len(callers)
    assert [await post(till, CREATE, wishes[caller], Authorization=caller) for caller in callers] == answers


# -- what a key looks like -------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "k\u200bk", "\u2028", "\ue000"])
@pytest.mark.parametrize(("path", "body"), [(CREATE, TEA), (REFUND, {"out_trade_no": "PAY1703"})])
async def test_what_is_no_key_is_refused_by_name(till, path, body, key):
    answer = await till.client.post(path, json=body, headers={"Idempotency-Key": key})
    await refusal(answer, 400, "BAD_REQUEST", "Idempotency-Key")
    assert (till.gateway.placed, till.store.answered) == ([], {})


async def test_two_keys_are_no_key(till):
    headers = [("Idempotency-Key", "k1"), ("Idempotency-Key", "k2")]
    await refusal(
        await till.client.post(CREATE, json=TEA, headers=headers), 400, "BAD_REQUEST", "Idempotency-Key"
    )


@pytest.mark.parametrize("octet", [0, 1, 10, 13, 31, 127, 255])
async def test_a_control_character_in_a_key_is_refused_by_name(till, octet, caplog):
    """Most of them are not even HTTP: the line is refused before there is a request."""
    caplog.set_level(logging.CRITICAL, "aiohttp.server")
    body = json.dumps(TEA).encode()
    reader, writer = await asyncio.open_connection(till.client.host, till.client.port)
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nIdempotency-Key: a%cb\r\n\r\n%b" % (CREATE.encode(), len(body), octet, body)
    )
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.split(b" ", 2)[1] == b"400"
    assert b"Idempotency-Key" in answer
    assert till.gateway.placed == []


@pytest.mark.parametrize("key", ["k", "k" * 255, '"8e03978e-40d5-43e8-bc93-6894a57f9324"', "a b", "键"])
async def test_any_readable_text_of_up_to_255_characters_is_a_key(till, key):
    assert await post(till, CREATE, TEA, key) == await post(till, CREATE, TEA, key)
    assert len(till.gateway.placed) == 1


# -- silence and what follows ----------------------------------------------------------------


async def test_a_create_wechat_was_silent_on_goes_on_under_its_number(till):
    """R10, R11: never a second number for one wish."""
    till.gateway.answer = SILENCE
    for _ in range(2):
        assert code(await post(till, CREATE, TEA)) == (504, "WECHAT_NO_ANSWER")
    till.gateway.answer = TAKEN
    answer = await post(till, CREATE, TEA)
    assert {order.out_trade_no for order in till.gateway.placed} == {number(answer)}
    assert await post(till, CREATE, TEA) == answer
    assert (len(till.gateway.placed), len(till.store.rows)) == (3, 1)


@pytest.mark.parametrize(
    ("trade_state", "changes", "told"),
    [
        ("SUCCESS", {}, (409, "ORDER_PAID")),
        ("CLOSED", {}, (409, "ORDER_ENDED")),
        ("SUCCESS", {"total_fee": 1}, (409, "FEE_MISMATCH")),
        ("SUCCESS", {"appid": "wx9"}, (409, "PAYEE_MISMATCH")),
        ("SUCCESS", {"transaction_id": ""}, (409, "TRADE_CONFLICT")),
        ("NOTPAY", {}, (502, "WECHAT_REFUSED")),
    ],
)
async def test_a_create_that_goes_on_meets_what_became_of_its_order(till, trade_state, changes, told):
    till.gateway.answer = SILENCE
    await post(till, CREATE, TEA)
    till.gateway.answer = Refused(meaning=Meaning.ALREADY_PAID, err_code="ORDERPAID")
    words = {"total_fee": 100, "transaction_id": "42"} | changes
    till.gateway.word = Trade(
        out_trade_no=till.gateway.placed[0].out_trade_no, trade_state=TradeState(trade_state), **words
    )
    assert code(await post(till, CREATE, TEA)) == told
    assert len(till.store.rows) == 1


async def test_a_create_whose_order_was_closed_meanwhile_has_ended(till):
    till.gateway.answer = SILENCE
    await post(till, CREATE, TEA)
    async with till.client.post(CLOSE + till.gateway.placed[0].out_trade_no) as answer:
        assert answer.status == 200
    assert code(await post(till, CREATE, TEA)) == (409, "ORDER_ENDED")


async def test_a_refund_wechat_was_silent_on_is_answered_and_not_asked_twice(till, paid):
    till.gateway.refunding = SILENCE
    first = await post(till, REFUND, {"out_trade_no": paid})
    assert json.loads(first[1])["data"]["status"] == "PROCESSING"
    assert await post(till, REFUND, {"out_trade_no": paid}) == first
    assert len((await till.store.get(paid)).refunds) == 1


async def test_a_refund_that_broke_off_goes_on_under_its_number(till, paid):
    """R34: the promise is kept with its key before WeChat is called."""
    till.gateway.refunding = StoreUnavailable("the line to the disk broke")
    assert code(await post(till, REFUND, {"out_trade_no": paid})) == (503, "STORE_UNAVAILABLE")
    till.gateway.refunding = ScriptedGateway().refunding
    assert (await post(till, REFUND, {"out_trade_no": paid}))[0] == 200
    assert len({refund.out_refund_no for refund in till.gateway.carried}) == 1
    assert len((await till.store.get(paid)).refunds) == 1


# -- many at once ----------------------------------------------------------------------------


@define
class Crowd:
    """A guard that opens the gate at WeChat when everybody is inside."""

    gate: asyncio.Event = Factory(asyncio.Event)
    inside: int = 0

    async def __call__(self, request, route):
        self.inside += 1
        if self.inside == TAPS:
            self.gate.set()
        return await open_door(request, route)


async def test_fifty_taps_at_once_are_one_order(runner):
    """R10: one row, one set of pay_params, one call to WeChat."""
    crowd = Crowd()
    till = await Till(gateway=FreshGateway(gate=crowd.gate)).open(guard=crowd)
    answers = await asyncio.gather(*(post(till, CREATE, TEA) for _ in range(TAPS)))
    assert len(set(answers)) == 1
    assert number(answers[0]) == "PAY17031234560000000001"
    assert (len(till.gateway.placed), len(till.store.rows), till.store.events[0].version) == (1, 1, 1)
    assert len(till.store.events) == 1
    await till.close()


async def test_fifty_taps_on_two_processes_are_one_order(runner):
    """R10: across processes the store decides, and the loser's answer is the winner's."""
    crowd = Crowd()
    one = await Till(gateway=FreshGateway(gate=crowd.gate)).open(guard=crowd)
    other = await Till(gateway=one.gateway, store=one.store, numbers=100).open(guard=crowd)
    taps = (post(till, CREATE, TEA) for till in [one, other] * (TAPS // 2))
    answers = await asyncio.gather(*taps)
    assert len(set(answers)) == 1
    assert list(one.store.rows) == [number(answers[0])]
    await one.close()
    await other.close()


async def test_fifty_refunds_at_once_with_one_key_are_one_refund(till, paid):
    wish = {"out_trade_no": paid, "refund_fee": 60}
    answers = await asyncio.gather(*(post(till, REFUND, wish) for _ in range(TAPS)))
    assert {status for status, _ in answers} == {200}
    assert (len(set(answers)), len(till.gateway.carried)) == (1, 1)


async def test_fifty_refunds_at_once_never_exceed_the_payment(till, paid):
    """R35: whatever their keys are."""
    wish = {"out_trade_no": paid, "refund_fee": 30}
    answers = await asyncio.gather(*(post(till, REFUND, wish, f"k{tap}") for tap in range(TAPS)))
    refused = [code(answer) for answer in answers if answer[0] != 200]
    assert refused == [(409, "REFUND_EXCEEDS_PAYMENT")] * (TAPS - 3)
    assert (await till.store.get(paid)).refundable_fee == 10


# -- after a restart -------------------------------------------------------------------------


@pytest.fixture
def restarted(runner, tmp_path):
    """Each call starts the service anew on the same file."""
    running = deque()

    def stop():
        while running:
            till = running.pop()
            runner.run(till.close())
            runner.run(till.store.close())

    def start(**changes):
        stop()
        store = runner.run(SqliteStore.open(tmp_path / "minitill.db"))
        running.append(runner.run(Till(store=store, gateway=FreshGateway(**changes)).open()))
        return running[0]

    yield start
    stop()


def test_an_answer_outlives_the_process(runner, restarted):
    till = restarted()
    placed = runner.run(post(till, CREATE, TEA))
    runner.run(till.pay(number(placed)))
    wish = {"out_trade_no": number(placed), "refund_fee": 30}
    refunded = runner.run(post(till, REFUND, wish, "k2"))
    till = restarted(answer=NO_RIGHTS)
    assert runner.run(post(till, CREATE, TEA)) == placed
    assert runner.run(post(till, REFUND, wish, "k2")) == refunded
    assert (till.gateway.placed, till.gateway.carried) == ([], [])


def test_a_refusal_outlives_the_process(runner, restarted):
    refused = runner.run(post(restarted(answer=NO_RIGHTS), CREATE, TEA))
    assert code(refused) == (502, "WECHAT_REFUSED")
    assert runner.run(post(restarted(), CREATE, TEA)) == refused


def test_a_promise_outlives_the_process(runner, restarted):
    till = restarted(answer=SILENCE)
    assert code(runner.run(post(till, CREATE, TEA))) == (504, "WECHAT_NO_ANSWER")
    promised = till.gateway.placed[0].out_trade_no
    assert number(runner.run(post(restarted(), CREATE, TEA))) == promised
