"""The control API, the payer's phone and code2session."""

import base64
from datetime import timedelta

import pytest

from adapters.wechat import v2_wire, v3_wire
from tests.simulator_side import NUMBER, OPENID, START, merchant, merchant_key


def v2_params(shop, prepay_id, sign_type="MD5", **change):
    params = {
        "appId": shop.simulator.credentials.appid,
        "timeStamp": str(int(START.timestamp())),
        "nonceStr": "abc",
        "package": f"prepay_id={prepay_id}",
        "signType": sign_type,
        **change,
    }
    return {**params, "paySign": v2_wire.sign(params, shop.simulator.credentials.api_key, sign_type)}


def v3_params(shop, prepay_id, **change):
    parts = {"package": f"prepay_id={prepay_id}", "nonceStr": "abc", **change}
    appid, stamp = shop.simulator.credentials.appid, str(int(START.timestamp()))
    message = v3_wire.pay_message(appid, stamp, parts["nonceStr"], parts["package"])
    signed = {"timeStamp": stamp, "signType": "RSA", "paySign": v3_wire.sign(merchant_key(), message)}
    return {**signed, **parts}


@pytest.mark.parametrize("sign_type", ["MD5", "HMAC-SHA256"])
async def test_v2_pay_params_are_checked_as_the_app_checks_them(sign_type):
    other = {"MD5": "HMAC-SHA256", "HMAC-SHA256": "MD5"}[sign_type]
    async with merchant() as shop:
        prepay_id = (await shop.place_v2(sign_type=sign_type))["prepay_id"]
        wrong = v2_params(shop, prepay_id, other)
        told = await shop.sim("pay", {"pay_params": wrong}, status=400)
        assert (told["error"], told["errMsg"]) == ("PAY_SIGN_ERROR", "requestPayment:fail 支付验证签名失败")
        paid = await shop.sim("pay", {"pay_params": v2_params(shop, prepay_id, sign_type)})
        assert (paid["errMsg"], paid["trade_state"]) == ("requestPayment:ok", "SUCCESS")


async def test_r1_v3_pay_params_are_checked_as_the_app_checks_them():
    async with merchant() as shop:
        prepay_id = (await shop.place_v3())[1]["prepay_id"]
        bare = v3_params(shop, prepay_id, package=prepay_id)
        assert (await shop.sim("pay", {"pay_params": bare}, status=400))["error"] == "PARAM_ERROR"
        good = v3_params(shop, prepay_id)
        for name, value in {
            "paySign": good["paySign"][:-8] + "AAAAAAA=",
            "nonceStr": "abd",
            "signType": "MD5",
        }.items():
            told = await shop.sim("pay", {"pay_params": {**good, name: value}}, status=400)
            assert told["error"] == "PAY_SIGN_ERROR"
        assert (await shop.sim("pay", {"pay_params": good}))["out_trade_no"] == NUMBER


@pytest.mark.parametrize(
    "change",
    [
        {"timeStamp": 1704164645},
        {"timeStamp": "1704164645000"},
        {"nonceStr": "x" * 33},
        {"paySign": ""},
        {"signType": None},
    ],
)
async def test_pay_params_of_the_wrong_shape_are_refused(change):
    async with merchant() as shop:
        params = v3_params(shop, (await shop.place_v3())[1]["prepay_id"])
        told = await shop.sim("pay", {"pay_params": {**params, **change}}, status=400)
        assert told["error"] == "PARAM_ERROR"


async def test_another_mini_programs_pay_params_are_refused():
    async with merchant() as shop:
        params = v2_params(shop, (await shop.place_v2())["prepay_id"], appId="wx1")
        told = await shop.sim("pay", {"pay_params": params}, status=400)
        assert told["error"] == "APPID_MCHID_NOT_MATCH"


async def test_r12_a_prepay_id_lives_two_hours():
    async with merchant() as shop:
        first = (await shop.place_v3())[1]["prepay_id"]
        await shop.advance(hours=2)
        assert (await shop.sim("pay", {"out_trade_no": NUMBER}, status=400))["error"] == "PREPAY_EXPIRED"
        second = (await shop.place_v3())[1]["prepay_id"]
        told = await shop.sim("pay", {"pay_params": v3_params(shop, first)}, status=400)
        assert told["error"] == "PREPAY_EXPIRED"
        await shop.sim("pay", {"pay_params": v3_params(shop, second)})


