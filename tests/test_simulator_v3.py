"""V3 against the simulator, over real sockets."""

import json

import pytest

from adapters.wechat import v3_wire
from tests.simulator_side import NUMBER, OPENID, merchant, merchant_key

JSAPI = "/v3/pay/transactions/jsapi"


@pytest.mark.parametrize("public_key_mode", [False, True], ids=["certificates", "public key"])
async def test_an_order_is_placed_paid_told_asked_for_and_every_word_is_signed(public_key_mode):
    async with merchant(public_key_mode=public_key_mode) as shop:
        keys = shop.simulator.platform.keys
        usual = keys.public.serial if public_key_mode else keys.certificates[0].serial
        status, placed, headers, raw = await shop.place_v3(attach="桌 7")
        assert (status, shop.check(headers, raw)) == (200, usual)
        assert headers["Request-ID"].endswith("-0")
        assert placed["prepay_id"].startswith("wx")
        status, asked, headers, raw = await shop.query_v3()
        assert (asked["trade_state"], "amount" in asked) == ("NOTPAY", False)
        await shop.pay()
        (told,) = shop.heard
        assert shop.check(told.headers, told.body) == usual
        assert (told.document["event_type"], len(told.document["id"])) == ("TRANSACTION.SUCCESS", 36)
        status, asked, headers, raw = await shop.query_v3()
        assert shop.check(headers, raw) == usual
        assert told.resource == asked
        assert (asked["trade_state"], asked["amount"]["total"]) == ("SUCCESS", 100)
        assert (asked["success_time"], asked["payer"]) == ("2024-01-02T11:04:05+08:00", {"openid": OPENID})
        mchid = shop.simulator.credentials.mch_id
        url = f"/v3/pay/transactions/id/{asked['transaction_id']}?mchid={mchid}"
        assert (await shop.v3("GET", url))[1] == asked


async def test_closing_answers_204_signed_and_may_be_repeated():
    async with merchant() as shop:
        await shop.place_v3()
        for _ in range(2):
            status, document, headers, raw = await shop.close_v3()
            assert (status, document, raw) == (204, None, b"")
            shop.check(headers, raw)
        assert (await shop.query_v3())[1]["trade_state"] == "CLOSED"
        status, refused, headers, _ = await shop.place_v3()
        assert (status, refused["code"]) == (400, "ORDER_CLOSED")
        assert headers["Request-ID"].endswith("-268447914")


async def test_a_paid_order_is_neither_closed_nor_placed_again():
    async with merchant() as shop:
        await shop.place_v3()
        await shop.pay()
        for answer in (await shop.close_v3(), await shop.place_v3()):
            assert (answer[0], answer[1]["code"]) == (400, "ORDER_PAID")


async def test_r11_a_number_is_ordered_again_only_with_identical_parameters():
    async with merchant() as shop:
        first = await shop.place_v3(time_expire="2024-01-02T12:04:05+08:00")
        again = await shop.place_v3(time_expire="2024-01-02T12:04:05+08:00")
        assert first[1]["prepay_id"] != again[1]["prepay_id"]
        for change in ({"amount": {"total": 101}}, {"description": "水"}, {}):
            status, refused, headers, _ = await shop.place_v3(**change)
            assert (status, refused["code"]) == (403, "OUT_TRADE_NO_USED")
            assert headers["Request-ID"].endswith("-268498688")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"surprise": 1}, 400, "PARAM_ERROR"),
        ({"attach": None}, 400, "PARAM_ERROR"),
        ({"description": ...}, 400, "PARAM_ERROR"),
        ({"description": "茶" * 43}, 400, "PARAM_ERROR"),
        ({"mchid": "1900000001"}, 400, "PARAM_ERROR"),
        ({"appid": "wx0000000000000001"}, 400, "APPID_MCHID_NOT_MATCH"),
        ({"out_trade_no": "ABC"}, 400, "PARAM_ERROR"),
        ({"amount": {"total": 0}}, 400, "PARAM_ERROR"),
        ({"amount": {"total": 1.0}}, 400, "PARAM_ERROR"),
        ({"amount": {"total": True}}, 400, "PARAM_ERROR"),
        ({"amount": {"total": "100"}}, 400, "PARAM_ERROR"),
        ({"amount": {"total": 1, "currency": "USD"}}, 400, "PARAM_ERROR"),
        ({"amount": 100}, 400, "PARAM_ERROR"),
        ({"payer": {"openid": "other-appid-1"}}, 500, "OPENID_MISMATCH"),
        ({"payer": {}}, 400, "PARAM_ERROR"),
        ({"limit_pay": ["cash"]}, 400, "PARAM_ERROR"),
        ({"support_fapiao": "yes"}, 400, "PARAM_ERROR"),
        ({"scene_info": {"payer_client_ip": "1.2.3.4", "colour": "red"}}, 400, "PARAM_ERROR"),
        ({"time_expire": "20240103110405"}, 400, "PARAM_ERROR"),
        ({"time_expire": "2024-01-02T11:05:05+08:00"}, 400, "PARAM_ERROR"),
        ({"time_expire": "2024-13-02T11:05:05+08:00"}, 400, "PARAM_ERROR"),
        ({"time_expire": "2024-05-02T11:05:05+08:00"}, 400, "PARAM_ERROR"),
        ({"notify_url": "https://shop.example/n?a=1"}, 400, "PARAM_ERROR"),
    ],
)
async def test_what_wechat_refuses_is_refused_signed_and_not_kept(change, status, code):
    async with merchant() as shop:
        got, refused, headers, raw = await shop.place_v3(**change)
        assert (got, refused["code"]) == (status, code)
        shop.check(headers, raw)
        assert shop.simulator.book.orders == {}


