"""Attacks by HTTP itself: addresses, methods, headers, bodies; refused, and nothing has changed (R47)."""

import asyncio
import gzip
import json
import re

import pytest

from adapters.http.serving import ALWAYS, BODY_BYTES_MAX
from entrypoints.settings import load
from tests.attacked_till import ALICE, KEYS, TEA, AttackedTill
from tests.test_settings import GOOD

API = "/api/wechat/pay"
JSON = {"Content-Type": "application/json"}


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


# -- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "//api/wechat/pay/stats",
        "/api//wechat/pay/stats",
        "/api/wechat/pay//stats",
        "/api/wechat/pay/stats/",
        "/api/wechat/pay/stats%2f",
        "/api/wechat/pay%2fstats",
        "/api/wechat/pay/%2e%2e/pay/stats%00",
        "/api/wechat/pay/stats;admin=1",
        "/api/wechat/pay/stats%00",
        "/api/wechat/pay/STATS",
        "/api/wechat/pay/stats%20",
        "/api/wechat/pay/stats.json",
        "/static/../entrypoints/settings.py",
        "/docs/../../etc/passwd",
        "/docs/%2e%2e/%2e%2e/etc/passwd",
        "/docs/..%2f..%2fetc%2fpasswd",
        "/minitill.db",
        "/.env",
        "/.git/config",
        "/api/wechat/pay/query/../stats/x",
        "/%",
        "/%zz",
    ],
)
async def test_a_path_that_is_nearly_ours_is_not_ours(till, path):
    before = till.business()
    status, document, _ = await till.call("GET", path, bearer=KEYS["pay,read,refund"])
    assert status in {400, 401, 403, 404}
    assert document["success"] is False
    assert till.business() == before


@pytest.mark.parametrize(
    "value",
    [
        *("..%2f..%2fetc%2fpasswd", "%00", "%0d%0aX-Evil:%201", "'%20OR%201=1", "x" * 3000, "%ff%fe", "*"),
        *("PAY%0a", "%F0%9F%98%80", "%252e%252e", "PAY17041675450000000000%00"),
    ],
)
async def test_a_number_that_is_none_is_no_order(till, value):
    await till.ordered()
    await till.refuses(404, "ORDER_NOT_FOUND", "GET", f"{API}/query/{value}", bearer=KEYS["read"])


async def test_a_url_without_end_is_refused(till):
    await till.refuses(414, "URL_TOO_LONG", "GET", f"{API}/query/" + "x" * 8000, bearer=KEYS["read"])


# -- methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "GET", "OPTIONS"])
async def test_a_method_that_is_not_ours_does_nothing(till, method):
    await till.refuses(405, "METHOD_NOT_ALLOWED", method, f"{API}/create", bearer=KEYS["admin"], json=TEA)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
async def test_a_method_in_a_header_is_not_heard(till, name):
    number = await till.ordered()
    path = f"{API}/query/{number}"
    before = till.business()
    status, _, _ = await till.call("GET", path, bearer=KEYS["admin"], headers={name: "DELETE"})
    assert status == 200
    assert till.business() == before


async def test_trace_echoes_nothing(till):
    status, document, _ = await till.call("TRACE", "/healthz", headers={"X-Secret": "mt_echo"})
    assert status == 405
    assert "mt_echo" not in json.dumps(document)


# -- headers and the log ---------------------------------------------------------------------

INJECTED = ["%0d%0aSet-Cookie:%20a=b", "%0aERROR%20minitill:%20all%20is%20lost", "%1b[2J", "%e2%80%a8x"]


@pytest.mark.parametrize("text", INJECTED)
async def test_nothing_of_a_url_becomes_a_header_or_a_line_of_the_log(till, text, caplog):
    for path in (f"{API}/query/{text}", f"/{text}", f"{API}/orders/{ALICE}?cursor={text}"):
        _, _, headers = await till.call("GET", path, bearer=KEYS["read"], headers={"X-Request-Id": "a" * 8})
        assert "Set-Cookie" not in headers
        assert headers["X-Request-Id"] == "a" * 8
    for record in caplog.records:
        assert not re.search("[\r\n\x1b\u2028]", record.getMessage())


async def test_what_is_in_a_body_becomes_no_line_of_the_log(till, caplog):
    evil = "\nERROR minitill: all is lost\r\n\x1b[31m"
    for wish in ({"out_trade_no": evil}, {"out_trade_no": "PAY17041675450000000000", "reason": evil}):
        await till.call("POST", f"{API}/refund", bearer=KEYS["admin"], json=wish)
    await till.call("POST", f"{API}/create", bearer=KEYS["pay"], json=TEA | {"openid": evil, evil: 1})
    await till.call("POST", "/api/wechat/login", json={"code": evil})
    for record in caplog.records:
        assert not re.search("[\r\n\x1b]", record.getMessage())


