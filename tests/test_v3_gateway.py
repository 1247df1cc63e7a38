"""V3's calls as WeChat hears them, and what becomes of its answers, good and bad."""

import json
import logging
import time
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from attrs import evolve

from adapters.wechat import v3_wire
from application.errors import WechatRefused
from application.ports import Meaning, Prepared, Refused, Unknown
from domain.trade import TradeState
from tests.wechat_side import (
    API_V3_KEY,
    APPID,
    DOCUMENT,
    MCH_ID,
    NOTIFY_URL,
    NOW,
    NUMBER,
    OPENID,
    PLATFORM_SERIAL,
    PREPAY_ID,
    PUBLIC_KEY_ID,
    TRANSACTION_ID,
    VECTORS,
    by_public_key,
    certificate_pem,
    cut,
    lines,
    merchant,
    order,
    private_key,
    public_key_merchant,
    v3_answer,
    v3_error,
    v3_headers,
)

GOOD = {"prepay_id": PREPAY_ID}


@pytest.fixture
def line(runner, tmp_path):
    """Lines of a merchant that has downloaded the platform certificate earlier."""
    (tmp_path / "platform").mkdir()
    (tmp_path / "platform" / f"{PLATFORM_SERIAL}.pem").write_bytes(certificate_pem())
    yield from lines(runner, tmp_path)


@pytest.fixture
def to_wechat(runner, line):
    return runner.run(line())


def signed_by_us(heard):
    """The request's Authorization, verified over exactly what was heard; its five values."""
    values = v3_wire.parse_authorization(heard.headers["Authorization"])
    message = v3_wire.request_message(
        heard.method, heard.target, values["timestamp"], values["nonce_str"], heard.body
    )
    public = private_key("doc_merchant").public_key()
    assert v3_wire.verify(public, message, values["signature"])
    return values


def transaction(**changes):
    paid = {
        "appid": APPID,
        "mchid": MCH_ID,
        "out_trade_no": NUMBER,
        "transaction_id": TRANSACTION_ID,
        "trade_type": "JSAPI",
        "trade_state": "SUCCESS",
        "trade_state_desc": "支付成功",
        "success_time": "2024-08-05T17:33:41+08:00",
        "payer": {"openid": OPENID},
        "amount": {"total": 100, "payer_total": 90, "currency": "CNY", "payer_currency": "CNY"},
        "a_field_of_2031": None,
    }
    return {name: value for name, value in (paid | changes).items() if value != "left out"}


# -- placing -------------------------------------------------------------------------------------


async def test_an_order_is_placed_with_exactly_these_fields(to_wechat):
    """R3, R4, R8, R18, R19."""
    to_wechat.wechat.says(v3_answer(GOOD))
    assert await to_wechat.gateway.prepay(order()) == Prepared(prepay_id=PREPAY_ID)
    (heard,) = to_wechat.wechat.heard
    assert (heard.method, heard.target) == ("POST", "/v3/pay/transactions/jsapi")
    values = signed_by_us(heard)
    assert values["mchid"] == heard.json["mchid"] == MCH_ID
    assert values["timestamp"] == str(int(NOW.timestamp()))
    assert values["nonce_str"] == f"{1:032d}"
    assert values["serial_no"] == DOCUMENT["keys"]["doc_merchant"]["merchant_serial"]
    assert heard.headers["Accept"] == heard.headers["Content-Type"] == "application/json"
    assert heard.headers["User-Agent"]
    assert heard.headers["Wechatpay-Serial"] == PLATFORM_SERIAL
    assert heard.json == {
        "appid": APPID,
        "mchid": MCH_ID,
        "description": "图片增强服务",
        "out_trade_no": NUMBER,
        "time_expire": "2024-08-05T18:03:50+08:00",
        "attach": "user_id_123",
        "notify_url": NOTIFY_URL,
        "amount": {"total": 100, "currency": "CNY"},
        "payer": {"openid": OPENID},
        "scene_info": {"payer_client_ip": "14.23.150.211"},
    }


