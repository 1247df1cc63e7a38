"""What every store promises about Idempotency-Keys, the numbers of refunds, and an order's history."""

import asyncio
from datetime import timedelta

import pytest
from attrs import evolve

from application.answers import KEEP, Answer, KeyTaken
from domain.errors import OrderNotFound, RefundNotFound, RefundNumberReused, StaleOrder
from domain.order import Status
from domain.trade import RefundStatus
from tests.sample_orders import NOW, SECOND, closed, paid, placed, promised, refunded, saved, unanswered

PROMISE = Answer(caller="payer o1", key="k-1", request_hash="9f86", number="PAY001", at=NOW)
BODY = '{"success":true,"说":"好","n":1}'.encode()
FINISHED = evolve(PROMISE, status=200, body=BODY)


async def kept(store, key="k-1"):
    return await store.answers.recall("payer o1", key)


# -- answers -------------------------------------------------------------------------------------


async def test_a_key_nobody_used_has_no_answer(store):
    assert await kept(store) is None


async def test_an_answer_comes_back_byte_for_byte(store):
    await store.answers.remember(FINISHED)
    assert await kept(store) == FINISHED


async def test_a_key_belongs_to_its_caller(store):
    other = evolve(FINISHED, caller="payer o2", number="PAY002", body=b"{}")
    await store.answers.remember(FINISHED)
    await store.answers.remember(other)
    assert await kept(store) == FINISHED
    assert await store.answers.recall("payer o2", "k-1") == other


async def test_an_answer_is_remembered_with_its_order(store):
    await store.orders.save(placed(), FINISHED)
    assert await kept(store) == FINISHED
    assert (await store.orders.get("PAY001")).version == 1


async def test_a_promise_becomes_an_answer_and_counts_from_then(store):
    await store.orders.save(unanswered(), PROMISE)
    assert await kept(store) == PROMISE
    finished = evolve(FINISHED, at=NOW + timedelta(hours=1))
    await store.answers.remember(finished)
    assert await kept(store) == finished


async def test_a_promise_becomes_an_answer_with_the_order_s_next_step(store):
    order = unanswered()
    await store.orders.save(order, PROMISE)
    order = evolve(order, events=()).prepared("wx43", NOW, "api")
    await store.orders.save(order, FINISHED)
    assert await kept(store) == FINISHED
    assert (await store.orders.get("PAY001")).prepay_id == "wx43"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FINISHED, evolve(FINISHED, status=409, body=b"{}")),
        (FINISHED, FINISHED),
        (FINISHED, PROMISE),
        (PROMISE, PROMISE),
        (PROMISE, evolve(PROMISE, number="PAY002")),
        (PROMISE, evolve(FINISHED, number="PAY002")),
    ],
    ids=["other answer", "same answer", "back to a promise", "same promise", "other promise", "other number"],
)
async def test_the_first_answer_of_a_key_counts(store, first, second):
    await store.answers.remember(first)
    with pytest.raises(KeyTaken):
        await store.answers.remember(second)
    assert await kept(store) == first


async def test_an_order_whose_key_is_taken_leaves_no_trace(store):
    await store.orders.save(placed(), FINISHED)
    with pytest.raises(KeyTaken):
        await store.orders.save(placed("PAY002"), evolve(FINISHED, number="PAY002"))
    with pytest.raises(OrderNotFound):
        await store.orders.get("PAY002")
    assert await store.orders.history("PAY002") == []
    assert (await store.orders.counts())[Status.PENDING] == 1
    assert [due.order.out_trade_no for due in await store.agenda.due_orders(NOW + KEEP, 9)] == ["PAY001"]
    assert await kept(store) == FINISHED


async def test_a_refund_whose_key_is_taken_leaves_no_trace(store):
    order = await saved(store, paid(placed()))
    await store.answers.remember(FINISHED)
    with pytest.raises(KeyTaken):
        await store.orders.save(promised(order, "R1"), evolve(PROMISE, number="R1"))
    assert await store.orders.get("PAY001") == order
    with pytest.raises(RefundNotFound):
        await store.orders.find_refund("R1")
    assert await store.agenda.due_refunds(NOW + KEEP, 9) == []


@pytest.mark.parametrize("refusal", [StaleOrder, RefundNumberReused])
async def test_a_refused_order_leaves_no_answer(store, refusal):
    await store.orders.save(promised(paid(placed()), "R1"))
    order = placed() if refusal is StaleOrder else promised(paid(placed("PAY002")), "R1")
    with pytest.raises(refusal):
        await store.orders.save(order, evolve(FINISHED, number=order.out_trade_no))
    assert await kept(store) is None


