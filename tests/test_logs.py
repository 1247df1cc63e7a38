"""The log: each line whole, of one request, for a person or a machine, and never with a secret in it."""

import io
import json
import logging
import re
import sys

import pytest
import structlog
from aiohttp import web

from adapters.http.routes import PlainRoute, Who
from adapters.http.trace import TRACE, Trace, note
from domain.errors import FeeMismatch
from entrypoints import logs
from entrypoints.settings import load
from tests.http_till import CREATE, TEA, Till
from tests.watched_logs import WATCH

OPENID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
API_KEY = "192006250b4c09247ec02edce69f6a2d"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
HIDDEN = {
    "an API key": "mt_9f86d081884c7d659a2feaa0c55ad015",
    "a webhook's secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "a token": JWT,
    "a PEM block": PEM,
    "half a PEM block": PEM[:50],
    "a registered key": API_KEY,
    "an Authorization header": "Bearer c2VjcmV0LXNlY3JldC1zZWNyZXQ=",
}
FORMATS = pytest.mark.parametrize("line_format", ["json", "console"])


@pytest.fixture
def written(monkeypatch):
    """What set_up's log writes; everything is as before afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    access = logging.getLogger("aiohttp.access").level
    configured = structlog.get_config()
    out = io.StringIO()

    def begin(line_format="json", never=(API_KEY,), level="info"):
        monkeypatch.setattr(sys, "stderr", out)
        logs.set_up(level, line_format, never)
        return out

    yield begin
    for handler in root.handlers[:]:
        if handler not in before[0]:
            root.removeHandler(handler)
    for handler in before[0]:
        if handler not in root.handlers:
            root.addHandler(handler)
    root.setLevel(before[1])
    logging.getLogger("aiohttp.access").setLevel(access)
    logging.getLogger("aiohttp.server").removeFilter(logs.malformed_requests_in_our_words)
    structlog.configure(**configured)
    WATCH.found.clear()  # the careless lines here are written on purpose


def objects(out):
    return [json.loads(line) for line in out.getvalue().splitlines()]


# -- lines ---------------------------------------------------------------------------------------


def test_a_line_is_one_json_object(written):
    out = written()
    logging.getLogger("minitill.x").warning("%s of %d", "one", 2, extra={"out_trade_no": "PAY1"})
    (line,) = objects(out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("at"))
    assert line == {"level": "warning", "logger": "minitill.x", "message": "one of 2", "out_trade_no": "PAY1"}


def test_structlog_and_logging_speak_alike(written):
    out = written()
    structlog.get_logger("minitill.x").info("told", out_trade_no="PAY1")
    logging.getLogger("minitill.x").info("told", extra={"out_trade_no": "PAY1"})
    one, other = ({k: v for k, v in line.items() if k != "at"} for line in objects(out))
    assert one == other


@FORMATS
def test_what_a_caller_wrote_cannot_begin_a_line(written, line_format):
    out = written(line_format)
    evil = "x\n2026-01-01 ERROR all is lost\r\x1b[31m\u2028\x85y"
    logging.getLogger("minitill.x").info("%s", evil, extra={"code": evil})
    text = out.getvalue()
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


def test_what_a_caller_wrote_cannot_pass_for_a_fact(written):
    out = written("console")
    logging.getLogger("minitill.x").info("told", extra={"code": 'A" caller=operator', "caller": "payer"})
    assert out.getvalue().rstrip().endswith(r'code="A\" caller=operator" caller=payer')


@FORMATS
def test_a_crash_is_told_with_its_traceback(written, line_format):
    out = written(line_format)
    try:
        int(f"the key is {API_KEY}\nand more")
    except ValueError:
        logging.getLogger("minitill.x").exception("it broke")
    text = out.getvalue()
    assert "ValueError" in text
    assert API_KEY not in text
    rows = text.splitlines()
    assert all(row.startswith("    ") for row in rows[1:])
    assert line_format == "console" or "Traceback" in objects(out)[0]["traceback"]


def test_a_request_that_is_not_http_is_not_repeated(written):
    out = written()
    logging.getLogger("aiohttp.server").error("bad bytes: mt_secret_secret", exc_info=ValueError("x"))
    (line,) = objects(out)
    assert line["message"] == "a request that is not HTTP was refused"
    assert "traceback" not in line


def test_less_than_the_level_is_not_written(written):
    out = written(level="warning")
    logging.getLogger("minitill.x").info("quiet")
    assert out.getvalue() == ""


# -- secrets -------------------------------------------------------------------------------------


@FORMATS
@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.parametrize("place", ["message", "argument", "fact", "deep", "name", "structlog"])
def test_no_secret_is_ever_written(written, line_format, kind, place):
    """R46: the last line of defence, wherever the secret stands."""
    out, secret, log = written(line_format), HIDDEN[kind], logging.getLogger("minitill.x")
    if place == "message":
        log.info("before " + secret + " after")  # noqa: G003 - a careless line is what is tried
    elif place == "argument":
        log.info("before %r after", {"key": secret})
    elif place == "structlog":
        structlog.get_logger("minitill.x").info("before", key=[secret, {"deep": secret}])
    else:
        value = {"fact": secret, "deep": {"a": [{"b": (secret,)}]}, "name": {secret: 1}}[place]
        log.info("before", extra={"given": value})
    text = out.getvalue().replace("\\\\n", "\\n")
    assert "before" in text
    for part in secret.removeprefix("Bearer ").splitlines():
        if not part.startswith("-----"):
            assert part not in text


def test_an_openid_is_cut_to_what_one_recognises(written):
    out = written()
    logging.getLogger("minitill.x").info("of %s", OPENID, extra={"caller": f"payer {OPENID}"})
    (line,) = objects(out)
    assert line["message"] == f"of {OPENID[:6]}…"
    assert line["caller"] == f"payer {OPENID[:6]}…"


@pytest.mark.parametrize(
    "harmless",
    [
        "PAY17031234567890123456",
        "08F78BB5AF0610D302189B8C-268443699",
        "4200002050202408051234567890",
        "PUB_KEY_ID_0119000072912024092000000000000001",
        "POST /api/wechat/pay/query/{out_trade_no} 200",
        "order.created",
    ],
)
def test_what_is_no_secret_stays_readable(written, harmless):
    out = written()
    logging.getLogger("minitill.x").info("%s", harmless)
    assert objects(out)[0]["message"] == harmless


def test_a_secret_inside_another_leaves_nothing_of_it(written):
    out = written(never=("abcdefgh", "abcdefghijkl", "short", ""))
    logging.getLogger("minitill.x").info("abcdefghijkl short words")
    assert objects(out)[0]["message"] == "… short words"


def test_every_secret_of_the_settings_is_registered():
    """R46."""
    given = {
        "WECHAT_PAY_MCH_ID": "1900000109",
        "WECHAT_PAY_APPID": "wxd678efh567hg6787",
        "WECHAT_PAY_API_KEY": API_KEY,
        "WECHAT_PAY_APP_SECRET": "app-secret-app-secret",
        "WECHAT_PAY_NOTIFY_URL": "https://shop.example.com/api/wechat/pay/notify",
        "WECHAT_PAY_CERTS_DIR": "nowhere",
        "MINITILL_TOKEN_SECRET": "token-secret-one-" * 2 + ",token-secret-two-" + "token-secret-two-",
        "MINITILL_QUOTE_SECRET": "quote-secret-quote-secret-quote-secret",
        "MINITILL_WEBHOOK_URL": "https://shop.example.com/hear?key=in-the-address",
        "MINITILL_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    redaction = logs.Redaction.of(logs.secrets_of(load(given)))
    for name, value in given.items():
        if "SECRET" in name or "KEY" in name or name.endswith("WEBHOOK_URL"):
            for one in value.split(","):
                assert one not in redaction.text(f"a {one} b"), name
    assert API_KEY not in repr(redaction)


# -- requests ------------------------------------------------------------------------------------


async def test_every_line_inside_a_request_says_of_which(written):
    out = written()

    async def handler(_request):
        logging.getLogger("application.anything").warning("deep inside")
        structlog.get_logger("entrypoints.anything").warning("deep inside too")
        raise FeeMismatch("99 fen")

    route = PlainRoute(method="POST", path="/plain", who=Who.WECHAT, handler=handler, summary="x")
    till = await Till().open(route)
    try:
        await till.client.post("/plain", headers={"X-Request-Id": "request-0001"})
    finally:
        await till.close()
    lines = [line for line in objects(out) if line["logger"] != "asyncio"]
    assert len(lines) == 4
    assert {line["request_id"] for line in lines} == {"request-0001"}
    logging.getLogger("minitill.x").info("outside")
    assert "request_id" not in objects(out)[-1]


async def test_a_request_is_one_line_of_facts(written):
    out = written()
    till = await Till().open()
    try:
        await till.client.post(CREATE, json=TEA, headers={"X-Request-Id": "request-0001"})
    finally:
        await till.close()
    (line,) = [line for line in objects(out) if line["logger"] == "minitill.http"]
    assert line.pop("milliseconds") >= 0
    del line["at"]
    assert line == {
        "level": "info",
        "logger": "minitill.http",
        "message": f"POST {CREATE} 200",
        "request_id": "request-0001",
        "method": "POST",
        "route": CREATE,
        "status": 200,
        "client": "127.0.0.1",
        "caller": "anyone",
        "code": "-",
        "out_trade_no": "PAY17031234560000000001",
    }


async def test_a_notification_s_line_names_its_order_and_what_came_of_it(written):
    out = written()

    async def handler(_request):
        note("FEE_MISMATCH", "PAY1")
        note("", "")
        return web.Response(status=500)

    route = PlainRoute(method="POST", path="/plain", who=Who.WECHAT, handler=handler, summary="x")
    till = await Till().open(route)
    try:
        await till.client.post("/plain")
    finally:
        await till.close()
    (line,) = [line for line in objects(out) if line["logger"] == "minitill.http"]
    assert (line["code"], line["out_trade_no"], line["status"]) == ("FEE_MISMATCH", "PAY1", 500)


def test_a_line_that_names_its_request_keeps_it(written):
    out = written()
    token = TRACE.set(Trace("request-of-now"))
    logging.getLogger("minitill.x").info("told", extra={"request_id": "request-of-then"})
    TRACE.reset(token)
    assert objects(out)[0]["request_id"] == "request-of-then"
