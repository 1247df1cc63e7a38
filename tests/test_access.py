"""Who may: every route is asked about, every caller gets what its kind may, and nothing else (R20, R22)."""

import re
import socket
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import pytest
from attrs import define
from dotenv import dotenv_values

from adapters.http.access import KNOWN_MAX, KeyRing
from adapters.http.app import ROUTES
from adapters.http.routes import AnyRoute, PlainRoute, Route, Who
from adapters.http.shapes import HealthAnswer
from adapters.store.memory_keys import MemoryKeys
from application.access import ApiKey, Scope, Unauthenticated, digest_of
from application.errors import StoreUnavailable
from domain.trade import TradeState
from entrypoints.settings import load
from entrypoints.till import Till
from tests.access_till import (
    ADMIN,
    ALICE,
    APPID,
    BOB,
    NOW,
    PAY,
    READ,
    REFUND,
    TOKEN_SECRET,
    bearer,
    guarded_till,
    key_of,
    quote,
    token,
    with_keys,
)
from tests.http_till import CLOSE, CREATE, HISTORY, ORDERS, QUERY, REFUNDS, STATS, TEA, refusal
from tests.http_till import PAY as PAY_AGAIN
from tests.http_till import REFUND as ASK_REFUND
from tests.simulator_side import account

PAYER = "payer"
EVERYBODY = {"nobody", PAYER, ADMIN, PAY, READ, REFUND}
SHOP_AND_PAYER_PAY = {PAYER, ADMIN, PAY}
SHOP_AND_PAYER_READ = {PAYER, ADMIN, READ}
OPERATOR = {ADMIN}

# Who gets past the guard, route by route; written down twice on purpose.
MAY = {
    "POST /api/wechat/login": EVERYBODY,
    "POST /api/wechat/pay/create": SHOP_AND_PAYER_PAY,
    "GET /api/wechat/pay/query/{out_trade_no}": SHOP_AND_PAYER_READ,
    "GET /api/wechat/pay/orders/{openid}": SHOP_AND_PAYER_READ,
    "GET /api/wechat/pay/stats": OPERATOR,
    "POST /api/wechat/pay/pay/{out_trade_no}": SHOP_AND_PAYER_PAY,
    "POST /api/wechat/pay/close/{out_trade_no}": SHOP_AND_PAYER_PAY,
    "GET /api/wechat/pay/history/{out_trade_no}": {ADMIN, READ},
    "POST /api/wechat/pay/refund": {ADMIN, REFUND},
    "GET /api/wechat/pay/refund/{out_refund_no}": {ADMIN, READ},
    "GET /api/wechat/pay/refunds": OPERATOR,
    "POST /api/wechat/pay/refund/{out_refund_no}/recover": OPERATOR,
    "GET /api/wechat/pay/webhooks": OPERATOR,
    "POST /api/wechat/pay/webhooks/{event_id}/replay": OPERATOR,
    "GET /api/wechat/pay/failures": OPERATOR,
    "GET /api/wechat/pay/failures/{failure_id}": OPERATOR,
    "GET /metrics": OPERATOR,
    "POST /api/wechat/pay/notify": EVERYBODY,
    "GET /healthz": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /openapi.json": EVERYBODY,
    "GET /docs": EVERYBODY,
}
OPEN_TO_ALL = {name for name, who in MAY.items() if who == EVERYBODY}


def showing(caller):
    """The headers of that caller."""
    if caller == "nobody":
        return {}
    return bearer(token(appid=account().appid)) if caller == PAYER else bearer(key_of(caller))


@asynccontextmanager
async def running(tmp_path, *, sandbox=False, **ours):
    """The whole service as `serve` starts it, and a session that calls it."""
    given = dotenv_values(account().file("simulator.env")) | {
        "WECHAT_PAY_CERTS_DIR": str(account().directory),
        "MINITILL_DATABASE": f"sqlite:///{tmp_path / 'minitill.db'}",
        "MINITILL_TOKEN_SECRET": TOKEN_SECRET,
    }
    settings = load(given | {f"MINITILL_{name}": value for name, value in ours.items()})
    till = await Till.open(settings, with_jobs=False, sandbox=sandbox, clock=lambda: NOW)
    with socket.create_server(("127.0.0.1", 0)) as door:
        try:
            await with_keys(till.store)
            await till.start(door)
            base = f"http://127.0.0.1:{door.getsockname()[1]}"
            async with aiohttp.ClientSession(base) as session:
                yield till, session
        finally:
            await till.stop()


