"""An order's history and the letters to the shop, over real HTTP."""

from datetime import timedelta

import pytest
from attrs import define, evolve

from adapters.store.memory import MemoryStore
from adapters.store.sqlite import SqliteStore
from application.courier import Courier
from application.errors import StoreUnavailable
from application.outbox import WAITS, Backend, Delivery
from application.ports import Meaning, Refused
from domain.trade import Trade, TradeState
from tests.http_till import CREATE, HISTORY, REFUND, TEA, WEBHOOKS, Till, refusal, report


@define
class Shop(Backend):
    """A shop's backend that hears, or answers 500."""

    deaf: bool = False

    async def hear(self, event, now):
        tried = Delivery(event_id=event.id, at=now, heard=True, status=204, milliseconds=12)
        if self.deaf:
            return evolve(tried, heard=False, status=500, answer="<h1>Oops</h1>", milliseconds=7)
        return tried


@pytest.fixture(params=["memory", "sqlite"])
def till(runner, request, tmp_path):
    store = MemoryStore(listening=True)
    if request.param == "sqlite":
        store = runner.run(SqliteStore.open(tmp_path / "minitill.db", listening=True))
    till = runner.run(Till(store=store).open())
    yield till
    runner.run(till.close())
    runner.run(store.close())


async def deliver(till, *, deaf=False):
    """Carry what is due to the shop."""
    await Courier(outbox=till.store.outbox, backend=Shop(deaf), clock=lambda: till.now).deliver()


async def get(till, path, **query):
    async with till.client.get(path, params=query) as answer:
        assert answer.status == 200, await answer.text()
        found = await answer.json()
    assert set(found) == {"success", "data"}
    return found["data"]


async def history(till, out_trade_no):
    return (await get(till, HISTORY + out_trade_no))["events"]


async def replay(till, event_id):
    return await till.client.post(f"{WEBHOOKS}/{event_id}/replay")


# -- history ---------------------------------------------------------------------------------


async def test_a_new_order_has_a_history_of_one_step(till):
    number = await till.create()
    assert await get(till, HISTORY + number) == {
        "out_trade_no": number,
        "events": [
            {
                "version": 1,
                "event": "order.created",
                "time": "2023-12-21T12:34:56",
                "cause": "api anyone",
                "status_before": None,
                "facts": {
                    "out_trade_no": number,
                    "transaction_id": None,
                    "openid": TEA["openid"],
                    "status": "PENDING",
                    "total_fee": 100,
                    "refunded_fee": 0,
                    "body": "绿茶",
                    "attach": "table 7",
                },
                "evidence": "",
                "deliveries": [],
            }
        ],
    }


async def test_each_step_has_its_version_its_cause_and_its_evidence(till):
    number = await till.create()
    till.now += timedelta(hours=12)
    trade = Trade(
        out_trade_no=number,
        trade_state=TradeState.SUCCESS,
        total_fee=100,
        transaction_id="42",
        evidence="<xml>openid=***</xml>",
    )
    await till.payments.record(trade, "notify 2f1c")
    till.gateway.refunding = lambda order, refund: report(order, refund, "SUCCESS")
    async with till.client.post(REFUND, json={"out_trade_no": number, "out_refund_no": "R1"}) as answer:
        assert answer.status == 200
    events = await history(till, number)
    assert [(e["version"], e["event"], e["cause"], e["status_before"], e["evidence"]) for e in events] == [
        (1, "order.created", "api anyone", None, ""),
        (2, "order.paid", "notify 2f1c", "PENDING", "<xml>openid=***</xml>"),
        (3, "refund.processing", "api anyone", "PAID", ""),
        (4, "refund.success", "api anyone", "PAID", ""),
        (5, "order.refunded", "api anyone", "PAID", ""),
    ]
    assert [event["time"] for event in events] == ["2023-12-21T12:34:56"] + ["2023-12-22T00:34:56"] * 4
    facts = [event["facts"] for event in events]
    assert [fact["status"] for fact in facts] == ["PENDING", "PAID", "PAID", "PAID", "REFUNDED"]
    assert [fact["refunded_fee"] for fact in facts] == [0, 0, 0, 100, 100]
    assert (facts[3]["out_refund_no"], facts[3]["refund_fee"], facts[3]["refund_status"]) == (
        "R1",
        100,
        "SUCCESS",
    )


async def test_a_refused_order_has_a_history_too(till):
    till.gateway.answer = Refused(meaning=Meaning.BAD_REQUEST, err_code="PARAM_ERROR", description="参数错误")
    await refusal(await till.client.post(CREATE, json=TEA), 502, "WECHAT_REFUSED")
    (event,) = await history(till, till.gateway.placed[0].out_trade_no)
    assert (event["event"], event["facts"]["failure"]) == ("order.failed", "PARAM_ERROR 参数错误")


async def test_each_step_tells_how_the_shop_heard_of_it(till):
    number = await till.create()
    await till.pay(number)
    await deliver(till, deaf=True)
    till.now += timedelta(hours=1)
    await deliver(till)
    await deliver(till)
    created, paid = await history(till, number)
    assert created["deliveries"] == [
        {
            "time": "2023-12-21T12:34:56",
            "heard": False,
            "status": 500,
            "answer": "<h1>Oops</h1>",
            "error": "",
            "milliseconds": 7,
        },
        {
            "time": "2023-12-21T13:34:56",
            "heard": True,
            "status": 204,
            "answer": "",
            "error": "",
            "milliseconds": 12,
        },
    ]
    assert [one["heard"] for one in paid["deliveries"]] == [True]


