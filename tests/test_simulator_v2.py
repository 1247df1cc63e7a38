"""V2 against the simulator, over real sockets."""

import pytest

from adapters.wechat import v2_wire
from tests.simulator_side import NUMBER, OPENID, merchant

SIGN_TYPES = ["MD5", "HMAC-SHA256"]


@pytest.mark.parametrize("sign_type", SIGN_TYPES)
async def test_an_order_is_placed_paid_told_and_asked_for(sign_type):
    async with merchant() as shop:
        placed = await shop.place_v2(sign_type=sign_type, attach="桌 7")
        assert placed["prepay_id"].startswith("wx")
        assert shop.is_signed(placed, sign_type)
        asked = await shop.v2("/pay/orderquery", {"out_trade_no": NUMBER}, sign_type)
        assert (asked["trade_state"], "total_fee" in asked) == ("NOTPAY", False)
        await shop.pay()
        (told,) = shop.heard
        assert shop.is_signed(told.fields, sign_type)
        asked = await shop.v2("/pay/orderquery", {"out_trade_no": NUMBER}, sign_type)
        assert shop.is_signed(asked, sign_type)
        assert asked["trade_state"] == "SUCCESS"
        for name, value in {
            "total_fee": "100",
            "openid": OPENID,
            "attach": "桌 7",
            "time_end": "20240102110405",
            "transaction_id": asked["transaction_id"],
        }.items():
            assert (told.fields[name], asked[name]) == (value, value)
        by_transaction = await shop.v2("/pay/orderquery", {"transaction_id": asked["transaction_id"]})
        assert by_transaction["out_trade_no"] == NUMBER


async def test_an_order_is_closed_once():
    async with merchant() as shop:
        await shop.place_v2()
        closed = await shop.v2("/pay/closeorder", {"out_trade_no": NUMBER})
        assert (closed["result_code"], shop.is_signed(closed)) == ("SUCCESS", True)
        again = await shop.v2("/pay/closeorder", {"out_trade_no": NUMBER})
        assert (again["err_code"], shop.is_signed(again)) == ("ORDERCLOSED", True)
        assert (await shop.place_v2())["err_code"] == "ORDERCLOSED"
        asked = await shop.v2("/pay/orderquery", {"out_trade_no": NUMBER})
        assert asked["trade_state"] == "CLOSED"


async def test_a_paid_order_is_neither_closed_nor_placed_again():
    async with merchant() as shop:
        await shop.place_v2()
        await shop.pay()
        assert (await shop.v2("/pay/closeorder", {"out_trade_no": NUMBER}))["err_code"] == "ORDERPAID"
        assert (await shop.place_v2())["err_code"] == "ORDERPAID"


async def test_r11_a_number_is_ordered_again_only_with_identical_parameters():
    async with merchant() as shop:
        first, second = await shop.place_v2(), await shop.place_v2()
        assert first["prepay_id"] != second["prepay_id"]
        for change in ({"total_fee": 101}, {"body": "水"}, {"time_expire": "20240103110405"}):
            assert (await shop.place_v2(**change))["err_code"] == "INVALID_REQUEST"
        assert (await shop.place_v3())[1]["code"] == "OUT_TRADE_NO_USED"


@pytest.mark.parametrize(
    ("change", "err_code"),
    [
        ({"mch_id": "1900000001"}, "MCHID_NOT_EXIST"),
        ({"appid": "wx0000000000000001"}, "APPID_MCHID_NOT_MATCH"),
        ({"appid": None}, "LACK_PARAMS"),
        ({"openid": None}, "LACK_PARAMS"),
        ({"body": None}, "LACK_PARAMS"),
        ({"body": "茶" * 43}, "PARAM_ERROR"),
        ({"attach": "茶" * 43}, "PARAM_ERROR"),
        ({"out_trade_no": "ABC"}, "PARAM_ERROR"),
        ({"out_trade_no": "A" * 33}, "PARAM_ERROR"),
        ({"out_trade_no": "PAY/123456"}, "PARAM_ERROR"),
        ({"total_fee": 0}, "PARAM_ERROR"),
        ({"total_fee": "1.00"}, "PARAM_ERROR"),
        ({"total_fee": "-1"}, "PARAM_ERROR"),
        ({"fee_type": "USD"}, "PARAM_ERROR"),
        ({"trade_type": "NATIVE"}, "NOAUTH"),
        ({"openid": "other-appid-1"}, "PARAM_ERROR"),
        ({"openid": "有人"}, "PARAM_ERROR"),
        ({"spbill_create_ip": "nowhere"}, "PARAM_ERROR"),
        ({"notify_url": "https://shop.example/n?a=1"}, "PARAM_ERROR"),
        ({"notify_url": "ftp://shop.example/n"}, "PARAM_ERROR"),
        ({"notify_url": "http://[oops/n"}, "PARAM_ERROR"),
        ({"time_expire": "20240102110504"}, "PARAM_ERROR"),
        ({"time_expire": "2024-01-03"}, "PARAM_ERROR"),
        ({"time_expire": "20249999999999"}, "PARAM_ERROR"),
        ({"nonce_str": "x" * 33}, "PARAM_ERROR"),
        ({"goods_tag": "x" * 33}, "PARAM_ERROR"),
    ],
)
async def test_what_wechat_refuses_is_refused_signed_and_not_kept(change, err_code):
    async with merchant() as shop:
        answer = await shop.place_v2(**change)
        assert (answer["return_code"], answer["result_code"]) == ("SUCCESS", "FAIL")
        assert (answer["err_code"], shop.is_signed(answer)) == (err_code, True)
        assert shop.simulator.book.orders == {}


