"""V2's calls as WeChat hears them, and what becomes of its answers, good and bad."""

import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from attrs import evolve

from adapters.wechat import v2_wire
from application.ports import Meaning, Prepared, Refused, Unknown
from domain.trade import TradeState
from tests.wechat_side import (
    API_KEY,
    APPID,
    MCH_ID,
    NOTIFY_URL,
    NOW,
    NUMBER,
    OPENID,
    PREPAY_ID,
    TRANSACTION_ID,
    VECTORS,
    cut,
    lines,
    merchant,
    order,
    refund,
    v2_failure,
    v2_success,
    v2_xml,
)

WITH_CERTIFICATE = merchant(certificate_path=Path("cert.pem"), private_key_path=Path("key.pem"))
SIGN_TYPES = pytest.mark.parametrize("sign_type", ["MD5", "HMAC-SHA256"])


@pytest.fixture
def line(runner, tmp_path):
    yield from lines(runner, tmp_path)


@pytest.fixture
def to_wechat(runner, line):
    """A line for one V2 merchant with everything."""
    return runner.run(line(WITH_CERTIFICATE))


def paid(**changes):
    return {
        "out_trade_no": NUMBER,
        "trade_state": "SUCCESS",
        "total_fee": "100",
        "transaction_id": TRANSACTION_ID,
        "time_end": "20240805173341",
        "openid": OPENID,
        "fee_type": "CNY",
        "cash_fee": "0",
        **changes,
    }


# -- placing -------------------------------------------------------------------------------------


@SIGN_TYPES
async def test_an_order_is_placed_with_exactly_these_fields(to_wechat, sign_type):
    """R6, R8, R19: signed, fen as integers, nothing that WeChat does not know."""
    to_wechat.wechat.says(v2_success(sign_type, prepay_id=PREPAY_ID, trade_type="JSAPI"))
    assert await to_wechat.gateway.prepay(order("v2", sign_type)) == Prepared(prepay_id=PREPAY_ID)
    (heard,) = to_wechat.wechat.heard
    sent = heard.fields
    assert (heard.method, heard.target) == ("POST", "/pay/unifiedorder")
    assert heard.headers["Content-Type"] == "text/xml"
    assert v2_wire.verify(sent, API_KEY, sign_type)
    assert len(sent.pop("sign")) == {"MD5": 32, "HMAC-SHA256": 64}[sign_type]
    assert sent == {
        "appid": APPID,
        "mch_id": MCH_ID,
        "nonce_str": f"{1:032d}",
        "body": "图片增强服务",
        "attach": "user_id_123",
        "out_trade_no": NUMBER,
        "total_fee": "100",
        "spbill_create_ip": "14.23.150.211",
        "time_expire": "20240805180350",
        "notify_url": NOTIFY_URL,
        "trade_type": "JSAPI",
        "openid": OPENID,
        **({"sign_type": sign_type} if sign_type != "MD5" else {}),
    }


async def test_empty_fields_are_left_out(to_wechat):
    """R19."""
    to_wechat.wechat.says(v2_success(prepay_id=PREPAY_ID))
    await to_wechat.gateway.prepay(order("v2", attach=""))
    assert "attach" not in to_wechat.wechat.heard[0].fields


async def test_a_repeat_differs_in_nonce_and_signature_only(line):
    """R11: later, and under other settings, the stored order still decides."""
    first = await line(WITH_CERTIFICATE)
    later = await line(merchant(appid="wxother", notify_url="https://other.example/n"))
    later.now, later.nonces = NOW + timedelta(hours=3), iter(["another nonce"])
    for each in (first, later):
        each.wechat.says(v2_success(prepay_id=PREPAY_ID))
        assert isinstance(await each.gateway.prepay(order("v2")), Prepared)
    one, two = (each.wechat.heard[0].fields for each in (first, later))
    assert {name for name in one if one[name] != two[name]} == {"nonce_str", "sign"}
    assert one.keys() == two.keys()


async def test_emoji_in_the_body_stay_off_the_wire(to_wechat):
    """v2.md section 3."""
    to_wechat.wechat.says(v2_success(prepay_id=PREPAY_ID))
    await to_wechat.gateway.prepay(order("v2", body="奶茶🧋大杯 <热>&]]>", attach="🧋"))
    sent = to_wechat.wechat.heard[0].fields
    assert (sent["body"], sent["attach"]) == ("奶茶大杯 <热>&]]>", "🧋")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Shanghai", "Pacific/Kiritimati"])
