"""Every fault of the simulator on calls, and every error code it knows."""

import aiohttp
import pytest

from adapters.wechat.simulator.codes import CODES
from adapters.wechat.simulator.faults import BadFault, Faults
from adapters.wechat.v3_wire import Rejected
from tests.simulator_side import NUMBER, merchant

BROKEN = "ServerDisconnectedError"


async def outcome(call):
    """What a client sees of a call that may break."""
    try:
        return await call
    except aiohttp.ClientError as error:
        return type(error).__name__


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize(("kind", "seen"), [("timeout", BROKEN), ("cut", BROKEN), ("unavailable", "502")])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_answer_can_be_lost_before_and_after_wechat_acted(version, kind, seen, when):
    async with merchant() as shop:
        await shop.sim("faults", {"calls": {f"{kind}_{when}": {"next": 1, "on": "order"}}})
        shop.simulator.silence_seconds = 0  # nobody has the patience here
        if version == "v2":
            url, body, headers = "/pay/unifiedorder", shop.v2_signed(shop.v2_order()), {}
        else:
            url = "/v3/pay/transactions/jsapi"
            body, headers = shop.v3_signed("POST", url, shop.v3_order())
        result = await outcome(status_of(shop, url, body, headers))
        assert result == seen
        assert bool(shop.simulator.book.orders) is (when == "after")
        assert await status_of(shop, url, body, headers) == "200"
        calls = (await shop.sim("calls"))["calls"]
        assert [call["fault"] for call in calls] == [f"{kind}_{when}", ""]
        assert calls[1]["status"] == 200


async def status_of(shop, url, body, headers):
    async with shop.session.post(shop.simulator.url + url, data=body, headers=headers) as response:
        await response.read()
        return str(response.status)


async def test_a_wrong_signature_does_not_verify():
    async with merchant() as shop:
        await shop.sim("faults", {"calls": {"wrong_signature": {"next": 2}}})
        assert not shop.is_signed(await shop.place_v2("NUMBER2"))
        _, _, headers, raw = await shop.place_v3("NUMBER3")
        with pytest.raises(Rejected, match="signature"):
            shop.check(headers, raw)


async def test_an_answer_can_be_unsigned():
    async with merchant() as shop:
        await shop.sim("faults", {"calls": {"unsigned": {"next": 2}}})
        assert "sign" not in await shop.place_v2("NUMBER2")
        _, _, headers, raw = await shop.place_v3("NUMBER3")
        with pytest.raises(Rejected, match="missing_header"):
            shop.check(headers, raw)


async def test_an_answer_can_be_a_probe():
    async with merchant() as shop:
        await shop.sim("faults", {"calls": {"probe": {"next": 2}}})
        assert not shop.is_signed(await shop.place_v2("NUMBER2"))
        _, _, headers, raw = await shop.place_v3("NUMBER3")
        with pytest.raises(Rejected, match="probe"):
            shop.check(headers, raw)


@pytest.mark.parametrize(("kind", "acted"), [("system_error", False), ("system_error_after", True)])
async def test_a_system_error_leaves_open_whether_it_was_done(kind, acted):
    async with merchant() as shop:
        await shop.sim("faults", {"calls": {kind: {"next": 2}}})
        answer = await shop.place_v2("NUMBER2")
        assert answer == {
            "return_code": "SUCCESS",
            "return_msg": "OK",
            "result_code": "FAIL",
            "err_code": "SYSTEMERROR",
            "err_code_des": "系统超时",
        }
        status, refused, _, _ = await shop.place_v3("NUMBER3")
        assert (status, refused["code"]) == (500, "SYSTEM_ERROR")
        assert set(shop.simulator.book.orders) == ({"NUMBER2", "NUMBER3"} if acted else set())


@pytest.mark.parametrize("code", sorted(CODES))
async def test_every_code_can_be_had_in_both_spellings(code):
    async with merchant() as shop:
        await shop.sim("faults", {"calls": {"refuse": {"next": 2, "code": code}}})
        answer = await shop.v2("/pay/orderquery", {"out_trade_no": NUMBER})
        assert (answer["err_code"], shop.is_signed(answer)) == (CODES[code].v2, True)
        status, refused, headers, raw = await shop.query_v3()
        assert (status, refused["code"]) == (CODES[code].status, CODES[code].v3)
        assert headers["Request-ID"].endswith(f"-{CODES[code].number}")
        shop.check(headers, raw)


async def test_a_fault_meets_only_the_operations_it_names():
    async with merchant() as shop:
        await shop.sim("faults", {"calls": {"refuse": {"rate": 1, "on": ["close"], "code": "NO_AUTH"}}})
        assert (await shop.place_v3())[0] == 200
        assert (await shop.query_v3())[0] == 200
        assert (await shop.close_v3())[1]["code"] == "NO_AUTH"


async def test_faults_are_shown_and_cleared():
    async with merchant() as shop:
        shown = await shop.sim("faults", {"seed": 3, "calls": {"cut_after": 0.25}})
        assert shown["calls"]["cut_after"]["rate"] == 0.25
        assert shown == await shop.sim("faults")
        shown = await shop.sim("faults", {"clear": True})
        assert shown == {"seed": 3, "calls": {}, "notifications": {}, "refunds": {}}


@pytest.mark.parametrize(
    "wanted",
    [
        {"weather": {}},
        {"calls": 1},
        {"calls": {"rain": 1}},
        {"calls": {"cut_after": 1.1}},
        {"calls": {"cut_after": -1}},
        {"calls": {"cut_after": "often"}},
        {"calls": {"cut_after": True}},
        {"calls": {"cut_after": {}}},
        {"calls": {"cut_after": {"next": 1.5}}},
        {"calls": {"cut_after": {"next": 1, "on": "lunch"}}},
        {"calls": {"cut_after": {"next": 1, "on": [["order"]]}}},
        {"calls": {"cut_after": {"next": 1, "on": 7}}},
        {"calls": {"cut_after": {"next": 1, "colour": "red"}}},
        {"calls": {"refuse": {"next": 1, "code": "NO_SUCH"}}},
        {"calls": {"refuse": {"next": 1, "code": []}}},
        {"notifications": {"delay": {"next": 1, "seconds": 10**9}}},
        {"notifications": {"forged": {"next": 1, "field": "body"}}},
        {"seed": "seven"},
    ],
)
async def test_a_fault_that_is_none_changes_nothing(wanted):
    async with merchant() as shop:
        before = await shop.sim("faults", {"calls": {"cut_after": {"next": 1, "on": "close"}}})
        told = await shop.sim("faults", wanted, status=400)
        assert told["error"] == "BAD_COMMAND"
        assert await shop.sim("faults") == before


def test_the_same_seed_draws_the_same_faults():
    def drawn(seed):
        faults = Faults(seed)
        faults.set("calls", "cut_after", rate=0.5)
        return [faults.call("order").kind for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_next_comes_before_rate_and_runs_out():
    faults = Faults()
    faults.set("calls", "cut_after", next=2)
    assert [bool(faults.call("order")) for _ in range(4)] == [True, True, False, False]
    with pytest.raises(BadFault):
        faults.set("calls", "nothing", next=1)
