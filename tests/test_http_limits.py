"""How often one caller may log in and place orders; whoever is refused hears when to come again (R49)."""

from ipaddress import ip_network

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from adapters.http.errors import TooManyRequests
from adapters.http.limits import CREATE, LOGIN, Buckets, Limits, house
from adapters.http.routes import ANYONE, Caller, Route, Who
from adapters.http.shapes import HealthAnswer
from tests.http_till import TEA, Till, refusal


@define
class Watch:
    now: float = 1000.0

    def __call__(self):
        return self.now


def buckets(per_minute, **how):
    return Buckets(per_minute, monotonic=Watch(), **how)


def test_a_minute_s_worth_may_come_at_once_and_then_at_its_pace():
    held = buckets(4)
    for _ in range(4):
        held.take("a")
    for ahead, seconds in ((0, 15.0), (5, 10.0)):
        held.monotonic.now += ahead
        with pytest.raises(TooManyRequests) as refused:
            held.take("a")
        assert refused.value.seconds == pytest.approx(seconds)
    held.monotonic.now += 10
    held.take("a")
    with pytest.raises(TooManyRequests):
        held.take("a")


def test_one_caller_does_not_use_up_another_s():
    held = buckets(1)
    held.take("a")
    held.take("b")
    with pytest.raises(TooManyRequests):
        held.take("a")


def test_whoever_was_quiet_has_a_full_bucket_and_no_more():
    held = buckets(2)
    held.take("a")
    held.monotonic.now += 3600
    held.take("a")
    held.take("a")
    with pytest.raises(TooManyRequests):
        held.take("a")


def test_only_so_many_callers_are_remembered_and_the_longest_quiet_is_forgotten():
    held = buckets(1, names_max=3)
    for name in "abcade":
        try:
            held.take(name)
        except TooManyRequests:
            assert name == "a"
    assert list(held.full_at) == ["a", "d", "e"]


@given(st.integers(1, 100_000), st.lists(st.floats(0, 10), max_size=200))
def test_never_more_than_a_minute_s_worth_and_the_pace_since(per_minute, waits):
    held, taken, begun = buckets(per_minute), 0, 1000.0
    for wait in waits:
        held.monotonic.now += wait
        try:
            held.take("a")
        except TooManyRequests as refused:
            assert 0 < refused.seconds <= 60 / per_minute + 1e-6  # noqa: PT017 - of some
        else:
            taken += 1
    assert taken <= per_minute + (held.monotonic.now - begun) * per_minute / 60 + 1e-3


def test_a_whole_ipv6_house_counts_as_one():
    assert house("2001:db8:1:2::5") == house("2001:db8:1:2:ffff::1") != house("2001:db8:1:3::5")
    assert house("198.51.100.7") != house("198.51.100.8")


def limits(**few):
    return Limits(**{name: buckets(count) for name, count in {"logins": 99, "creates": 99, **few}.items()})


@pytest.fixture
def served(runner):
    tills = []

    async def open_till(**options):
        tills.append(await Till().open(**options))
        return tills[-1]

    yield open_till
    for till in tills:
        runner.run(till.close())


def called_by(*callers):
    """A guard that takes its callers by the header `X-Caller`."""

    async def guard(request, _route):
        return callers[int(request.headers.get("X-Caller", 0))]

    return guard


def payer(openid):
    return Caller(kind=Who.PAYER, name="payer", openid=openid)


async def test_too_many_orders_of_one_payer_are_refused_and_told_when_to_come_again(served):
    """R49: 429 with Retry-After, whatever became of the tries before (here: none had a quote)."""
    held = limits(creates=2)
    till = await served(check=held.check, guard=called_by(payer(TEA["openid"]), payer("o2")))
    for _ in range(2):
        assert (await till.client.post(CREATE, json=TEA)).status == 403
    answer = await till.client.post(CREATE, json=TEA)
    error = await refusal(answer, 429, "TOO_MANY_REQUESTS")
    assert error["message"] == "请求过于频繁，请稍后再试。"
    assert answer.headers["Retry-After"] == "30"
    assert (till.store.rows, till.gateway.placed) == ({}, [])
    assert (await till.client.post(CREATE, json=TEA, headers={"X-Caller": "1"})).status == 403
    held.creates.monotonic.now += 30
    assert (await till.client.post(CREATE, json=TEA)).status == 403


@pytest.mark.parametrize("kind", [Who.BACKEND, Who.OPERATOR])
async def test_the_shop_s_own_keys_are_not_counted(served, kind):
    caller = Caller(kind=kind, name="key 1 shop")
    till = await served(check=limits(creates=1).check, guard=called_by(caller))
    for _ in range(3):
        await till.create()


async def test_where_nobody_logs_in_an_address_counts(served):
    till = await served(check=limits(creates=1).check, proxies=[ip_network("127.0.0.1")])
    first, second = {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "198.51.100.8"}
    assert (await till.client.post(CREATE, json=TEA, headers=first)).status == 200
    await refusal(await till.client.post(CREATE, json=TEA, headers=first), 429, "TOO_MANY_REQUESTS")
    assert (await till.client.post(CREATE, json=TEA, headers=second)).status == 200


async def test_a_made_up_address_wins_no_second_bucket(served):
    till = await served(check=limits(creates=1).check)
    for told, status in (("198.51.100.7", 200), ("198.51.100.8", 429)):
        answer = await till.client.post(CREATE, json=TEA, headers={"X-Forwarded-For": told})
        assert answer.status == status


async def test_logins_are_counted_by_address(runner):
    async def log_in(_call):
        return HealthAnswer()

    route = Route(
        method="POST",
        path=LOGIN,
        who=Who.ANYONE,
        handler=log_in,
        summary="x",
        answer=HealthAnswer,
        refusals=(TooManyRequests,),
    )
    till = await Till().open(route, check=limits(logins=2).check)
    for status in (200, 200, 429):
        assert (await till.client.post(LOGIN)).status == status
    await till.create()  # has a bucket of its own
    await till.close()


def test_other_calls_are_not_counted():
    held = limits(creates=1, logins=1)
    route = Route(
        method="GET", path="/x", who=Who.ANYONE, handler=None, summary="x", answer=HealthAnswer
    )  # fmt: skip
    for _ in range(5):
        held.check(None, route, ANYONE)
    assert not held.creates.full_at
    assert not held.logins.full_at