async def test_the_expiry_is_beijing_time_wherever_the_server_stands(to_wechat, monkeypatch, zone):
    """R18."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        to_wechat.wechat.says(v2_success(prepay_id=PREPAY_ID))
        await to_wechat.gateway.prepay(order("v2", expires_at=datetime(2024, 2, 28, 16, 30, tzinfo=UTC)))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert to_wechat.wechat.heard[0].fields["time_expire"] == "20240229003000"


@pytest.mark.parametrize("name", ["v2-paysign-md5", "v2-paysign-hmac"])
async def test_pay_params_are_those_of_the_published_vectors(line, name):
    """R1: with the sign_type of the order, not of the settings."""
    given, expect = VECTORS[name]["input"], VECTORS[name]["expect"]
    params = given["params"]
    till = await line(merchant(api_key=given["key"]))
    till.nonces = iter([params["nonceStr"]])
    placed = order("v2", params["signType"]).prepared(params["package"].removeprefix("prepay_id="), NOW, "x")
    placed = evolve(placed, placement=evolve(placed.placement, appid=params["appId"]))
    now = datetime.fromtimestamp(int(params["timeStamp"]), UTC)
    assert await till.gateway.pay_params(placed, now) == {**params, "paySign": expect["sign"]}


async def test_new_orders_follow_the_settings(line):
    """Each order remembers how it was placed."""
    till = await line(merchant(api_version="v2", sign_type="HMAC-SHA256"))
    placed = till.gateway.placement("::1")
    assert (placed.api_version, placed.sign_type, placed.client_ip) == ("v2", "HMAC-SHA256", "::1")
    assert (placed.appid, placed.mch_id, placed.notify_url) == (APPID, MCH_ID, NOTIFY_URL)


# -- answers that prove nothing ------------------------------------------------------------------

GOOD = {"prepay_id": PREPAY_ID}
UNSIGNED = v2_wire.write(
    {
        "return_code": "SUCCESS",
        "result_code": "FAIL",
        "err_code": "SYSTEMERROR",
        "appid": APPID,
        "mch_id": MCH_ID,
    }
)


@pytest.mark.parametrize(
    "answer",
    [
        v2_success(**GOOD).replace(b"<prepay_id>", b"<prepay_id >").replace(PREPAY_ID.encode(), b"wx0"),
        v2_success(**GOOD, api_key="f" * 32),
        v2_success("HMAC-SHA256", **GOOD),
        v2_success(**GOOD, appid="wxother"),
        v2_success(**GOOD, mch_id="1230000109"),
        v2_success(**GOOD, appid=None),
        v2_success(),
        v2_xml({"return_code": "FAIL", "return_msg": "签名错误"}),
        v2_wire.write({"return_code": "FAIL", "return_msg": "频率限制"}),
        v2_wire.write(dict.fromkeys(("return_code", "result_code"), "SUCCESS") | GOOD),
        b'<!DOCTYPE xml [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml><return_code>&a;</return_code></xml>',
        b"<xml><return_code>SUCCESS</return_code><return_code>FAIL</return_code></xml>",
        b"<html>502</html>",
        b"",
        bytes(70_000),
        web.Response(status=404, body=v2_success(**GOOD)),
        web.Response(status=302, headers={"Location": "/"}),
    ],
    ids=lambda answer: repr(answer)[:60],
)
async def test_an_answer_that_proves_nothing_is_unknown_and_never_a_no(to_wechat, caplog, answer):
    """R23, R47: unsigned, wrongly signed, about somebody else, or no answer at all. One line tells."""
    to_wechat.wechat.says(answer, answer, answer)
    assert isinstance(await to_wechat.gateway.prepay(order("v2")), Unknown)
    (record,) = caplog.records
    assert f"prepay {NUMBER}: unknown" in record.getMessage()
    assert API_KEY not in caplog.text


async def test_a_transport_failure_keeps_wechats_words_as_a_hint(to_wechat):
    to_wechat.wechat.says(v2_wire.write({"return_code": "FAIL", "return_msg": "频率限制"}))
    assert (await to_wechat.gateway.prepay(order("v2"))).description == "频率限制"


@pytest.mark.parametrize(
    "trouble",
    [v2_failure("SYSTEMERROR"), UNSIGNED, web.Response(status=502), cut],
    ids=["SYSTEMERROR", "unsigned SYSTEMERROR", "502", "cut"],
)
async def test_trouble_that_passes_is_overcome_by_a_repeat(to_wechat, trouble):
    """R13: an identical repeat of an order call is harmless."""
    to_wechat.wechat.says(trouble, v2_success(**GOOD))
    assert await to_wechat.gateway.prepay(order("v2")) == Prepared(prepay_id=PREPAY_ID)
    assert len(to_wechat.wechat.heard) == 2


async def test_trouble_that_stays_is_unknown_after_three_tries(to_wechat):
    to_wechat.wechat.says(*[UNSIGNED] * 4)
    answer = await to_wechat.gateway.query(order("v2"))
    assert isinstance(answer, Unknown)
    assert answer.err_code == "SYSTEMERROR"
    assert len(to_wechat.wechat.heard) == 3


async def test_a_definite_no_is_a_refusal_with_wechats_words(to_wechat):
    to_wechat.wechat.says(v2_failure("OUT_TRADE_NO_USED"))
    answer = await to_wechat.gateway.prepay(order("v2"))
    assert isinstance(answer, Refused)
    assert (answer.meaning, answer.err_code) == (Meaning.NUMBER_USED, "OUT_TRADE_NO_USED")
    assert answer.description == "详见文档"
    assert answer.explanation


# -- asking and closing --------------------------------------------------------------------------


@SIGN_TYPES
async def test_a_payment_is_told_in_our_words(to_wechat, sign_type):
    """R14."""
    to_wechat.wechat.says(v2_success(sign_type, **paid()))
    trade = await to_wechat.gateway.query(order("v2", sign_type))
    assert to_wechat.wechat.heard[0].target == "/pay/orderquery"
    assert to_wechat.wechat.heard[0].fields["out_trade_no"] == NUMBER
    assert (trade.out_trade_no, trade.trade_state) == (NUMBER, TradeState.SUCCESS)
    assert (trade.total_fee, trade.currency, trade.transaction_id) == (100, "CNY", TRANSACTION_ID)
    assert trade.time_end == datetime(2024, 8, 5, 9, 33, 41, tzinfo=UTC)
    assert (trade.openid, trade.appid, trade.mch_id) == (OPENID, APPID, MCH_ID)


@pytest.mark.parametrize(("told", "ours"), [(None, "CNY"), ("CNY", "CNY"), ("USD", "USD")])
async def test_an_unnamed_currency_is_the_yuan(to_wechat, told, ours):
    """R28: any other is told as it is."""
    to_wechat.wechat.says(v2_success(**paid(fee_type=told)))
    assert (await to_wechat.gateway.query(order("v2"))).currency == ours


@pytest.mark.parametrize("state", ["NOTPAY", "CLOSED", "REVOKED", "USERPAYING", "PAYERROR", "ACCEPT"])
async def test_an_order_that_is_not_paid_has_no_fee_and_no_transaction(to_wechat, state):
    to_wechat.wechat.says(v2_success(out_trade_no=NUMBER, trade_state=state))
    trade = await to_wechat.gateway.query(order("v2"))
    assert (trade.trade_state, trade.total_fee, trade.transaction_id) == (TradeState(state), None, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"trade_state": "SETTLED_ON_MARS"},
        {"trade_state": None},
        {"out_trade_no": "PAY202401020304050002"},
        {"total_fee": None},
        {"total_fee": "1.00"},
        {"total_fee": "-1"},
        {"transaction_id": None},
        {"time_end": "yesterday"},
        {"time_end": "20240230000000"},
    ],
)
async def test_a_signed_answer_nobody_can_read_is_unknown_and_an_error_in_the_log(to_wechat, caplog, changes):
    """v2.md section 7: an unknown state is not final, and alerts."""
    to_wechat.wechat.says(v2_success(**paid(**changes)))
    assert isinstance(await to_wechat.gateway.query(order("v2")), Unknown)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR


async def test_an_order_wechat_does_not_know(to_wechat):
    to_wechat.wechat.says(v2_failure("ORDERNOTEXIST"))
    answer = await to_wechat.gateway.query(order("v2"))
    assert answer.meaning is Meaning.NO_SUCH_ORDER


@pytest.mark.parametrize("answer", [v2_success(), v2_failure("ORDERCLOSED")], ids=["closed", "was closed"])
async def test_closing_succeeds_as_often_as_one_likes(to_wechat, answer):
    """R16."""
    to_wechat.wechat.says(answer)
    trade = await to_wechat.gateway.close(order("v2"))
    assert to_wechat.wechat.heard[0].target == "/pay/closeorder"
    assert (trade.out_trade_no, trade.trade_state) == (NUMBER, TradeState.CLOSED)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [("ORDERPAID", Meaning.ALREADY_PAID), ("ORDERNOTEXIST", Meaning.NO_SUCH_ORDER)],
)
async def test_closing_is_refused(to_wechat, code, meaning):
    """R16."""
    to_wechat.wechat.says(v2_failure(code))
    assert (await to_wechat.gateway.close(order("v2"))).meaning is meaning


# -- whose keys ----------------------------------------------------------------------------------


async def test_without_the_keys_of_its_version_an_order_is_left_alone(line):
    till = await line(merchant(api_key=None))
    for answer in (
        await till.gateway.prepay(order("v2")),
        await till.gateway.query(order("v2")),
        await till.gateway.close(order("v2")),
        await till.gateway.refund(order("v2"), refund()),
        await till.gateway.query_refund(order("v2"), refund()),
        await till.gateway.recover_refund(order("v2"), refund()),
    ):
        assert answer.meaning is Meaning.CONFIGURATION
    assert till.wechat.heard == []


async def test_another_merchants_order_is_left_alone(to_wechat):
    answer = await to_wechat.gateway.query(order("v2", mch_id="1230000109"))
    assert answer.meaning is Meaning.CONFIGURATION
    assert to_wechat.wechat.heard == []
