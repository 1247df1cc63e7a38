"""Refunds against the simulator: taken at once, done later, told in both versions."""

import ssl
from datetime import datetime, timedelta

import aiohttp
import pytest

from adapters.wechat import v2_wire, v3_wire
from domain.trade import BEIJING
from tests.simulator_side import NUMBER, account, merchant

REFUNDS = "/v3/refund/domestic/refunds"


def v2_refund(number="REF1", **change):
    return {
        "out_trade_no": NUMBER,
        "out_refund_no": number,
        "total_fee": 100,
        "refund_fee": 60,
        **change,
    }


async def paid(shop, version="v3", **how):
    await (shop.place_v2() if version == "v2" else shop.place_v3())
    await shop.pay(**how)
    shop.heard.clear()


def notice(heard):
    """The content of a V2 refund notification, which carries no sign."""
    fields = heard.fields
    assert "sign" not in fields
    return v2_wire.read(v2_wire.open_req_info(fields["req_info"], account().api_key), root="root")


async def test_r38_a_v2_refund_is_accepted_first_and_done_later():
    async with merchant() as shop:
        await paid(shop, "v2")
        taken = await shop.v2("/secapi/pay/refund", v2_refund(notify_url=shop.notify_url))
        assert (taken["result_code"], taken["refund_fee"], shop.is_signed(taken)) == ("SUCCESS", "60", True)
        asked = await shop.v2("/pay/refundquery", {"out_refund_no": "REF1"})
        assert (asked["refund_status_0"], asked["refund_count"]) == ("PROCESSING", "1")
        assert "refund_success_time_0" not in asked
        assert (await shop.v2("/pay/orderquery", {"out_trade_no": NUMBER}))["trade_state"] == "REFUND"
        assert shop.heard == []
        await shop.advance(seconds=3)
        told = notice(shop.heard[0])
        assert (told["refund_status"], told["refund_fee"], told["out_refund_no"]) == ("SUCCESS", "60", "REF1")
        assert told["success_time"] == "2024-01-02 11:04:08"
        for by in ({"refund_id": told["refund_id"]}, {"out_trade_no": NUMBER}, {"out_refund_no": "REF1"}):
            asked = await shop.v2("/pay/refundquery", by)
            assert (asked["refund_status_0"], asked["refund_id_0"]) == ("SUCCESS", told["refund_id"])
            assert asked["refund_success_time_0"] == told["success_time"]


async def test_r38_a_v3_refund_is_accepted_first_and_done_later():
    async with merchant() as shop:
        await paid(shop)
        status, taken, headers, raw = await shop.refund_v3(notify_url=shop.notify_url, reason="凉了")
        shop.check(headers, raw)
        assert (status, taken["status"], "success_time" in taken) == (200, "PROCESSING", False)
        assert (await shop.query_v3())[1]["trade_state"] == "REFUND"
        await shop.advance(seconds=3)
        (told,) = shop.heard
        shop.check(told.headers, told.body)
        assert (told.document["event_type"], told.resource["refund_status"]) == ("REFUND.SUCCESS", "SUCCESS")
        assert "status" not in told.resource
        asked = (await shop.v3("GET", f"{REFUNDS}/REF1"))[1]
        assert (asked["status"], asked["refund_id"]) == ("SUCCESS", told.resource["refund_id"])
        assert asked["amount"]["refund"] == told.resource["amount"]["refund"] == 60


async def test_a_refund_without_notify_url_is_told_where_the_platform_setting_says():
    async with merchant() as shop:
        await paid(shop)
        await shop.refund_v3()
        await shop.advance(seconds=3)
        (told,) = (await shop.sim("notifications"))["notifications"][1:]
        assert told["notify_url"] == shop.simulator.credentials.notify_url


async def test_r34_the_same_number_and_amount_is_the_same_refund():
    async with merchant() as shop:
        await paid(shop)
        first = (await shop.refund_v3())[1]
        assert (await shop.refund_v3())[1] == first
        again = await shop.v2("/secapi/pay/refund", v2_refund())
        assert again["refund_id"] == first["refund_id"]
        assert len(shop.simulator.book.refunds) == 1


async def test_the_same_number_with_another_amount_is_refused():
    async with merchant() as shop:
        await paid(shop)
        await shop.refund_v3()
        answer = await shop.v2("/secapi/pay/refund", v2_refund(refund_fee=61))
        assert answer["err_code"] == "REFUND_FEE_MISMATCH"
        other = {"refund": 61, "total": 100, "currency": "CNY"}
        assert (await shop.refund_v3(amount=other))[1]["code"] == "INVALID_REQUEST"


