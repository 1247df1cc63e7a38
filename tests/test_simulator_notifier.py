"""How the simulator notifies: WeChat's schedule, and everything that can go wrong on the way."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from adapters.wechat.simulator.notifier import SCHEDULE_SECONDS
from adapters.wechat.v3_wire import Rejected
from tests.simulator_side import NUMBER, START, merchant

VERSIONS = ["v2", "v3"]


async def place(shop, version, number=NUMBER):
    await (shop.place_v2(number) if version == "v2" else shop.place_v3(number))


async def told_of(shop, number=NUMBER):
    found = (await shop.sim("notifications"))["notifications"]
    return [each for each in found if each["out_trade_no"] == number]


@pytest.mark.parametrize("version", VERSIONS)
async def test_r29_unheard_news_is_told_15_times_more_over_24_hours_and_4_minutes(version):
    async with merchant() as shop:
        shop.answer = (500, b"")
        await place(shop, version)
        await shop.pay()
        assert len(shop.heard) == 1
        await shop.advance(seconds=14)
        assert len(shop.heard) == 1
        await shop.advance(seconds=1)
        assert len(shop.heard) == 2
        await shop.advance(days=3)
        (told,) = await told_of(shop)
        moments = [datetime.fromisoformat(attempt["due_at"]) for attempt in told["attempts"]]
        assert [later - earlier for earlier, later in pairwise(moments)] == [
            timedelta(seconds=seconds) for seconds in SCHEDULE_SECONDS
        ]
        assert (len(SCHEDULE_SECONDS), moments[-1] - moments[0]) == (15, timedelta(seconds=86640))
        assert (len(shop.heard), told["heard"], told["given_up"]) == (16, False, True)
        await shop.advance(days=30)
        assert len(shop.heard) == 16


@pytest.mark.parametrize("version", VERSIONS)
async def test_news_that_is_heard_is_not_told_again(version):
    async with merchant() as shop:
        shop.answer = (503, b"later")
        await place(shop, version)
        await shop.pay()
        await shop.advance(seconds=15)
        shop.answer = (200, b"<xml><return_code><![CDATA[SUCCESS]]></return_code></xml>")
        await shop.advance(seconds=15)
        await shop.advance(days=3)
        (told,) = await told_of(shop)
        assert [attempt["status"] for attempt in told["attempts"]] == [503, 503, 200]
        assert (told["heard"], len(shop.heard)) == (True, 3)
        if version == "v3":
            assert len({heard.document["id"] for heard in shop.heard}) == 1


@pytest.mark.parametrize(
    ("version", "answer", "heard"),
    [
        ("v2", (200, b"<xml><return_code>SUCCESS</return_code><return_msg>OK</return_msg></xml>"), True),
        ("v2", (200, b"<xml><return_code>FAIL</return_code></xml>"), False),
        ("v2", (200, b"success"), False),
        ("v2", (200, b""), False),
        ("v2", (500, b"<xml><return_code>SUCCESS</return_code></xml>"), False),
        ("v3", (200, b""), True),
        ("v3", (204, b""), True),
        ("v3", (302, b""), False),
        ("v3", (401, b'{"code":"FAIL"}'), False),
        ("v3", (201, b""), False),
    ],
)
async def test_r33_what_counts_as_an_answer(version, answer, heard):
    async with merchant() as shop:
        shop.answer = answer
        await place(shop, version)
        await shop.pay()
        (told,) = await told_of(shop)
        assert (told["heard"], told["attempts"][0]["accepted"]) == (heard, heard)


async def test_a_merchant_that_is_silent_for_too_long_has_not_heard():
    async with merchant() as shop:
        shop.simulator.notifier.answer_seconds = 0.05
        shop.silent = True
        await shop.place_v3()
        await shop.pay()
        (told,) = await told_of(shop)
        assert (told["heard"], told["attempts"][0]["status"]) == (False, 0)
        assert "Timeout" in told["attempts"][0]["answer"]


async def test_a_merchant_that_is_not_there_is_tried_again():
    async with merchant() as shop:
        there, shop.notify_url = shop.notify_url, "http://127.0.0.1:1/notify"
        await shop.place_v3()
        await shop.pay()
        (told,) = await told_of(shop)
        assert (told["heard"], told["notify_url"] != there) == (False, True)


async def test_each_order_is_told_at_its_own_notify_url():
    async with merchant() as shop:
        await shop.place_v3(notify_url=shop.notify_url + "-elsewhere")
        await shop.pay()
        (told,) = await told_of(shop)
        assert told["attempts"][0]["status"] == 404


async def test_a_redirect_is_not_followed():
    async with merchant() as shop:
        shop.answer, shop.answer_headers = (307, b""), {"Location": "/notify"}
        await shop.place_v3()
        await shop.pay()
        (told,) = await told_of(shop)
        assert ([attempt["status"] for attempt in told["attempts"]], len(shop.heard)) == ([307], 1)


@pytest.mark.parametrize("version", VERSIONS)
async def test_drop_loses_an_attempt_and_the_next_comes_on_schedule(version):
    async with merchant() as shop:
        await shop.sim("faults", {"notifications": {"drop": {"next": 2}}})
        await place(shop, version)
        await shop.pay()
        await shop.advance(seconds=15)
        assert shop.heard == []
        await shop.advance(seconds=15)
        assert len(shop.heard) == 1


async def test_r30_every_notification_can_be_lost():
    async with merchant() as shop:
        await shop.sim("faults", {"notifications": {"drop": 1}})
        await shop.place_v3()
        await shop.pay()
        await shop.advance(days=3)
        (told,) = await told_of(shop)
        assert (shop.heard, len(told["attempts"]), told["given_up"]) == ([], 16, True)


async def test_delay_brings_it_late():
    async with merchant() as shop:
        await shop.sim("faults", {"notifications": {"delay": {"next": 1, "seconds": 120}}})
        await shop.place_v3()
        await shop.pay()
        await shop.advance(seconds=119)
        assert shop.heard == []
        await shop.advance(seconds=1)
        assert len(shop.heard) == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_r25_duplicate_brings_it_twice(version):
    async with merchant() as shop:
        await shop.sim("faults", {"notifications": {"duplicate": {"next": 1}}})
        await place(shop, version)
        await shop.pay()
        assert len(shop.heard) == 2


async def test_r25_it_can_be_repeated_by_hand():
    async with merchant() as shop:
        await shop.place_v3()
        await shop.pay()
        (told,) = await told_of(shop)
        await shop.sim(f"notifications/{told['id']}/repeat", {})
        await shop.simulator.settle()
        assert len({heard.document["id"] for heard in shop.heard}) == 1
        assert len(shop.heard) == 2
        await shop.sim("notifications/none/repeat", {}, status=400)


async def test_reorder_lets_the_next_one_pass():
    async with merchant() as shop:
        await shop.sim("faults", {"notifications": {"reorder": {"next": 1}}})
        for number in ("FIRST1", "SECOND"):
            await shop.place_v3(number)
        await shop.pay("FIRST1")
        assert shop.heard == []
        await shop.pay("SECOND")
        assert [heard.resource["out_trade_no"] for heard in shop.heard] == ["SECOND", "FIRST1"]


async def test_reorder_waits_a_minute_at_most():
    async with merchant() as shop:
        await shop.sim("faults", {"notifications": {"reorder": {"next": 1}}})
        await shop.place_v3()
        await shop.pay()
        await shop.advance(seconds=60)
        assert len(shop.heard) == 1


async def test_corrupt_changes_a_byte_after_signing_and_the_true_one_follows():
    async with merchant() as shop:
        await shop.sim("faults", {"notifications": {"corrupt": {"next": 1}}})
        await shop.place_v3()
        await shop.pay()
        with pytest.raises(Rejected, match="signature"):
            shop.check(shop.heard[0].headers, shop.heard[0].body)
        await shop.advance(seconds=15)
        shop.check(shop.heard[1].headers, shop.heard[1].body)


async def test_a_corrupt_v2_notification_no_longer_holds():
    async with merchant() as shop:
        await shop.sim("faults", {"notifications": {"corrupt": {"next": 1}}})
        await shop.place_v2()
        await shop.pay()
        assert b"\x00" not in shop.heard[0].body
        await shop.advance(seconds=15)
        assert shop.heard[0].body != shop.heard[1].body
        assert shop.is_signed(shop.heard[1].fields)


async def test_r26_a_probe_is_signed_falsely_and_the_true_one_follows():
    async with merchant() as shop:
        await shop.sim("faults", {"notifications": {"probe": {"next": 1}}})
        await shop.place_v3()
        await shop.pay()
        with pytest.raises(Rejected, match="probe"):
            shop.check(shop.heard[0].headers, shop.heard[0].body)
        await shop.advance(seconds=15)
        shop.check(shop.heard[1].headers, shop.heard[1].body)
        (told,) = await told_of(shop)
        assert [attempt["fault"] for attempt in told["attempts"]] == ["probe", ""]


async def test_a_v2_probe_does_not_verify():
    async with merchant() as shop:
        await shop.sim("faults", {"notifications": {"probe": {"next": 1}}})
        await shop.place_v2()
        await shop.pay()
        assert not shop.is_signed(shop.heard[0].fields)


@pytest.mark.parametrize("field", ["total_fee", "appid", "mch_id", "currency", "out_trade_no"])
async def test_r28_a_forged_notification_is_rightly_signed_and_the_true_one_follows(field):
    in_v2 = {"currency": "fee_type"}.get(field, field)
    async with merchant() as shop:
        for place_it, number in ((shop.place_v2, "NUMBER2"), (shop.place_v3, "NUMBER3")):
            await shop.sim("faults", {"notifications": {"forged": {"next": 1, "field": field}}})
            await place_it(number)
            await shop.pay(number)
            await shop.advance(seconds=15)
        v2_lie, v2_truth, v3_lie, v3_truth = shop.heard
        assert shop.is_signed(v2_lie.fields)
        assert shop.is_signed(v2_truth.fields)
        assert v2_lie.fields[in_v2] != v2_truth.fields[in_v2]
        shop.check(v3_lie.headers, v3_lie.body)
        assert v3_lie.resource != v3_truth.resource


async def test_the_same_seed_loses_the_same_notifications():
    async def lost(seed):
        async with merchant() as shop:
            await shop.sim("faults", {"seed": seed, "notifications": {"drop": 0.5}})
            for n in range(12):
                await shop.place_v2(f"PAY{n:06}")
                await shop.pay(f"PAY{n:06}")
            return [heard.fields["out_trade_no"] for heard in shop.heard]

    assert await lost(7) == await lost(7) != await lost(8)


async def test_signatures_carry_the_shared_time_however_far_the_calendar_is_ahead():
    async with merchant() as shop:
        await shop.place_v3()
        await shop.advance(hours=1)
        await shop.pay()
        assert shop.heard[0].headers["Wechatpay-Timestamp"] == str(int(START.timestamp()))
        assert shop.heard[0].resource["success_time"] == "2024-01-02T12:04:05+08:00"
        _, _, headers, raw = await shop.query_v3()
        shop.check(headers, raw)


async def test_a_clock_moved_from_outside_wakes_the_schedule():
    async with merchant() as shop:
        shop.answer = (500, b"")
        await shop.place_v3()
        await shop.pay()
        shop.now += timedelta(seconds=15)
        shop.simulator.clock.wake()
        await shop.simulator.settle()
        assert [heard.headers["Wechatpay-Timestamp"] for heard in shop.heard] == [
            str(int(START.timestamp())),
            str(int(START.timestamp()) + 15),
        ]