async def test_empty_fields_are_left_out(to_wechat):
    """R19: V3 refuses null and unknown fields."""
    to_wechat.wechat.says(v3_answer(GOOD))
    bare = order(attach="")
    await to_wechat.gateway.prepay(evolve(bare, placement=evolve(bare.placement, client_ip="")))
    assert {"attach", "scene_info"}.isdisjoint(to_wechat.wechat.heard[0].json)


async def test_a_repeat_sends_the_same_bytes_signed_anew(line):
    """R11: later, and under other settings, the stored order still decides."""
    first = await line()
    later = await line(merchant(appid="wxother", notify_url="https://other.example/n"))
    later.now, later.nonces = NOW + timedelta(hours=3), iter(["another nonce"])
    for each in (first, later):
        each.wechat.says(v3_answer(GOOD, at=each.now))
        assert isinstance(await each.gateway.prepay(order()), Prepared)
    one, two = (each.wechat.heard[0] for each in (first, later))
    assert one.body == two.body
    assert signed_by_us(one)["nonce_str"] != signed_by_us(two)["nonce_str"]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Shanghai", "Pacific/Kiritimati"])
async def test_the_expiry_carries_its_offset_wherever_the_server_stands(to_wechat, monkeypatch, zone):
    """R18."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        to_wechat.wechat.says(v3_answer(GOOD))
        await to_wechat.gateway.prepay(order(expires_at=datetime(2024, 2, 28, 16, 30, tzinfo=UTC)))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert to_wechat.wechat.heard[0].json["time_expire"] == "2024-02-29T00:30:00+08:00"


async def test_pay_params_are_those_of_the_published_vector(line):
    """R1, R2: the merchant's own key, over a package with its prefix."""
    given, expect = VECTORS["v3-paysign-mini-program"]["input"], VECTORS["v3-paysign-mini-program"]["expect"]
    till = await line(merchant(appid=given["appId"], private_key=private_key(given["private_key"])))
    till.nonces = iter([given["nonceStr"]])
    placed = order().prepared(given["package"].removeprefix("prepay_id="), NOW, "test")
    placed = evolve(placed, placement=evolve(placed.placement, appid=given["appId"]))
    now = datetime.fromtimestamp(int(given["timeStamp"]), UTC)
    assert await till.gateway.pay_params(placed, now) == {
        "appId": given["appId"],
        "timeStamp": given["timeStamp"],
        "nonceStr": given["nonceStr"],
        "package": given["package"],
        "signType": "RSA",
        "paySign": expect["paySign"],
    }


async def test_new_orders_follow_the_settings(to_wechat):
    placed = to_wechat.gateway.placement("::1")
    assert (placed.api_version, placed.sign_type, placed.client_ip) == ("v3", "RSA", "::1")


# -- whose key signs the answer ------------------------------------------------------------------


async def test_a_merchant_with_a_public_key_asks_for_it_and_is_answered_by_it(line):
    till = await line(public_key_merchant())
    till.wechat.says(by_public_key(GOOD))
    assert isinstance(await till.gateway.prepay(order()), Prepared)
    assert till.wechat.heard[0].headers["Wechatpay-Serial"] == PUBLIC_KEY_ID


async def test_both_keys_are_held_and_each_message_names_its_own(line):
    """R52."""
    till = await line(public_key_merchant())
    till.wechat.says(v3_answer(GOOD), by_public_key(GOOD))
    assert isinstance(await till.gateway.prepay(order()), Prepared)
    assert isinstance(await till.gateway.prepay(order()), Prepared)


# -- answers that prove nothing ------------------------------------------------------------------