async def let_in(session, name, headers):
    """Whether the guard let this caller pass; then the call fails for what it says, or does nothing."""
    method, path = name.split()
    path = re.sub(r"{\w+}", "x", path.replace("{openid}", ALICE))
    json = {} if method == "POST" else None
    async with session.request(method, path, json=json, headers=headers) as answer:
        asked_who = answer.headers.get("WWW-Authenticate") == "Bearer"  # WeChat hears a 401 of another kind
        assert not asked_who or answer.status == 401
        return not asked_who and answer.status != 403


@pytest.mark.slow
async def test_every_route_of_the_running_service_says_who_may_and_means_it(tmp_path):
    """R22: WeChat's notifications are never asked for a login; all else is, unless it is listed above."""
    async with running(tmp_path) as (till, session):
        app = till.runner.app
        served = {(r.method, r.resource.canonical) for r in app.router.routes() if r.method != "HEAD"}
        declared = {(route.method, route.path): route for route in app[ROUTES]}
        assert served == set(declared)
        assert all(isinstance(route, AnyRoute) and route.who for route in declared.values())
        viewer = {call for call in served if call[1].startswith("/docs/")}  # its scripts and styles
        assert {method for method, _ in viewer} <= {"GET"}
        assert all(declared.pop(call).who is Who.ANYONE for call in viewer)
        assert {f"{method} {path}" for method, path in declared} == set(MAY)
        assert {f"{m} {p}" for (m, p), route in declared.items() if route.is_open} == OPEN_TO_ALL
        for name, who in MAY.items():
            found = {caller for caller in EVERYBODY if await let_in(session, name, showing(caller))}
            assert (name, found) == (name, who)


@pytest.mark.slow
async def test_what_is_asked_by_head_is_guarded_like_get(tmp_path):
    async with running(tmp_path) as (_, session):
        for path in (STATS, ORDERS + ALICE):
            assert (await session.head(path)).status == 401
            assert (await session.head(path, headers=bearer(key_of(ADMIN)))).status == 200


@pytest.mark.slow
async def test_the_sandbox_asks_nobody(tmp_path):
    async with running(tmp_path, sandbox=True, AUTH_MODE="open") as (_, session):
        for name in MAY:
            assert await let_in(session, name, {})


@pytest.mark.slow
async def test_the_sandbox_asks_who_calls_if_it_is_told_to(tmp_path):
    async with running(tmp_path, sandbox=True) as (_, session):
        for name, who in MAY.items():
            assert await let_in(session, name, {}) == (who == EVERYBODY)


@pytest.mark.slow
async def test_open_mode_opens_what_payers_do_and_no_more(tmp_path):
    async with running(tmp_path, AUTH_MODE="open") as (_, session):
        for name, who in MAY.items():
            assert (name, await let_in(session, name, {})) == (name, PAYER in who)
            assert (name, await let_in(session, name, showing(ADMIN))) == (name, True)


def test_a_route_without_a_rule_can_not_be_made():
    words = {"method": "GET", "path": "/x", "summary": "x", "handler": None}
    for kind, more in ((Route, {"answer": HealthAnswer}), (PlainRoute, {})):
        with pytest.raises(TypeError):
            kind(**words, **more)
        with pytest.raises(ValueError, match="which scope"):
            kind(**words, **more, who=Who.BACKEND)
        with pytest.raises(ValueError, match="which scope"):
            kind(**words, **more, who=Who.OPERATOR, scope=Scope.READ)
        with pytest.raises(ValueError, match="which scope"):
            kind(**words, **more, who=Who.ANYONE, scope=Scope.READ)