async def test_of_many_requests_with_one_key_one_is_taken(store):
    numbers = [f"PAY{n:03}" for n in range(20)]
    results = await asyncio.gather(
        *(store.orders.save(placed(number), evolve(FINISHED, number=number)) for number in numbers),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["KeyTaken"] * 19 + ["NoneType"]
    winner = numbers[results.index(None)]
    assert await kept(store) == evolve(FINISHED, number=winner)
    assert (await store.orders.counts())[Status.PENDING] == 1
    assert (await store.orders.get(winner)).version == 1


async def test_only_finished_answers_that_are_older_are_forgotten(store):
    for n in range(3):
        await store.answers.remember(evolve(FINISHED, key=f"f-{n}", at=NOW + n * SECOND))
    await store.answers.remember(evolve(PROMISE, key="p"))
    assert await store.answers.forget(NOW) == 0
    assert await store.answers.forget(NOW + SECOND) == 1
    assert await kept(store, "f-0") is None
    assert await kept(store, "f-1") is not None
    assert await store.answers.forget(NOW + KEEP) == 2
    assert await store.answers.forget(NOW + KEEP) == 0
    assert await kept(store, "p") == evolve(PROMISE, key="p")


async def test_a_forgotten_key_can_be_used_again(store):
    await store.answers.remember(FINISHED)
    await store.answers.forget(NOW + SECOND)
    await store.answers.remember(evolve(FINISHED, number="PAY002"))
    assert await kept(store) == evolve(FINISHED, number="PAY002")


# -- refunds by their number ---------------------------------------------------------------------


async def test_a_refund_leads_to_its_order(store):
    await store.orders.save(promised(promised(paid(placed()), "R1", 10), "R2", 20))
    await store.orders.save(promised(paid(placed("PAY002")), "R3"))
    order = await store.orders.find_refund("R2")
    assert order == await store.orders.get("PAY001")
    assert order.refund("R2").refund_fee == 20
    assert (await store.orders.find_refund("R3")).out_trade_no == "PAY002"


async def test_an_unknown_refund_is_not_found(store):
    await store.orders.save(promised(paid(placed()), "R1"))
    with pytest.raises(RefundNotFound):
        await store.orders.find_refund("r1")


async def test_a_refund_made_at_wechat_is_found_as_well(store):
    order = await saved(store, paid(placed()))
    order = await saved(store, refunded(order, "STAFF-1", "SUCCESS", refund_fee=30))
    assert await store.orders.find_refund("STAFF-1") == order
    assert order.refund("STAFF-1").foreign


async def test_refunds_of_one_status_come_with_their_orders_newest_first(store):
    first = await saved(store, promised(promised(paid(placed()), "R1"), "R2", now=NOW + 2 * SECOND))
    second = await saved(store, promised(paid(placed("PAY002")), "R3", now=NOW + SECOND))
    first = await saved(store, refunded(first, "R1", "ABNORMAL"))
    assert await store.orders.refunds_of(RefundStatus.PROCESSING, 9) == [
        (first, first.refund("R2")),
        (second, second.refund("R3")),
    ]
    assert await store.orders.refunds_of(RefundStatus.PROCESSING, 1) == [(first, first.refund("R2"))]
    assert await store.orders.refunds_of(RefundStatus.ABNORMAL, 9) == [(first, first.refund("R1"))]
    assert await store.orders.refunds_of(RefundStatus.SUCCESS, 9) == []


# -- history -------------------------------------------------------------------------------------


async def test_an_unknown_order_has_no_history(store):
    assert await store.orders.history("PAY404") == []


async def test_history_tells_each_version_once_and_in_order(store):
    order = placed(attach="桌 7")
    told = [*order.events]
    for step in (
        closed,
        lambda o: paid(o, NOW + 2 * SECOND),
        lambda o: promised(o, "R1", 100, NOW + 3 * SECOND),
        lambda o: refunded(o, "R1", "SUCCESS", NOW + 4 * SECOND),
    ):
        order = step(await saved(store, order))
        told += order.events
    await store.orders.save(order)
    await store.orders.save(placed("PAY002"))
    assert list(await store.orders.history("PAY001")) == told
    assert [event.version for event in told] == [1, 2, 3, 4, 5, 6]


async def test_history_keeps_cause_facts_and_evidence(store):
    order = await saved(store, placed(attach="桌 7"))
    await store.orders.save(promised(paid(order, NOW + SECOND), "R1", 60, NOW + 2 * SECOND))
    created, received, going = await store.orders.history("PAY001")
    assert (created.name, created.cause, created.status_before) == ("order.created", "api", None)
    assert (received.name, received.cause, received.status_before) == ("order.paid", "notify", "PENDING")
    assert (received.at, received.evidence) == (NOW + SECOND, "<xml>SUCCESS</xml>")
    assert received.facts == {
        "out_trade_no": "PAY001",
        "transaction_id": "42",
        "openid": "o1",
        "status": "PAID",
        "total_fee": 100,
        "refunded_fee": 0,
        "body": "茶",
        "attach": "桌 7",
    }
    assert going.facts["refund_status"] == "PROCESSING"
    assert (going.facts["out_refund_no"], going.facts["refund_fee"]) == ("R1", 60)
    assert going.facts["refund_id"] is None


async def test_a_step_that_was_refused_is_not_history(store):
    order = await saved(store, placed())
    await store.orders.save(paid(order))
    with pytest.raises(StaleOrder):
        await store.orders.save(closed(order))
    assert [event.name for event in await store.orders.history("PAY001")] == ["order.created", "order.paid"]