async def test_an_unknown_field_has_its_own_number():
    async with merchant() as shop:
        _, refused, headers, _ = await shop.place_v3(surprise=1)
        assert headers["Request-ID"].endswith("-270924358")
        assert refused["detail"]["field"] == "/surprise"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(body):
    async with merchant() as shop:
        assert (await shop.v3("POST", JSAPI, body))[1]["code"] == "PARAM_ERROR"


async def test_everything_the_sheet_allows_is_taken():
    goods = {"merchant_goods_id": "g1", "quantity": 1, "unit_price": 100}
    async with merchant() as shop:
        status, *_ = await shop.place_v3(
            detail={"cost_price": 100, "goods_detail": [goods]},
            scene_info={"payer_client_ip": "1.2.3.4", "store_info": {"id": "1"}},
            settle_info={"profit_sharing": False},
            goods_tag="tea",
            limit_pay=["no_credit"],
            support_fapiao=True,
        )
        assert status == 200


async def test_an_unknown_order_is_unknown():
    async with merchant() as shop:
        for answer in (await shop.query_v3(), await shop.close_v3()):
            assert (answer[0], answer[1]["code"]) == (404, "ORDER_NOT_EXIST")
            assert answer[2]["Request-ID"].endswith("-268512771")


@pytest.mark.parametrize("url", ["?mchid=1900000001", "", "?mchid="])
async def test_r4_a_query_names_the_merchant_that_signs_it(url):
    async with merchant() as shop:
        await shop.place_v3()
        answer = await shop.v3("GET", f"/v3/pay/transactions/out-trade-no/{NUMBER}{url}")
        assert answer[1]["code"] == "PARAM_ERROR"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"timestamp": "1704164945"}, 401, "SIGN_ERROR"),  # exactly 300 s ahead
        ({"timestamp": "1704164345"}, 401, "SIGN_ERROR"),
        ({"timestamp": "1704164645000"}, 401, "SIGN_ERROR"),
        ({"serial_no": "ABCDEF"}, 401, "SIGN_ERROR"),
        ({"mchid": "1900000001"}, 400, "MCH_NOT_EXISTS"),
        ({"headers": {"Authorization": "Bearer x"}}, 401, "SIGN_ERROR"),
        ({"headers": {"Authorization": None}}, 401, "SIGN_ERROR"),
        ({"headers": {"Accept": None}}, 400, "PARAM_ERROR"),
        ({"headers": {"Accept": "text/html"}}, 400, "PARAM_ERROR"),
        ({"headers": {"User-Agent": None}}, 400, "PARAM_ERROR"),
        ({"headers": {"Content-Type": "text/plain"}}, 400, "PARAM_ERROR"),
        ({"headers": {"Wechatpay-Serial": "ABCDEF"}}, 400, "PARAM_ERROR"),
        ({"headers": {"Wechatpay-Serial": "PUB_KEY_ID_1"}}, 400, "PARAM_ERROR"),
    ],
)
async def test_who_does_not_call_properly_is_refused(change, status, code):
    async with merchant() as shop:
        answer = await shop.v3("POST", JSAPI, shop.v3_order(), **change)
        assert (answer[0], answer[1]["code"]) == (status, code)
        assert shop.simulator.book.orders == {}