# -- where the key is shown -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {key_of(ADMIN)}"},
        {"Authorization": key_of(ADMIN)},
        {"Authorization": f"Bearer  {key_of(ADMIN)}"},
        {"Authorization": f"Bearer {key_of(ADMIN)}0"},
        {"Authorization": f"Bearer {key_of(ADMIN)[:-1]}"},
        {"Authorization": f"Bearer {key_of(ADMIN)[:-1]}1"},
        {"Authorization": f"Bearer {key_of(ADMIN).upper()}"},
        {"Authorization": f"Bearer {digest_of(key_of(ADMIN))}"},
        {"Authorization": f"Bearer {'a' * 5000}"},
        {"Authorization": "Bearer mt_" + "令" * 43},
        {"Cookie": f"Authorization=Bearer {key_of(ADMIN)}; token={key_of(ADMIN)}"},
        {"X-Api-Key": key_of(ADMIN)},
        {"Proxy-Authorization": f"Bearer {key_of(ADMIN)}"},
    ],
)
async def test_a_key_counts_only_where_it_belongs(headers):
    async with guarded_till() as till:
        params = {"access_token": key_of(ADMIN), "token": key_of(ADMIN), "Authorization": key_of(ADMIN)}
        answer = await till.client.get(STATS, headers=headers, params=params)
        await refusal(answer, 401, "UNAUTHENTICATED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_two_keys_are_no_key():
    async with guarded_till() as till:
        headers = [("Authorization", f"Bearer {key_of(scope)}") for scope in (ADMIN, ADMIN)]
        await refusal(await till.client.get(STATS, headers=headers), 401, "UNAUTHENTICATED")


async def test_the_scheme_is_read_in_any_case():
    async with guarded_till() as till:
        answer = await till.client.get(STATS, headers={"Authorization": f"bEARER {key_of(ADMIN)}"})
        assert answer.status == 200


async def test_who_called_is_written_down_without_the_key_or_the_openid():
    async with guarded_till() as till:
        for headers, more in ((bearer(key_of(PAY)), {}), (bearer(token()), {"quote": quote()})):
            answer = await till.client.post(CREATE, json=TEA | more, headers=headers)
            assert answer.status == 200
        assert [event.cause for event in till.store.events] == ["api key key1 shop", "api payer"]


async def test_a_key_without_the_scope_changes_nothing():
    async with guarded_till() as till:
        for scope in (READ, REFUND):
            answer = await till.client.post(CREATE, json=TEA, headers=bearer(key_of(scope)))
            await refusal(answer, 403, "FORBIDDEN")
        body = {"out_trade_no": "PAY17031234560000000001"}
        for shown in (key_of(PAY), key_of(READ), token()):
            await refusal(
                await till.client.post(ASK_REFUND, json=body, headers=bearer(shown)), 403, "FORBIDDEN"
            )
        assert (till.gateway.placed, till.gateway.carried, till.store.events) == ([], [], [])


# -- payers see only their own ----------------------------------------------------------------------


@asynccontextmanager
async def alices_order():
    async with guarded_till() as till:
        answer = await till.client.post(CREATE, json=TEA, headers=bearer(key_of(PAY)))
        yield till, (await answer.json())["data"]["out_trade_no"]


async def test_a_payer_sees_pays_and_closes_its_own_order():
    async with alices_order() as (till, number):
        mine = bearer(token())
        assert (await till.client.get(QUERY + number, headers=mine)).status == 200
        (line,) = (await (await till.client.get(ORDERS + ALICE, headers=mine)).json())["data"]
        assert line["out_trade_no"] == number
        assert (await till.client.post(PAY_AGAIN + number, headers=mine)).status == 200
        assert (await till.client.post(CLOSE + number, headers=mine)).status == 200


async def test_another_payers_order_is_like_one_that_does_not_exist():
    """R20, and nothing tells that there is such an order: neither the words, nor WeChat, nor the history."""
    async with alices_order() as (till, number):
        bob, nothing = bearer(token(BOB)), "PAY17031234569999999999"
        calls = [("GET", QUERY), ("POST", PAY_AGAIN), ("POST", CLOSE)]
        for method, path in calls:
            told = []
            for asked in (number, nothing):
                answer = await till.client.request(method, path + asked, headers=bob)
                error = await refusal(answer, 404, "ORDER_NOT_FOUND")
                told.append({name: text for name, text in error.items() if name != "request_id"})
            assert told[0] == told[1]
        assert (till.gateway.queried, till.gateway.closed, len(till.store.events)) == ([], [], 1)


async def test_another_payers_list_is_refused():
    """R20."""
    async with alices_order() as (till, _):
        for openid in (ALICE, "nobody", "no openid at all"):
            answer = await till.client.get(ORDERS + openid, headers=bearer(token(BOB)))
            await refusal(answer, 403, "FORBIDDEN")


async def test_a_payer_orders_in_no_others_name():
    """R20."""
    async with guarded_till() as till:
        body = TEA | {"quote": quote()}
        answer = await till.client.post(CREATE, json=body, headers=bearer(token(BOB)))
        await refusal(answer, 403, "OPENID_MISMATCH")
        assert till.gateway.placed == []


async def test_the_shops_backend_sees_all():
    async with alices_order() as (till, number):
        for path in (QUERY + number, ORDERS + ALICE, HISTORY + number):
            assert (await till.client.get(path, headers=bearer(key_of(READ)))).status == 200
        assert (await till.client.get(REFUNDS, headers=bearer(key_of(READ)))).status == 403
        assert (await till.client.get(REFUNDS, headers=bearer(key_of(ADMIN)))).status == 200
        order = await till.store.orders.get(number)
        assert (order.placement.appid, TradeState.NOTPAY) == (APPID, "NOTPAY")


# -- the ring of keys -------------------------------------------------------------------------------


@define
class CountingKeys(MemoryKeys):
    """Counts how often it is asked, and gives way when it is told to."""

    found: int = 0
    noted: int = 0
    broken: bool = False

    async def find(self, digest):
        self.found += 1
        return await super().find(digest)

    async def used(self, key_id, at):
        if self.broken:
            raise StoreUnavailable("the disk is full")
        self.noted += 1
        await super().used(key_id, at)


SHOP_KEY = key_of(PAY)


@define
class Ring:
    """A ring with one key on it, and its clock."""

    now: object = NOW
    keys: CountingKeys = None
    ring: KeyRing = None

    async def made(self):
        self.keys = CountingKeys()
        self.ring = KeyRing(self.keys, lambda: self.now)
        made = ApiKey(id="a", name="shop", scopes=frozenset({PAY}), created_at=NOW)
        await self.keys.add(made, digest_of(key_of(PAY)))
        return self

    async def show(self, after=0, key=SHOP_KEY):
        self.now = NOW + timedelta(seconds=after)
        return (await self.ring.find(key)).id


async def test_a_key_is_looked_up_once_in_five_seconds():
    ring = await Ring().made()
    for after in (0, 1, 4.999):
        assert await ring.show(after) == "a"
    assert ring.keys.found == 1
    assert await ring.show(5) == "a"
    assert ring.keys.found == 2


async def test_the_use_of_a_key_is_noted_once_a_minute():
    ring = await Ring().made()
    for after in (0, 6, 30, 59.9):
        await ring.show(after)
    assert (ring.keys.noted, (await ring.keys.listed())[0].last_used_at) == (1, NOW)
    await ring.show(70)
    assert (ring.keys.noted, (await ring.keys.listed())[0].last_used_at) == (2, NOW + timedelta(seconds=70))


async def test_a_use_that_can_not_be_noted_is_no_reason_to_refuse(caplog):
    ring = await Ring().made()
    ring.keys.broken = True
    assert await ring.show() == "a"
    assert "key a is not noted" in caplog.text
    assert key_of(PAY) not in caplog.text


async def test_a_revoked_key_opens_nothing_after_five_seconds():
    ring = await Ring().made()
    await ring.show()
    await ring.keys.revoke("a", NOW)
    with pytest.raises(Unauthenticated):
        await ring.show(5)
    assert ring.ring.known == {}


async def test_the_ring_holds_no_more_keys_than_it_may():
    ring = await Ring().made()
    for number in range(KNOWN_MAX + 5):
        made = ApiKey(id=f"k{number}", name="shop", scopes=frozenset({PAY}), created_at=NOW)
        await ring.keys.add(made, digest_of(f"key {number}"))
        await ring.show(key=f"key {number}")
    assert len(ring.ring.known) == KNOWN_MAX
    for number in range(9):
        with pytest.raises(Unauthenticated):
            await ring.show(key=f"no key {number}")
    assert len(ring.ring.known) == KNOWN_MAX