async def test_an_order_is_paid_once():
    async with merchant() as shop:
        await shop.place_v3()
        await shop.pay()
        assert (await shop.sim("pay", {"out_trade_no": NUMBER}, status=400))["error"] == "ORDER_PAID"
        assert (await shop.sim("fail", {"out_trade_no": NUMBER}, status=400))["error"] == "ORDER_PAID"
        await shop.sim("pay", {"out_trade_no": "NOBODY"}, status=404)
        await shop.sim("pay", {"pay_params": v3_params(shop, "wx1")}, status=404)


async def test_orders_are_shown_as_they_are():
    async with merchant() as shop:
        await shop.place_v2("NUMBER2")
        await shop.place_v3("NUMBER3", attach="a")
        await shop.pay("NUMBER3")
        orders = (await shop.sim("orders"))["orders"]
        shown = [(each["out_trade_no"], each["version"], each["trade_state"]) for each in orders]
        assert shown == [("NUMBER2", "v2", "NOTPAY"), ("NUMBER3", "v3", "SUCCESS")]
        (one,) = (await shop.sim("orders?out_trade_no=NUMBER3"))["orders"]
        assert (one["total_fee"], one["openid"], one["attach"]) == (100, OPENID, "a")
        assert one["paid_at"] == START.isoformat()


async def test_wechat_s_clock_can_disagree_with_the_caller_s():
    """R5: on the wire alone, in Date and in signatures; the calendar stays."""
    async with merchant() as shop:
        told = await shop.sim("clock", {"skew_seconds": -90})
        assert told == {"now": START.isoformat(), "wire_now": (START - timedelta(seconds=90)).isoformat()}
        _, _, headers, _ = await shop.query_v3()
        assert headers["Date"] == "Tue, 02 Jan 2024 03:02:35 GMT"
        assert int(headers["Wechatpay-Timestamp"]) == int(START.timestamp()) - 90
        await shop.sim("clock", {"skew_seconds": "much"}, status=400)
        await shop.sim("reset", {})
        assert (await shop.sim("clock"))["wire_now"] == START.isoformat()


async def test_the_clock_moves_ahead_and_never_back():
    async with merchant() as shop:
        told = await shop.sim("clock", {"advance_seconds": 3600})
        assert told == {"now": "2024-01-02T04:04:05+00:00", "wire_now": "2024-01-02T03:04:05+00:00"}
        assert await shop.sim("clock") == told
        for wrong in (-1, True, "1", None, 10**12):
            await shop.sim("clock", {"advance_seconds": wrong}, status=400)
        await shop.sim("clock", {}, status=400)
        with pytest.raises(ValueError, match="backwards"):
            shop.simulator.clock.advance(START - START.replace(hour=4))


async def test_orders_can_still_be_placed_after_an_advance_and_expire_as_asked():
    async with merchant() as shop:
        await shop.advance(days=3)
        await shop.place_v2("NUMBER2", time_expire="20240102113405")  # in half an hour by the shared time
        await shop.place_v3("NUMBER3", time_expire="2024-01-02T11:34:05+08:00")
        await shop.advance(minutes=29)
        states = {each["trade_state"] for each in (await shop.sim("orders"))["orders"]}
        assert states == {"NOTPAY"}
        await shop.advance(minutes=1)
        states = {each["trade_state"] for each in (await shop.sim("orders"))["orders"]}
        assert states == {"CLOSED"}


async def test_advancing_lets_notifications_go_out():
    async with merchant() as shop:
        shop.answer = (500, b"")
        await shop.place_v3()
        await shop.sim("pay", {"out_trade_no": NUMBER})
        await shop.sim("settle", {})
        await shop.sim("clock", {"advance_seconds": 86640})
        await shop.sim("settle", {})
        assert len(shop.heard) == 16