async def test_r3_the_signature_is_over_the_bytes_received():
    async with merchant() as shop:
        spaced = json.dumps(shop.v3_order(), indent=2).encode() + b"\n"
        assert (await shop.v3("POST", JSAPI, spaced))[0] == 200
        header = v3_wire.authorization(
            merchant_key(),
            shop.simulator.credentials.mch_id,
            shop.simulator.credentials.merchant.serial,
            "POST",
            JSAPI,
            json.dumps(shop.v3_order()).encode(),
            str(int(shop.now.timestamp())),
            "nonce",
        )
        status, refused, _, _ = await shop.v3("POST", JSAPI, spaced, headers={"Authorization": header})
        assert (status, refused["code"]) == (401, "SIGN_ERROR")
        assert refused["detail"]["sign_information"]["url"] == JSAPI


@pytest.mark.parametrize("written", ["PAY%7C123456", "PAY%7c123456", "PAY|123456", "P%41Y|123456"])
async def test_r3_the_address_is_signed_as_it_stood_on_the_wire(written):
    async with merchant() as shop:
        await shop.place_v3("PAY|123456")
        mchid = shop.simulator.credentials.mch_id
        url = f"/v3/pay/transactions/out-trade-no/{written}?mchid={mchid}&empty=&x=%2a"
        status, found, _, _ = await shop.v3("GET", url)
        assert (status, found["out_trade_no"]) == (200, "PAY|123456")


async def test_the_request_picks_the_key_of_the_answer():
    async with merchant() as shop:
        keys = shop.simulator.platform.keys
        for serial in (keys.public.serial, keys.certificates[0].serial, keys.certificates[0].serial.lower()):
            _, _, headers, raw = await shop.place_v3(serial=serial)
            assert shop.check(headers, raw).lower() == serial.lower()


async def test_certificates_are_listed_and_the_list_is_signed():
    async with merchant() as shop:
        status, _, headers, raw = await shop.v3("GET", "/v3/certificates")
        credentials = shop.simulator.credentials
        (found,) = v3_wire.read_certificates(raw, credentials.apiv3_key)
        assert (status, found.serial) == (200, credentials.platform.serial)
        assert len(found.serial) == 40
        assert found.pem == credentials.file("platform_cert.pem").read_bytes()
        assert shop.check(headers, raw) == found.serial


async def test_a_public_key_merchant_has_no_certificates():
    async with merchant(public_key_mode=True) as shop:
        status, refused, headers, raw = await shop.v3("GET", "/v3/certificates")
        assert (status, refused["code"]) == (404, "RESOURCE_NOT_EXISTS")
        shop.check(headers, raw)
        serial = shop.simulator.credentials.platform.serial
        assert (await shop.place_v3(serial=serial))[1]["code"] == "PARAM_ERROR"


async def test_a_new_certificate_is_listed_before_it_signs():
    async with merchant() as shop:
        credentials = shop.simulator.credentials
        told = await shop.sim("rotate-keys", {"in_seconds": 86400})
        old, new = told["platform_serials"]
        assert told["signing"] == old
        _, _, _, raw = await shop.v3("GET", "/v3/certificates")
        assert [key.serial for key in v3_wire.read_certificates(raw, credentials.apiv3_key)] == [old, new]
        told = await shop.sim("rotate-keys", {})
        assert told["signing"] == told["platform_serials"][2]
        _, _, headers, raw = await shop.place_v3()
        assert shop.check(headers, raw) == told["signing"]


async def test_r52_during_a_switch_each_notification_names_its_key():
    async with merchant() as shop:
        await shop.sim("rotate-keys", {"public_key_percent": 50})
        for n in range(20):
            await shop.place_v3(f"PAY{n:06}")
            await shop.pay(f"PAY{n:06}")
        serials = {shop.check(told.headers, told.body) for told in shop.heard}
        keys = shop.simulator.platform.keys
        assert serials == {keys.public.serial, keys.certificates[0].serial}
        await shop.sim("rotate-keys", {"public_key_mode": True})
        assert (await shop.v3("GET", "/v3/certificates"))[0] == 404
        await shop.sim("rotate-keys", {"public_key_mode": False})
        assert (await shop.v3("GET", "/v3/certificates"))[0] == 200


async def test_echo_proves_that_signing_works():
    async with merchant() as shop:
        status, document, headers, raw = await shop.v3("POST", "/v3/security/echo", {"hello": "茶"})
        assert (status, json.loads(document["echo"])) == (200, {"hello": "茶"})
        shop.check(headers, raw)