async def test_a_history_is_of_one_order_alone(till):
    first, second = await till.create(), await till.create()
    await deliver(till)
    for number in (first, second):
        (event,) = await history(till, number)
        assert (event["facts"]["out_trade_no"], len(event["deliveries"])) == (number, 1)


@pytest.mark.parametrize("number", ["PAY17031234560000000009", "short", "a" * 33, "a%2Fb%2Fcdef", "%00" * 6])
async def test_what_is_no_order_of_ours_has_no_history(till, number):
    from yarl import URL

    answer = await till.client.get(URL(HISTORY + number, encoded=True))
    await refusal(answer, 404, "ORDER_NOT_FOUND")


# -- letters ---------------------------------------------------------------------------------


async def test_letters_are_listed_with_their_state(till):
    number = await till.create()
    await till.pay(number)
    assert await get(till, WEBHOOKS, state="WAITING") == [
        {
            "event_id": f"{number}-1",
            "event": "order.created",
            "out_trade_no": number,
            "state": "WAITING",
            "tries": 0,
            "due_time": "2023-12-21T12:34:56",
        }
    ]
    assert [(one["event_id"], one["state"]) for one in await get(till, WEBHOOKS)] == [
        (f"{number}-2", "BEHIND"),
        (f"{number}-1", "WAITING"),
    ]
    assert len(await get(till, WEBHOOKS, limit="1")) == 1
    await deliver(till, deaf=True)
    (tried,) = await get(till, WEBHOOKS, state="WAITING")
    assert (tried["event_id"], tried["tries"]) == (f"{number}-1", 1)
    till.now += timedelta(minutes=1)
    await deliver(till)
    await deliver(till)
    assert [one["state"] for one in await get(till, WEBHOOKS)] == ["DELIVERED"] * 2
    assert await get(till, WEBHOOKS, state="SET_ASIDE") == []


@pytest.mark.parametrize("state", ["waiting", "", "LOST", "null"])
async def test_a_state_that_no_letter_has_is_refused(till, state):
    await refusal(await till.client.get(WEBHOOKS, params={"state": state}), 400, "BAD_REQUEST", "state")


async def test_a_delivered_letter_is_delivered_again(till):
    number = await till.create()
    await deliver(till)
    answer = await replay(till, f"{number}-1")
    assert answer.status == 200
    assert await answer.json() == {
        "success": True,
        "data": {"event_id": f"{number}-1", "state": "WAITING"},
    }
    till.now += timedelta(seconds=1)
    await deliver(till)
    (event,) = await history(till, number)
    assert [one["heard"] for one in event["deliveries"]] == [True, True]


async def test_a_letter_that_was_set_aside_is_delivered_again(till):
    number = await till.create()
    for _ in range(len(WAITS) + 1):
        await deliver(till, deaf=True)
        till.now += timedelta(days=2)
    (aside,) = await get(till, WEBHOOKS, state="SET_ASIDE")
    assert (aside["event_id"], aside["tries"]) == (f"{number}-1", len(WAITS) + 1)
    assert (await replay(till, aside["event_id"])).status == 200
    await deliver(till)
    assert [letter["state"] for letter in await get(till, WEBHOOKS)] == ["DELIVERED"]


@pytest.mark.parametrize(
    "event_id",
    ["PAY17031234560000000009-1", "x", "-", "-1", "a-", "%00-1", "a%2Fb-1", f"a-{'9' * 40}", "%FF-1"],
)
async def test_an_unknown_letter_is_not_found(till, event_id):
    from yarl import URL

    answer = await till.client.post(URL(f"{WEBHOOKS}/{event_id}/replay", encoded=True))
    await refusal(answer, 404, "NOT_FOUND")


async def test_a_letter_that_still_waits_is_not_delivered_again(till):
    number = await till.create()
    await refusal(await replay(till, f"{number}-1"), 404, "NOT_FOUND")


async def test_a_step_that_is_not_the_shops_business_has_no_letter(till):
    number = await till.create(expire_minutes=24 * 60)
    till.now += timedelta(hours=2)
    async with till.client.post(f"/api/wechat/pay/pay/{number}") as answer:
        assert answer.status == 200
    assert [event["event"] for event in await history(till, number)] == ["order.created", "order.prepared"]
    assert [letter["event"] for letter in await get(till, WEBHOOKS)] == ["order.created"]


@pytest.mark.parametrize("method", ["history", "letters", "refunds_of", "replay", "deliveries"])
async def test_a_store_that_gives_way_is_said_to_be_unavailable(till, monkeypatch, method):
    async def broken(*_):
        raise StoreUnavailable("disk full: /var/lib/till.db")

    number = await till.create()
    for part in {type(till.store.orders), type(till.store.outbox)}:
        if hasattr(part, method):
            monkeypatch.setattr(part, method, broken)
    calls = {
        "history": ("GET", HISTORY + number),
        "deliveries": ("GET", HISTORY + number),
        "letters": ("GET", WEBHOOKS),
        "replay": ("POST", f"{WEBHOOKS}/{number}-1/replay"),
        "refunds_of": ("GET", "/api/wechat/pay/refunds"),
    }
    answer = await till.client.request(*calls[method])
    await refusal(answer, 503, "STORE_UNAVAILABLE")
    assert "disk" not in await answer.text()
