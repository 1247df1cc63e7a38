"""Attacks on what callers may do: each is refused with its code, and nothing has changed (R46, R47)."""

import asyncio
import base64
import json
from datetime import timedelta

import pytest

from adapters.http.tokens import kid_of
from tests.attacked_till import ALICE, BOB, KEYS, OLD_SECRET, QUOTE_SECRET, TEA, TOKEN_SECRET, AttackedTill

API = "/api/wechat/pay"


@pytest.fixture(scope="module")
def runner():
    """One loop for the module: a till is dear to open."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def opened(runner, tmp_path_factory):
    till = runner.run(AttackedTill.open(tmp_path_factory.mktemp("till")))
    yield till
    runner.run(till.close())


@pytest.fixture
def till(opened):
    opened.begin_anew()
    return opened


# -- other people's orders -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/query/{}"), ("POST", "/pay/{}"), ("POST", "/close/{}")],
)
async def test_another_payer_s_order_does_not_exist(till, method, path):
    """R20: nor can anyone tell it from one that never was."""
    number = await till.ordered()
    bob = till.token(BOB)
    theirs = await till.refuses(404, "ORDER_NOT_FOUND", method, API + path.format(number), bearer=bob)
    never = await till.refuses(
        404, "ORDER_NOT_FOUND", method, API + path.format("PAY17041675450000000000"), bearer=bob
    )
    assert theirs["message"] == never["message"]
    assert till.gateway.closed == []


async def test_another_payer_s_list_is_not_read(till):
    await till.ordered()
    found, document, _ = await till.call("GET", f"{API}/orders/{ALICE}", bearer=till.token(BOB))
    assert found in {403, 404}
    assert ALICE not in json.dumps(document)
    found, document, _ = await till.call("GET", f"{API}/orders/{BOB}", bearer=till.token(BOB))
    assert found == 200
    assert ALICE not in json.dumps(document)


async def test_nobody_orders_in_another_payer_s_name(till):
    """R20."""
    wish = TEA | {"quote": till.quote()}
    await till.refuses(403, "OPENID_MISMATCH", "POST", f"{API}/create", bearer=till.token(BOB), json=wish)
    assert till.gateway.placed == []


# -- tokens ----------------------------------------------------------------------------------


def b64(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def altered(token, part, change):
    """A true token with something else in its header (0) or its claims (1)."""
    parts = token.split(".")
    held = json.loads(base64.urlsafe_b64decode(parts[part] + "=="))
    parts[part] = b64({**held, **change})
    return ".".join(parts)


FORGERIES = {
    "alg none": lambda till: altered(till.token(), 0, {"alg": "none"}).rpartition(".")[0] + ".",
    "alg None": lambda till: altered(till.token(), 0, {"alg": "None"}),
    "alg RS256": lambda till: altered(till.token(), 0, {"alg": "RS256"}),
    "alg HS512": lambda till: till.forged(secret=TOKEN_SECRET * 2, algorithm="HS512"),
    "alg HS512 in name": lambda till: altered(till.token(), 0, {"alg": "HS512"}),
    "alg missing": lambda till: altered(till.token(), 0, {"alg": None}),
    "another secret": lambda till: till.forged(secret="x" * 40),
    "the quotes' secret": lambda till: till.forged(secret=QUOTE_SECRET),
    "kid of nobody": lambda till: till.forged(headers={"kid": "../../../dev/null"}),
    "kid that is a list": lambda till: altered(till.token(), 0, {"kid": ["x"]}),
    "crit": lambda till: till.forged(headers={"crit": ["exp"]}),
    "jwk of its own": lambda till: altered(till.token(), 0, {"jwk": {"kty": "oct", "k": "AAAA"}}),
    "other openid": lambda till: altered(till.token(BOB), 1, {"sub": ALICE}),
    "longer life": lambda till: altered(till.token(), 1, {"exp": 9_999_999_999}),
    "typ of something else": lambda till: till.forged(typ="refresh"),
    "no typ": lambda till: till.forged(typ=None),
    "no exp": lambda till: till.forged(exp=None),
    "exp as text": lambda till: till.forged(exp="9999999999"),
    "exp as a fraction": lambda till: till.forged(exp=9999999999.5),
    "exp beyond all calendars": lambda till: till.forged(exp=10**30),
    "exp true": lambda till: till.forged(exp=True),
    "other appid": lambda till: till.forged(appid="wx0000000000000000"),
    "a quote": lambda till: till.quote(),
    "nobody's openid": lambda till: till.forged(sub=""),
    "openid that is a path": lambda till: till.forged(sub="../../x y"),
    "two tokens": lambda till: till.token() + "." + till.token(),
    "signature with padding": lambda till: till.token() + "=",
    "nothing": lambda _till: "",
    "nested JSON": lambda _till: base64.urlsafe_b64encode(b"[" * 2400).decode() + ".e30." + "A" * 43,
    "huge": lambda till: till.token() + "A" * 5000,
    "no JSON": lambda _till: "AAAA.BBBB." + "C" * 43,
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_opens_nothing(till, name, caplog):
    number = await till.ordered()
    token = FORGERIES[name](till)
    await till.refuses(401, "UNAUTHENTICATED", "GET", f"{API}/query/{number}", bearer=token)
    wish = TEA | {"quote": till.quote()}
    await till.refuses(401, "UNAUTHENTICATED", "POST", f"{API}/create", bearer=token, json=wish)
    assert not token or token not in caplog.text
    assert "Traceback" not in caplog.text


async def test_an_expired_token_opens_nothing_and_says_so(till):
    number = await till.ordered()
    token = till.token()
    till.now += timedelta(hours=24)
    await till.refuses(401, "TOKEN_EXPIRED", "GET", f"{API}/query/{number}", bearer=token)


async def test_while_rotating_the_old_secret_opens_too_and_one_taken_away_does_not(till):
    number = await till.ordered()
    for secret, status in ((TOKEN_SECRET, 200), (OLD_SECRET, 200), ("taken-away-long-ago" * 2, 401)):
        token = till.forged(secret=secret, headers={"kid": kid_of(secret)})
        found, _, _ = await till.call("GET", f"{API}/query/{number}", bearer=token)
        assert found == status


# -- keys and scopes -------------------------------------------------------------------------

REFUND_ALL = {"out_trade_no": "PAY17041675450000000000"}


@pytest.mark.parametrize(
    ("key", "method", "path", "body"),
    [
        ("read", "POST", "/create", TEA),
        ("refund", "POST", "/create", TEA),
        ("pay", "POST", "/refund", REFUND_ALL),
        ("read", "POST", "/refund", REFUND_ALL),
        ("pay,read", "POST", "/refund", REFUND_ALL),
        ("pay,read,refund", "GET", "/stats", None),
        ("pay,read,refund", "GET", "/webhooks", None),
        ("refund", "GET", "/query/PAY17041675450000000000", None),
        ("read", "POST", "/close/PAY17041675450000000000", None),
    ],
)
async def test_a_key_opens_what_its_scopes_say_and_no_more(till, key, method, path, body):
    await till.refuses(403, "FORBIDDEN", method, API + path, bearer=KEYS[key], json=body)
    assert till.gateway.placed == till.gateway.carried == till.gateway.closed == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/refund", REFUND_ALL),
        ("GET", "/stats", None),
        ("GET", "/history/PAY17041675450000000000", None),
        ("GET", "/refund/REF17041675450000000000", None),
    ],
)
async def test_a_payer_is_no_operator(till, method, path, body):
    await till.refuses(403, "FORBIDDEN", method, API + path, bearer=till.token(), json=body)
    claiming = till.forged(scope="admin", scopes=["admin"], role="operator", name="key k0 admin")
    await till.refuses(403, "FORBIDDEN", method, API + path, bearer=claiming, json=body)


@pytest.mark.parametrize(
    "key",
    [
        *("mt_", "mt_" + "A" * 43, KEYS["admin"][:-1], KEYS["admin"] + "A", KEYS["admin"].upper()),
        *("' OR 1=1 --", "k0", "mt_%", "mt_" + "é" * 43),
    ],
)
async def test_a_key_that_is_not_ours_opens_nothing(till, key):
    headers = {"Authorization": f"Bearer {key}"}
    await till.refuses(401, "UNAUTHENTICATED", "GET", f"{API}/stats", headers=headers)


async def test_a_key_counts_in_the_authorization_header_alone(till):
    """Whatever stands in a URL stands in every log on the way."""
    key = KEYS["admin"]
    for name in ("key", "api_key", "token", "access_token", "authorization", "bearer"):
        await till.refuses(401, "UNAUTHENTICATED", "GET", f"{API}/stats?{name}={key}")
    for headers in (
        {"X-Api-Key": key},
        {"Cookie": f"token={key}"},
        {"Authorization": key},
        {"Authorization": f"Basic {key}"},
        {"Authorization": f"Bearer  {key}"},
        {"Proxy-Authorization": f"Bearer {key}"},
    ):
        await till.refuses(401, "UNAUTHENTICATED", "GET", f"{API}/stats", headers=headers)


async def test_two_authorizations_are_none(till):
    number = await till.ordered()
    both = [("Authorization", f"Bearer {till.token()}"), ("Authorization", f"Bearer {KEYS['admin']}")]
    async with till.session.get(f"{till.url}{API}/query/{number}", headers=both) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (401, "UNAUTHENTICATED")


async def test_a_revoked_key_opens_nothing(till):
    await till.refuses(403, "FORBIDDEN", "GET", f"{API}/stats", bearer=KEYS["read,refund"])
    await till.till.store.keys.revoke("k6", till.now)
    till.now += timedelta(seconds=6)
    await till.refuses(401, "UNAUTHENTICATED", "GET", f"{API}/stats", bearer=KEYS["read,refund"])


@pytest.mark.parametrize("path", ["/create", "/stats", "/query/x", "/orders/x", "/refund", "/history/x"])
async def test_nobody_is_not_served(till, path):
    """Deny by default."""
    method = "POST" if path in {"/create", "/refund"} else "GET"
    await till.refuses(401, "UNAUTHENTICATED", method, API + path)


# -- the price -------------------------------------------------------------------------------

QUOTES = {
    "none": (lambda _till: {}, "QUOTE_REQUIRED"),
    "another fee": (lambda till: {"quote": till.quote(), "total_fee": 1}, "QUOTE_MISMATCH"),
    "another body": (lambda till: {"quote": till.quote(), "body": "咖啡"}, "QUOTE_MISMATCH"),
    "another attach": (lambda till: {"quote": till.quote(), "attach": "x"}, "QUOTE_MISMATCH"),
    "another payer's": (lambda till: {"quote": till.quote(openid=BOB)}, "QUOTE_MISMATCH"),
    "another secret": (lambda till: {"quote": till.quote(secret="x" * 40)}, "QUOTE_INVALID"),
    "the tokens' secret": (lambda till: {"quote": till.quote(secret=TOKEN_SECRET)}, "QUOTE_INVALID"),
    "altered": (lambda till: {"quote": altered(till.quote(), 1, {"total_fee": 1})}, "QUOTE_INVALID"),
    "alg none": (lambda till: {"quote": altered(till.quote(), 0, {"alg": "none"})}, "QUOTE_INVALID"),
    "a token": (lambda till: {"quote": till.token()}, "QUOTE_INVALID"),
    "expired": (lambda till: {"quote": till.quote(exp=int(till.now.timestamp()))}, "QUOTE_EXPIRED"),
    "a fee that is true": (lambda till: {"quote": till.quote(total_fee=True), "total_fee": 1}, "QUOTE_"),
    "a fee as text": (lambda till: {"quote": till.quote(total_fee="100")}, "QUOTE_"),
}  # fmt: skip


@pytest.mark.parametrize("name", QUOTES)
async def test_a_payer_does_not_choose_the_price(till, name):
    """R9."""
    make, code = QUOTES[name]
    before = till.business()
    status, document, _ = await till.call("POST", f"{API}/create", bearer=till.token(), json=TEA | make(till))
    assert 400 <= status < 500
    assert document["error"]["code"].startswith(code)
    assert till.business() == before
    assert till.gateway.placed == []


async def test_a_quote_is_good_for_one_order(till):
    """R9: the first is made, a replay makes no second."""
    wish = TEA | {"quote": till.quote()}
    status, _, _ = await till.call("POST", f"{API}/create", bearer=till.token(), json=wish)
    assert status == 200
    before = till.business()
    status, document, _ = await till.call("POST", f"{API}/create", bearer=till.token(), json=wish)
    assert (status, document["error"]["code"]) == (409, "QUOTE_USED")
    assert till.business() == before