def tampered(status=200, **headers):
    body = json.dumps(GOOD).encode()
    given = {**v3_headers(body), **headers}
    given = {name: value for name, value in given.items() if value}
    return web.Response(body=body, status=status, headers=given)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.json_response(GOOD),
        lambda: tampered(**{"Wechatpay-Signature": ""}),
        lambda: tampered(**{"Wechatpay-Serial": ""}),
        lambda: tampered(**{"Wechatpay-Signature": "WECHATPAY/SIGNTEST/abc"}),
        lambda: tampered(**{"Wechatpay-Nonce": "another"}),
        lambda: tampered(**{"Wechatpay-Serial": PUBLIC_KEY_ID}),
        lambda: tampered(**{"Wechatpay-Signature-Type": "WECHATPAY2-SM2-WITH-SM3"}),
        lambda: v3_answer(GOOD, at=NOW - timedelta(seconds=300)),
        lambda: v3_answer(GOOD, at=NOW + timedelta(seconds=300)),
        lambda: v3_answer(GOOD, signer="java_merchant"),
        lambda: v3_answer([GOOD]),
        lambda: v3_answer({}),
        lambda: v3_answer({"prepay_id": 7}),
        lambda: v3_answer(GOOD, status=201),
        lambda: v3_answer(GOOD, status=202),
        lambda: web.Response(status=302, headers={"Location": "/"}),
        lambda: web.Response(status=404, body=b"<html>"),
        lambda: web.Response(body=b"x" * (1024 * 1024 + 1)),
    ],
)
async def test_an_answer_that_proves_nothing_is_unknown_and_never_a_no(to_wechat, caplog, answer):
    """R23, R27, R47: unsigned, badly signed, out of time, or no answer at all. One line tells."""
    to_wechat.wechat.says(answer())
    caplog.set_level(logging.INFO)
    assert isinstance(await to_wechat.gateway.prepay(order()), Unknown)
    told = [record for record in caplog.records if f"prepay {NUMBER}: unknown" in record.getMessage()]
    assert len(told) == 1
    assert API_V3_KEY not in caplog.text
    assert OPENID not in caplog.text


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: v3_error(500, "SYSTEM_ERROR"),
        lambda: v3_error(502, "SERVICE_UNAVAILABLE"),
        lambda: v3_error(500, "BANK_ERROR"),
        lambda: web.Response(status=504),
        lambda: cut,
    ],
)
async def test_trouble_that_passes_is_overcome_by_a_repeat_signed_anew(to_wechat, trouble):
    """R13; v3.md section 3: sign again for every retry."""
    to_wechat.wechat.says(trouble(), v3_answer(GOOD))
    assert isinstance(await to_wechat.gateway.prepay(order()), Prepared)
    one, two = to_wechat.wechat.heard
    assert one.body == two.body
    assert signed_by_us(one)["nonce_str"] != signed_by_us(two)["nonce_str"]


async def test_trouble_that_stays_is_unknown_after_three_tries(to_wechat):
    to_wechat.wechat.says(*(v3_error(500, "SYSTEM_ERROR") for _ in range(4)))
    answer = await to_wechat.gateway.prepay(order())
    assert isinstance(answer, Unknown)
    assert answer.err_code == "SYSTEM_ERROR"
    assert len(to_wechat.wechat.heard) == 3


async def test_a_no_is_explained_with_its_request_id(to_wechat, caplog):
    """R48: code, text, Request-Id, its suffix and what it means, in one line."""
    to_wechat.wechat.says(v3_error(401, "SIGN_ERROR", "签名错误", **{"Request-ID": "08F7-268443699"}))
    answer = await to_wechat.gateway.prepay(order())
    assert isinstance(answer, Refused)
    assert (answer.meaning, answer.err_code) == (Meaning.CONFIGURATION, "SIGN_ERROR")
    assert (answer.description, answer.request_id) == ("签名错误", "08F7-268443699")
    (record,) = caplog.records
    for part in (NUMBER, "SIGN_ERROR", "签名错误", "08F7-268443699", "the signature is wrong", "clock"):
        assert part in record.getMessage()


# -- asking and closing --------------------------------------------------------------------------


async def test_a_payment_is_told_in_our_words(to_wechat):
    """R14."""
    to_wechat.wechat.says(v3_answer(transaction()))
    trade = await to_wechat.gateway.query(order())
    (heard,) = to_wechat.wechat.heard
    assert heard.method == "GET"
    assert heard.target == f"/v3/pay/transactions/out-trade-no/{NUMBER}?mchid={MCH_ID}"
    assert heard.body == b""
    signed_by_us(heard)
    assert (trade.out_trade_no, trade.trade_state) == (NUMBER, TradeState.SUCCESS)
    assert (trade.total_fee, trade.currency, trade.transaction_id) == (100, "CNY", TRANSACTION_ID)
    assert trade.time_end == datetime(2024, 8, 5, 9, 33, 41, tzinfo=UTC)
    assert (trade.openid, trade.appid, trade.mch_id) == (OPENID, APPID, MCH_ID)