async def test_a_refund_number_belongs_to_one_order():
    async with merchant() as shop:
        await paid(shop)
        await shop.refund_v3()
        await shop.place_v3("ANOTHER1")
        await shop.pay("ANOTHER1")
        answer = await shop.v2("/secapi/pay/refund", v2_refund(out_trade_no="ANOTHER1"))
        assert answer["err_code"] == "REFUND_FEE_MISMATCH"


async def test_r35_refunds_never_exceed_the_payment_but_a_closed_one_frees_its_part():
    async with merchant() as shop:
        await paid(shop)
        await shop.refund_v3("REF1")
        assert (await shop.v2("/secapi/pay/refund", v2_refund("REF2")))["err_code"] == "INVALID_REQUEST"
        assert (await shop.refund_v3("REF2"))[1]["code"] == "INVALID_REQUEST"
        await shop.sim("refunds/REF1/abnormal", {})
        assert (await shop.refund_v3("REF2"))[1]["code"] == "INVALID_REQUEST"
        await shop.sim("refunds/REF1/close", {})
        assert (await shop.refund_v3("REF2"))[0] == 200


async def test_r36_fifty_refunds_and_no_more():
    async with merchant() as shop:
        await paid(shop)
        amount = {"refund": 1, "total": 100, "currency": "CNY"}
        for n in range(50):
            assert (await shop.refund_v3(f"REF{n}", amount=amount))[0] == 200
        assert (await shop.refund_v3("REF50", amount=amount))[1]["code"] == "INVALID_REQUEST"
        page = await shop.v2("/pay/refundquery", {"out_trade_no": NUMBER, "offset": 45})
        assert (page["refund_count"], page["total_refund_count"]) == ("5", "50")
        assert page["out_refund_no_0"] == "REF45"
        page = await shop.v2("/pay/refundquery", {"out_trade_no": NUMBER})
        assert (page["refund_count"], page["out_refund_no_9"]) == ("10", "REF9")
        past = await shop.v2("/pay/refundquery", {"out_trade_no": NUMBER, "offset": 50})
        assert past["err_code"] == "PARAM_ERROR"


async def test_r37_after_a_year_it_is_too_late():
    async with merchant() as shop:
        await paid(shop)
        await shop.advance(days=366)
        assert (await shop.v2("/secapi/pay/refund", v2_refund()))["err_code"] == "TRADE_OVERDUE"
        assert (await shop.refund_v3())[1]["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("change", "v2_code", "v3_code"),
    [
        ({"out_trade_no": "NOBODY1"}, "ORDERNOTEXIST", "RESOURCE_NOT_EXISTS"),
        ({"out_trade_no": None, "transaction_id": "42"}, "ORDERNOTEXIST", "RESOURCE_NOT_EXISTS"),
        ({"out_trade_no": None}, "LACK_PARAMS", "PARAM_ERROR"),
        ({"out_refund_no": "a b"}, "PARAM_ERROR", "PARAM_ERROR"),
        ({"notify_url": "nowhere"}, "PARAM_ERROR", "PARAM_ERROR"),
        ({"total": 99}, "INVALID_REQUEST", "INVALID_REQUEST"),
        ({"refund": 101}, "INVALID_REQUEST", "INVALID_REQUEST"),
        ({"refund": 0}, "PARAM_ERROR", "PARAM_ERROR"),
    ],
)
async def test_a_refund_that_cannot_be_is_refused(change, v2_code, v3_code):
    async with merchant() as shop:
        await paid(shop)
        total, refund = change.pop("total", 100), change.pop("refund", 60)
        answer = await shop.v2("/secapi/pay/refund", v2_refund(total_fee=total, refund_fee=refund, **change))
        assert answer["err_code"] == v2_code
        document = shop.v3_refund(**{k: v for k, v in change.items() if k != "out_refund_no"})
        document |= {"out_refund_no": change.get("out_refund_no", "REF1")}
        document = {name: value for name, value in document.items() if value is not None}
        document["amount"] |= {"total": total, "refund": refund}
        assert (await shop.v3("POST", REFUNDS, document))[1]["code"] == v3_code
        assert shop.simulator.book.refunds == {}


async def test_an_unpaid_order_cannot_be_refunded():
    async with merchant() as shop:
        await shop.place_v3()
        assert (await shop.v2("/secapi/pay/refund", v2_refund()))["err_code"] == "ORDERNOTEXIST"
        assert (await shop.refund_v3())[:1] == (404,)


