"""What every store promises about API keys and the shop's quotes (R9)."""

import asyncio
from datetime import timedelta

import pytest
from attrs import evolve

from application.access import ApiKey, KeyNotFound, Quote, QuoteUsed, Scope, digest_of
from application.answers import Answer, KeyTaken
from domain.errors import OrderNotFound, StaleOrder
from domain.order import Status
from tests.sample_orders import NOW, SECOND, placed, unanswered

KEY = ApiKey(id="1f2e3d4c", name="商店 backend", scopes=frozenset({Scope.PAY, Scope.READ}), created_at=NOW)
DIGEST = digest_of("mt_" + "k" * 43)
QUOTE = Quote(id="q1", expires_at=NOW + timedelta(minutes=10))
ANSWER = Answer(
    caller="PAYER o1", key="k-1", request_hash="9f86", number="PAY001", status=200, body=b"{}", at=NOW
)


# -- keys ----------------------------------------------------------------------------------------


async def test_a_key_is_found_by_its_digest_alone(store):
    await store.keys.add(KEY, DIGEST)
    assert await store.keys.find(DIGEST) == KEY
    for other in (DIGEST.upper(), DIGEST[:-1], "", "mt_" + "k" * 43, "%", KEY.id):
        assert await store.keys.find(other) is None


async def test_all_scopes_and_moments_come_back(store):
    made = evolve(KEY, scopes=frozenset(Scope), last_used_at=NOW + SECOND, revoked_at=NOW + 2 * SECOND)
    await store.keys.add(made, DIGEST)
    assert await store.keys.listed() == [made]


async def test_keys_are_listed_from_the_oldest(store):
    keys = [evolve(KEY, id=f"k{n}", created_at=NOW + (n // 2) * SECOND) for n in range(5)]
    for key in reversed(keys):
        await store.keys.add(key, digest_of(key.id))
    assert await store.keys.listed() == keys


async def test_a_revoked_key_is_not_found_and_stays_listed(store):
    await store.keys.add(KEY, DIGEST)
    revoked = await store.keys.revoke(KEY.id, NOW + SECOND)
    assert revoked == evolve(KEY, revoked_at=NOW + SECOND)
    assert await store.keys.find(DIGEST) is None
    assert await store.keys.revoke(KEY.id, NOW + 9 * SECOND) == revoked
    assert await store.keys.listed() == [revoked]


async def test_to_revoke_one_key_leaves_the_others(store):
    other = evolve(KEY, id="other")
    await store.keys.add(KEY, DIGEST)
    await store.keys.add(other, digest_of("other"))
    await store.keys.revoke(KEY.id, NOW)
    assert await store.keys.find(digest_of("other")) == other


async def test_a_key_that_is_not_there_can_not_be_revoked(store):
    with pytest.raises(KeyNotFound):
        await store.keys.revoke("nobody", NOW)


async def test_the_last_use_is_noted_at_most_once_a_minute(store):
    await store.keys.add(KEY, DIGEST)
    noted = []
    for seconds in (5, 6, 64, 65, 66, 200):
        await store.keys.used(KEY.id, NOW + seconds * SECOND)
        noted.append(((await store.keys.find(DIGEST)).last_used_at - NOW) // SECOND)
    assert noted == [5, 5, 5, 65, 65, 200]


@pytest.mark.parametrize(
    "changes",
    [{"name": ""}, {"name": "a\nb"}, {"name": " a"}, {"name": "k" * 65}, {"scopes": frozenset()}],
)
def test_a_key_that_makes_no_sense_can_not_be_made(changes):
    with pytest.raises(ValueError, match="a key"):
        evolve(KEY, **changes)


def test_an_admin_may_everything_and_others_what_their_scopes_say():
    admin = evolve(KEY, scopes=frozenset({Scope.ADMIN}))
    assert [admin.allows(scope) for scope in Scope] == [True] * 4
    assert [KEY.allows(scope) for scope in Scope] == [False, True, True, False]
    assert (admin.is_operator, KEY.is_operator) == (True, False)


# -- quotes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [placed, unanswered])
async def test_a_quote_is_kept_with_its_order(store, order):
    assert not await store.orders.is_quote_used("q1")
    await store.orders.save(order(), None, QUOTE)
    assert await store.orders.is_quote_used("q1")
    assert not await store.orders.is_quote_used("q2")


async def test_a_used_quote_makes_no_second_order(store):
    """R9: the second order leaves no trace, its answer neither."""
    await store.orders.save(placed(), None, QUOTE)
    with pytest.raises(QuoteUsed):
        await store.orders.save(placed("PAY002"), evolve(ANSWER, number="PAY002"), QUOTE)
    with pytest.raises(OrderNotFound):
        await store.orders.get("PAY002")
    assert await store.answers.recall("PAYER o1", "k-1") is None
    assert (await store.orders.counts())[Status.PENDING] == 1


async def test_an_order_that_is_refused_for_another_reason_leaves_its_quote_free(store):
    await store.orders.save(placed(), ANSWER)
    with pytest.raises(KeyTaken):
        await store.orders.save(placed("PAY002"), evolve(ANSWER, number="PAY002"), QUOTE)
    with pytest.raises(StaleOrder):
        await store.orders.save(placed(), None, QUOTE)
    assert not await store.orders.is_quote_used("q1")
    await store.orders.save(placed("PAY003"), None, QUOTE)


async def test_whoever_has_key_and_quote_in_common_hears_of_the_key(store):
    """R10: so a retry finds the answer of its twin."""
    await store.orders.save(placed(), ANSWER, QUOTE)
    with pytest.raises(KeyTaken):
        await store.orders.save(placed("PAY002"), evolve(ANSWER, number="PAY002"), QUOTE)


async def test_of_many_orders_by_one_quote_one_is_made(store):
    """R9."""
    numbers = [f"PAY{n:03}" for n in range(20)]
    results = await asyncio.gather(
        *(store.orders.save(placed(number), None, QUOTE) for number in numbers), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["NoneType"] + ["QuoteUsed"] * 19
    assert (await store.orders.counts())[Status.PENDING] == 1