async def test_every_answer_carries_its_guards(till):
    for method, path in (
        ("GET", "/healthz"),
        ("GET", f"{API}/stats"),
        ("GET", "/nowhere"),
        ("PUT", "/healthz"),
        ("POST", f"{API}/notify"),
        ("GET", "/openapi.json"),
    ):
        _, _, headers = await till.call(method, path)
        for name in ALWAYS.keys() - {"Cache-Control", "Content-Security-Policy"}:
            assert headers[name] == ALWAYS[name], path
        assert "Content-Security-Policy" in headers
        if path.startswith("/api"):
            assert headers["Cache-Control"] == "no-store"
        assert "aiohttp" not in str(headers)
        assert "Access-Control-Allow-Origin" not in headers


async def test_a_strange_host_changes_nothing_we_say(till):
    status, document, headers = await till.call("GET", "/nowhere", headers={"Host": "evil.example"})
    assert status == 404
    assert "evil.example" not in json.dumps(document) + str(headers)


# -- bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"[" * 60_000, JSON, 400, "BAD_REQUEST"),
        (b'{"a":' * 10_000, JSON, 400, "BAD_REQUEST"),
        (b" " * (BODY_BYTES_MAX + 1), JSON, 413, "BODY_TOO_LARGE"),
        (gzip.compress(b" " * 1000), {**JSON, "Content-Encoding": "gzip"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"<xml/>", {"Content-Type": "text/xml"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{}", {"Content-Type": "application/json; charset=utf-7"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"\xff\xfe{\x00}\x00", JSON, 400, "BAD_JSON"),
        (b'{"openid":"\xed\xa0\x80"}', JSON, 400, "BAD_JSON"),
        (b'{"total_fee":NaN}', JSON, 400, "BAD_JSON"),
        (b'{"total_fee":' + b"9" * 50_000 + b"}", JSON, 400, "FEE_OUT_OF_RANGE"),
        (b'{"__proto__":{"admin":true}}', JSON, 400, "BAD_REQUEST"),
        (b"[]", JSON, 400, "BAD_REQUEST"),
        (b"null", JSON, 400, "BAD_REQUEST"),
        (b"", JSON, 400, "BAD_JSON"),
    ],
)
async def test_a_body_that_is_a_trick_is_refused(till, body, headers, status, code):
    await till.refuses(status, code, "POST", f"{API}/create", bearer=KEYS["pay"], data=body, headers=headers)
    assert till.gateway.placed == []


async def test_a_name_given_twice_never_lets_two_readers_see_two_prices(till):
    """The last one counts, as everywhere in JSON, and that one is checked and charged."""
    body = json.dumps(TEA)[:-1] + ', "total_fee": 0}'
    await till.refuses(
        400, "FEE_OUT_OF_RANGE", "POST", f"{API}/create", bearer=KEYS["pay"], data=body, headers=JSON
    )
    payers = json.dumps({**TEA, "quote": till.quote()})[:-1] + ', "total_fee": 1}'
    status, document, _ = await till.call(
        "POST", f"{API}/create", bearer=till.token(), data=payers, headers=JSON
    )
    assert 400 <= status < 500
    assert document["error"]["code"] == "QUOTE_MISMATCH"
    assert till.gateway.placed == []


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb"])
async def test_an_idempotency_key_that_is_none_is_refused(till, key):
    await till.refuses(
        400, "BAD_REQUEST", "POST", f"{API}/create",
        bearer=KEYS["pay"], json=TEA, headers={"Idempotency-Key": key},
    )  # fmt: skip


async def test_one_caller_s_idempotency_key_does_not_open_another_s_answer(till):
    headers = {"Idempotency-Key": "the-same-key"}
    _, first, _ = await till.call("POST", f"{API}/create", bearer=KEYS["pay"], json=TEA, headers=headers)
    _, second, _ = await till.call(
        "POST", f"{API}/create", bearer=KEYS["pay,read"], json=TEA, headers=headers
    )
    assert first["data"]["out_trade_no"] != second["data"]["out_trade_no"]


# -- the shop's address (SSRF) ---------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/hook",
        "https://localhost/hook",
        "https://[::1]/hook",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::ffff:169.254.169.254]/",
        "https://10.0.0.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://017700000001/",
        "https://127.1/",
        "https://user:password@shop.example/",
        "file:///etc/passwd",
        "gopher://shop.example/",
        "http://shop.example/",
    ],
)
def test_the_shop_s_address_leads_out_or_minitill_does_not_start(url):
    with pytest.raises(Exception, match="MINITILL_WEBHOOK_URL"):
        load(GOOD | {"MINITILL_WEBHOOK_URL": url, "MINITILL_WEBHOOK_SECRET": "whsec_" + "A" * 40})


async def test_no_caller_can_name_an_address_to_call(till):
    """What minitill calls stands in its settings alone."""
    for name in ("notify_url", "webhook_url", "callback", "url"):
        wish = TEA | {name: "http://169.254.169.254/"}
        await till.refuses(400, "BAD_REQUEST", "POST", f"{API}/create", bearer=KEYS["pay"], json=wish)