async def test_the_parts_of_a_refund_add_up():
    async with merchant() as shop:
        await paid(shop)
        amount = {"refund": 60, "total": 100, "currency": "CNY"}
        parts = [{"account": "AVAILABLE", "amount": 50}]
        assert (await shop.refund_v3(amount={**amount, "from": parts}))[1]["code"] == "PARAM_ERROR"
        parts.append({"account": "UNAVAILABLE", "amount": 10})
        assert (await shop.refund_v3(amount={**amount, "from": parts}))[0] == 200


async def test_an_unknown_refund_is_unknown():
    async with merchant() as shop:
        await paid(shop)
        answer = await shop.v2("/pay/refundquery", {"out_trade_no": NUMBER})
        assert answer["err_code"] == "REFUNDNOTEXIST"
        answer = await shop.v2("/pay/refundquery", {"out_refund_no": "REF1"})
        assert answer["err_code"] == "REFUNDNOTEXIST"
        assert (await shop.v3("GET", f"{REFUNDS}/REF1"))[1]["code"] == "RESOURCE_NOT_EXISTS"


async def test_r40_a_refund_to_a_card_takes_working_days():
    async with merchant() as shop:
        await paid(shop, bank_type="CMB_CREDIT")
        shop.simulator.clock.advance(timedelta(days=3))  # from Tuesday to Friday
        await shop.refund_v3()
        (refund,) = (await shop.sim("refunds"))["refunds"]
        due_at = datetime.fromisoformat(refund["due_at"]).astimezone(BEIJING)
        assert due_at.weekday() in {0, 1, 2}  # Saturday and Sunday do not count
        await shop.advance(days=2)
        assert (await shop.v3("GET", f"{REFUNDS}/REF1"))[1]["status"] == "PROCESSING"
        await shop.advance(days=4)
        assert (await shop.v3("GET", f"{REFUNDS}/REF1"))[1]["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("fault", "v2_state", "v3_state"),
    [("abnormal", "CHANGE", "ABNORMAL"), ("closed", "REFUNDCLOSE", "CLOSED")],
)
async def test_a_refund_can_end_otherwise(fault, v2_state, v3_state):
    async with merchant() as shop:
        await paid(shop)
        await shop.sim("faults", {"refunds": {fault: {"next": 2}}})
        half = {"refund": 50, "total": 100, "currency": "CNY"}
        await shop.refund_v3(amount=half, notify_url=shop.notify_url)
        await shop.v2("/secapi/pay/refund", v2_refund("REF2", refund_fee=50, notify_url=shop.notify_url))
        await shop.advance(seconds=3)
        in_v3, in_v2 = shop.heard
        assert in_v3.document["event_type"] == f"REFUND.{v3_state}"
        assert in_v3.resource["refund_status"] == v3_state
        assert notice(in_v2)["refund_status"] == v2_state
        asked = await shop.v2("/pay/refundquery", {"out_trade_no": NUMBER})
        assert (asked["refund_status_0"], asked["refund_status_1"]) == (v2_state, v2_state)


async def test_a_refund_can_be_slow():
    async with merchant() as shop:
        await paid(shop)
        await shop.sim("faults", {"refunds": {"delay": {"next": 1, "seconds": 86400}}})
        await shop.refund_v3()
        await shop.advance(seconds=86399)
        assert (await shop.v3("GET", f"{REFUNDS}/REF1"))[1]["status"] == "PROCESSING"
        await shop.advance(seconds=1)
        assert (await shop.v3("GET", f"{REFUNDS}/REF1"))[1]["status"] == "SUCCESS"


async def test_an_ended_refund_stays_ended():
    async with merchant() as shop:
        await paid(shop)
        await shop.refund_v3(notify_url=shop.notify_url)
        await shop.sim("refunds/REF1/succeed", {})
        for end in ("succeed", "abnormal", "close"):
            await shop.sim(f"refunds/REF1/{end}", {}, status=400)
        await shop.advance(days=9)
        assert len(shop.heard) == 1
        await shop.sim("refunds/REF1/forget", {}, status=400)
        await shop.sim("refunds/REF2/succeed", {}, status=404)


async def abnormal(shop):
    await paid(shop)
    await shop.sim("faults", {"refunds": {"abnormal": {"next": 1}}})
    refund_id = (await shop.refund_v3(notify_url=shop.notify_url))[1]["refund_id"]
    return f"{REFUNDS}/{refund_id}/apply-abnormal-refund"