async def test_127_bytes_of_body_are_taken():
    async with merchant() as shop:
        assert (await shop.place_v2(body="茶" * 42 + "x"))["result_code"] == "SUCCESS"


@pytest.mark.parametrize(
    ("body", "return_msg"),
    [
        (b"", "post数据为空"),
        (b"<xml><a>", "XML格式错误"),
        (b"<!DOCTYPE xml><xml><a>1</a></xml>", "XML格式错误"),
        ("<xml><a>茶</a></xml>".encode("gbk"), "编码格式错误"),
        (b"<xml><a>1</a></xml>", "签名错误"),
        (b"<xml><a>1</a><sign_type>SHA1</sign_type></xml>", "签名类型错误"),
    ],
)
async def test_what_is_no_request_fails_unsigned(body, return_msg):
    async with merchant() as shop:
        answer = await shop.v2_raw("/pay/unifiedorder", body)
        assert answer == {"return_code": "FAIL", "return_msg": return_msg}


async def test_only_post_is_taken():
    async with merchant() as shop:
        assert (await shop.v2_raw("/pay/orderquery", b"", "GET"))["return_msg"] == "请使用post方法"


async def test_a_changed_byte_breaks_the_sign():
    async with merchant() as shop:
        credentials = shop.simulator.credentials
        fields = {"appid": credentials.appid, "mch_id": credentials.mch_id, "nonce_str": "a"}
        fields["sign"] = v2_wire.sign(fields, credentials.api_key)
        answer = await shop.v2_raw("/pay/orderquery", v2_wire.write({**fields, "out_trade_no": NUMBER}))
        assert answer["return_msg"] == "签名错误"


async def test_an_unknown_order_is_unknown():
    async with merchant() as shop:
        for path in ("/pay/orderquery", "/pay/closeorder"):
            assert (await shop.v2(path, {"out_trade_no": NUMBER}))["err_code"] == "ORDERNOTEXIST"
        answer = await shop.v2("/pay/orderquery", {"transaction_id": "42"})
        assert answer["err_code"] == "ORDERNOTEXIST"
        assert (await shop.v2("/pay/orderquery", {}))["err_code"] == "LACK_PARAMS"


async def test_an_unpaid_order_closes_when_its_time_is_up_or_after_seven_days():
    async with merchant() as shop:
        await shop.place_v2("SHORT1", time_expire="20240102111405")
        await shop.place_v2("LONG01")
        await shop.advance(seconds=599)
        assert (await shop.v2("/pay/orderquery", {"out_trade_no": "SHORT1"}))["trade_state"] == "NOTPAY"
        await shop.advance(seconds=1)
        assert (await shop.v2("/pay/orderquery", {"out_trade_no": "SHORT1"}))["trade_state"] == "CLOSED"
        await shop.advance(days=7)
        assert (await shop.v2("/pay/orderquery", {"out_trade_no": "LONG01"}))["trade_state"] == "CLOSED"


async def test_r17_a_failed_attempt_leaves_the_order_payable():
    async with merchant() as shop:
        await shop.place_v2()
        assert (await shop.sim("fail", {"out_trade_no": NUMBER}))["failed_attempts"] == 1
        assert (await shop.v2("/pay/orderquery", {"out_trade_no": NUMBER}))["trade_state"] == "NOTPAY"
        await shop.sim("fail", {"out_trade_no": NUMBER, "final": True})
        assert (await shop.v2("/pay/orderquery", {"out_trade_no": NUMBER}))["trade_state"] == "PAYERROR"
        await shop.pay()
        assert len(shop.heard) == 1