@pytest.mark.parametrize("state", ["NOTPAY", "CLOSED", "REVOKED", "USERPAYING", "PAYERROR", "ACCEPT"])
async def test_an_order_that_is_not_paid_has_no_transaction(to_wechat, state):
    unpaid = dict.fromkeys(("transaction_id", "success_time", "payer"), "left out")
    to_wechat.wechat.says(v3_answer(transaction(trade_state=state, **unpaid)))
    trade = await to_wechat.gateway.query(order())
    assert (trade.trade_state, trade.transaction_id, trade.time_end) == (TradeState(state), "", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"trade_state": "SETTLED_ON_MARS"},
        {"trade_state": "left out"},
        {"out_trade_no": "PAY202401020304050002"},
        {"amount": "left out"},
        {"amount": {"total": "100"}},
        {"amount": {"total": True}},
        {"amount": {"total": 1.0}},
        {"amount": {"total": -1}},
        {"transaction_id": "left out"},
        {"success_time": "2024-08-05T17:33:41"},
        {"success_time": "yesterday"},
        {"success_time": "0001-01-01T00:00:00+08:00"},
        {"payer": "me"},
        {"appid": 7},
    ],
)
async def test_a_signed_answer_nobody_can_read_is_unknown_and_an_error_in_the_log(to_wechat, caplog, changes):
    to_wechat.wechat.says(v3_answer(transaction(**changes)))
    assert isinstance(await to_wechat.gateway.query(order()), Unknown)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR


@pytest.mark.parametrize("code", ["ORDER_NOT_EXIST", "ORDERNOTEXIST"])
async def test_an_order_wechat_does_not_know(to_wechat, code):
    to_wechat.wechat.says(v3_error(404, code))
    answer = await to_wechat.gateway.query(order())
    assert (answer.meaning, answer.err_code) == (Meaning.NO_SUCH_ORDER, code)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: v3_answer(None, 204),
        lambda: v3_error(400, "ORDER_CLOSED"),
        lambda: v3_error(400, "ORDERCLOSED"),
    ],
)
async def test_closing_succeeds_as_often_as_one_likes(to_wechat, answer):
    """R16: 204, verified over the empty body."""
    to_wechat.wechat.says(answer())
    trade = await to_wechat.gateway.close(order())
    (heard,) = to_wechat.wechat.heard
    assert heard.target == f"/v3/pay/transactions/out-trade-no/{NUMBER}/close"
    assert heard.json == {"mchid": MCH_ID}
    signed_by_us(heard)
    assert (trade.out_trade_no, trade.trade_state) == (NUMBER, TradeState.CLOSED)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=204),
        lambda: v3_answer(None, 204, signer="java_merchant"),
        lambda: v3_answer({}, 202),
        lambda: v3_answer(None, 201),
    ],
)
async def test_an_unsigned_204_or_another_success_closes_nothing(to_wechat, answer):
    """R23."""
    to_wechat.wechat.says(answer())
    assert isinstance(await to_wechat.gateway.close(order()), Unknown)


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (400, "ORDER_PAID", Meaning.ALREADY_PAID),
        (400, "ORDERPAID", Meaning.ALREADY_PAID),
        (404, "ORDER_NOT_EXIST", Meaning.NO_SUCH_ORDER),
        (429, "FREQUENCY_LIMITED", Meaning.TOO_FAST),
    ],
)
async def test_closing_is_refused(to_wechat, status, code, meaning):
    """R16."""
    to_wechat.wechat.says(v3_error(status, code))
    assert (await to_wechat.gateway.close(order())).meaning is meaning


# -- whose keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["api_v3_key", "private_key"])
async def test_without_the_keys_of_its_version_an_order_is_left_alone(line, missing):
    till = await line(merchant(**{missing: None}))
    for answer in (await till.gateway.prepay(order()), await till.gateway.query(order())):
        assert answer.meaning is Meaning.CONFIGURATION
    with pytest.raises(WechatRefused):
        await till.gateway.pay_params(order(), NOW)
    assert till.wechat.heard == []