async def test_r39_an_abnormal_refund_is_sent_another_way_by_hand():
    async with merchant() as shop:
        url = await abnormal(shop)
        asked = {"out_refund_no": "REF1", "type": "MERCHANT_BANK_CARD"}
        assert (await shop.v3("POST", url, asked))[1]["code"] == "INVALID_REQUEST"
        await shop.advance(seconds=3)
        assert (await shop.v3("POST", url, asked))[1]["status"] == "PROCESSING"
        await shop.advance(days=5)
        assert [heard.document["event_type"] for heard in shop.heard] == ["REFUND.ABNORMAL", "REFUND.SUCCESS"]


async def test_a_payers_card_is_named_in_sealed_fields_only():
    async with merchant() as shop:
        url = await abnormal(shop)
        await shop.advance(seconds=3)
        public = shop.simulator.platform.keys.public
        sealed = v3_wire.encrypt_field(public.key.public_key(), "6225000000000000")
        asked = {
            "out_refund_no": "REF1",
            "type": "USER_BANK_CARD",
            "bank_type": "CMB_DEBIT",
            "bank_account": sealed,
            "real_name": sealed,
        }
        in_clear = {**asked, "bank_account": "6225000000000000"}
        for document, serial in ((asked, ""), (in_clear, public.serial), ({**asked, "type": "CASH"}, "")):
            status, refused, _, _ = await shop.v3("POST", url, document, serial=serial)
            assert (status, refused["code"]) == (400, "PARAM_ERROR")
        status, refused, _, _ = await shop.v3("POST", url, {**asked, "real_name": ""}, serial=public.serial)
        assert (status, refused["code"]) == (400, "PARAM_ERROR")
        wrong = url.replace("/503", "/504")
        assert (await shop.v3("POST", wrong, asked, serial=public.serial))[0] == 404
        assert (await shop.v3("POST", url, asked, serial=public.serial))[1]["status"] == "PROCESSING"


@pytest.mark.parametrize(("kind", "acted"), [("cut_before", False), ("cut_after", True)])
async def test_a_refund_call_can_be_lost_on_either_side_of_the_act(kind, acted):
    async with merchant() as shop:
        await paid(shop)
        await shop.sim("faults", {"calls": {kind: {"next": 1, "on": ["refund"]}}})
        with pytest.raises(aiohttp.ClientError):
            await shop.refund_v3()
        assert bool(shop.simulator.book.refunds) is acted
        assert (await shop.refund_v3())[0] == 200


async def test_not_enough_funds_refuses_until_there_are():
    async with merchant() as shop:
        await paid(shop)
        await shop.sim("faults", {"calls": {"refuse": {"next": 2, "on": "refund", "code": "NOT_ENOUGH"}}})
        assert (await shop.v2("/secapi/pay/refund", v2_refund()))["err_code"] == "NOTENOUGH"
        assert (await shop.refund_v3())[1]["code"] == "NOT_ENOUGH"
        assert (await shop.refund_v3())[0] == 200


# -------------------------------------------------------------------- mutual TLS (V2)


def context(*, certificate=True):
    made = ssl.create_default_context(cafile=account().file("tls_cert.pem"))
    if certificate:
        made.load_cert_chain(account().file("apiclient_cert.pem"), account().file("apiclient_key.pem"))
    return made


async def refund_over_tls(shop, tls):
    url = f"{shop.simulator.tls_url}/secapi/pay/refund"
    async with shop.session.post(url, data=shop.v2_signed(v2_refund()), ssl=tls) as response:
        return v2_wire.read(await response.read())


async def test_over_tls_a_v2_refund_shows_the_merchants_certificate():
    async with merchant(tls=True) as shop:
        await paid(shop, "v2")
        refused = await refund_over_tls(shop, context(certificate=False))
        assert refused["err_code"] == "CERT_ERROR"
        assert shop.simulator.book.refunds == {}
        assert (await refund_over_tls(shop, context()))["result_code"] == "SUCCESS"
        shown = [call["client_certificate"] for call in (await shop.sim("calls"))["calls"]]
        assert shown == ["not asked", "none", "merchant"]


async def test_over_tls_another_certificate_does_not_come_through():
    async with merchant(tls=True) as shop:
        stranger = context(certificate=False)
        stranger.load_cert_chain(account().file("platform_cert.pem"), account().own_file("platform_key.pem"))
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await refund_over_tls(shop, stranger)


async def test_over_plain_http_a_v2_refund_is_taken_and_noted():
    async with merchant() as shop:
        await paid(shop, "v2")
        assert (await shop.v2("/secapi/pay/refund", v2_refund()))["result_code"] == "SUCCESS"
        last = (await shop.sim("calls"))["calls"][-1]
        assert (last["operation"], last["client_certificate"]) == ("refund", "not asked")