async def test_reset_forgets_everything_but_the_keys():
    async with merchant() as shop:
        shop.answer = (500, b"")
        await shop.place_v3()
        await shop.pay()
        await shop.sim("faults", {"calls": {"cut_after": 1}})
        await shop.sim("clock", {"advance_seconds": 60})
        await shop.simulator.settle()
        heard = len(shop.heard)
        await shop.sim("reset", {})
        await shop.advance(days=3)
        assert len(shop.heard) == heard
        for shelf in ("orders", "refunds", "notifications", "calls"):
            assert (await shop.sim(shelf))[shelf] == []
        assert (await shop.place_v3())[0] == 200


@pytest.mark.parametrize("call", ["pay", "fail", "login", "faults", "clock"])
async def test_a_control_call_that_makes_no_sense_is_refused(call):
    async with merchant() as shop:
        url = f"{shop.simulator.url}/_sim/{call}"
        for body in (b"{", b"[]", b"\xff"):
            async with shop.session.post(url, data=body) as response:
                assert response.status == 400
                assert (await response.json())["error"] == "BAD_COMMAND"


async def test_more_nonsense_is_refused():
    async with merchant() as shop:
        await shop.sim("pay", {"out_trade_no": 7}, status=400)
        await shop.sim("pay", {"out_trade_no": NUMBER, "bank_type": "\x00"}, status=400)
        await shop.sim("login", {"name": "a b"}, status=400)
        for wrong in (
            {"surprise": 1},
            {"public_key_percent": 101},
            {"public_key_percent": True},
            {"in_seconds": -1},
        ):
            await shop.sim("rotate-keys", wrong, status=400)


# -------------------------------------------------------------------- code2session


async def login(shop, js_code, **change):
    credentials = shop.simulator.credentials
    asked = {
        "appid": credentials.appid,
        "secret": credentials.app_secret,
        "js_code": js_code,
        "grant_type": "authorization_code",
        **change,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    async with shop.session.get(f"{shop.simulator.url}/sns/jscode2session", params=asked) as response:
        assert (response.status, response.content_type) == (200, "text/plain")
        return await response.json(content_type=None)


async def test_r20_a_code_gives_a_stable_openid():
    async with merchant() as shop:
        first, again = await login(shop, "code-alice"), await login(shop, "code-alice.2")
        other = await login(shop, "code-bob")
        assert first["openid"] == again["openid"] != other["openid"]
        assert len(first["openid"]) == 28
        assert len(base64.b64decode(first["session_key"])) == 16
        assert first["session_key"] != again["session_key"]
        assert (await login(shop, f"code-{OPENID}"))["openid"] == OPENID
        assert (await shop.place_v3(payer={"openid": first["openid"]}))[0] == 200


async def test_a_code_is_good_once_and_for_five_minutes():
    async with merchant() as shop:
        await login(shop, "code-alice")
        assert (await login(shop, "code-alice"))["errcode"] == 40163
        fresh = (await shop.sim("login", {"name": "alice"}))["js_code"]
        stale = (await shop.sim("login", {"name": "alice"}))["js_code"]
        assert "openid" in await login(shop, fresh)
        await shop.advance(minutes=5)
        assert (await login(shop, stale))["errcode"] == 40029


@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        ({"appid": "wx1"}, 40013),
        ({"secret": "0" * 32}, 40125),
        ({"js_code": None}, 41008),
        ({"js_code": "nonsense"}, 40029),
        ({"js_code": "code-有人"}, 40029),
        ({"grant_type": "client_credential"}, 40002),
    ],
)
async def test_a_login_that_is_wrong_is_refused(change, errcode):
    async with merchant() as shop:
        answer = await login(shop, **{"js_code": "code-alice", **change})
        assert (answer["errcode"], "openid" in answer) == (errcode, False)


async def test_login_can_be_busy():
    async with merchant() as shop:
        await shop.sim("faults", {"calls": {"system_error": {"next": 1, "on": "login"}}})
        assert (await login(shop, "code-alice"))["errcode"] == -1
        assert "openid" in await login(shop, "code-alice")
