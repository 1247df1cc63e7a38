"""Secrets are never in a log line, a repr or a message (R46); the whole suite's log lines are read."""

import importlib
import logging
import pkgutil
import re
from pathlib import Path

import attrs
import pytest

import adapters
import application
import domain
import entrypoints
from adapters.http.quotes import Quotes
from adapters.http.tokens import Tokens
from adapters.wechat import v2_wire
from entrypoints.settings import SETTINGS, Settings, attribute
from tests import attacked_till, simulator_side, wechat_side
from tests.attacked_till import ALICE, KEYS, TEA, AttackedTill
from tests.watched_logs import WATCH, Watch, leaks

ROOT = Path(__file__).resolve().parent.parent
SIMULATOR = ROOT / "adapters" / "wechat" / "simulator"
COMPARED = re.compile(
    r"""(?:\bsign\b|signature|secret|api_?key|token|digest|password)\w*["'\])]*(?:\[[^\]]*\])?\s*[!=]=(?!\s*(?:\(\)|["']|None|encoded))
    | [!=]=\s*[\w.]*(?:(?:sign|digest)\w*|hmac[\w.]*)\(""",
    re.VERBOSE,
)
SECRET_NAME = re.compile(r"key|secret|token|password|session|pem\b|private", re.IGNORECASE)
# Fields that are named like a secret and hold none, by class and name; "*" is any class.
NO_SECRETS = {
    "*.private_key_path": "where a file is, not what is in it",
    "*.tls_key": "where a file is, not what is in it",
    "*.public_key_id": "a public key's number",
    "*.public_key_mode": "whether WeChat signs by it",
    "*.public_key_only": "whether WeChat signs by it",
    "*.public_key_percent": "how often WeChat signs by it",
    "*.token_hours": "a length of time",
    "*.allow_private": "whether the shop may be inside the network",
    "*.webhook_allow_private": "whether the shop may be inside the network",
    "*._session": "aiohttp's connections",
    "AccessGuard.tokens": "a part whose own secrets are not printed",
    "LoginApi.tokens": "a part whose own secrets are not printed",
    "KeyRing.keys": "the store of hashed keys; public keys of WeChat's",
    "MemoryStore.keys": "the store of hashed keys",
    "SqlStore.keys": "the store of hashed keys",
    "SqliteStore.keys": "the store of hashed keys",
    "Scribe.keys": "a part whose own secrets are not printed",
    "Platform.keys": "a part whose own secrets are not printed",
    "Answer.key": "an Idempotency-Key, which opens nothing",
    "Keyed.key": "an Idempotency-Key, which opens nothing",
    "Setting.secret": "whether the setting is one",
}


# -- the watch -------------------------------------------------------------------------------


def secrets():
    account = simulator_side.account()
    return {
        "API key": wechat_side.API_KEY,
        "APIv3 key": wechat_side.API_V3_KEY,
        "simulator's API key": account.api_key,
        "AppSecret": account.app_secret,
        "PEM": account.file("apiclient_key.pem").read_text(),
        "a line of a PEM": account.file("apiclient_key.pem").read_text().splitlines()[4],
        "API key of ours": KEYS["admin"],
        "webhook secret": "whsec_" + "A" * 32,
        "token secret": attacked_till.TOKEN_SECRET,
        "session_key": '{"session_key": "HyVFkGl5F5OQWJZZaNzBBg=="}',
        "JWT": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiJvMSJ9" + "." + "x" * 43,
    }


@pytest.mark.parametrize("name", secrets())
def test_the_watch_knows_a_secret_in_a_message_an_argument_or_a_traceback(name):
    secret = secrets()[name]
    log, watch = logging.getLogger("shop"), Watch()
    for told in ("message", "argument", "traceback"):
        exc_info = (ValueError, ValueError(secret if told == "traceback" else "x"), None)
        text = secret if told == "message" else "%s"
        args = (secret if told == "argument" else "x",) if text == "%s" else ()
        watch.read(log.makeRecord("shop", logging.INFO, "f", 1, text, args, exc_info))
    assert len(watch.found) == 3


@pytest.mark.parametrize(
    "line",
    [
        "POST /api/wechat/pay/create 200 1.2ms request_id=0123456789abcdef caller=key k0 admin",
        "set MINITILL_TOKEN_SECRET; WECHAT_PAY_API_KEY is not 32 characters",
        "-----BEGIN PUBLIC KEY-----",
        "session_key never leaves",
    ],
)
def test_the_watch_lets_an_ordinary_line_pass(line):
    assert leaks(line) == []


async def test_a_day_at_the_till_told_in_every_detail_holds_no_secret(tmp_path, caplog):
    """With DEBUG on: orders, payments, logins, forgeries, keys right and wrong, and a fault of ours."""
    caplog.set_level(logging.DEBUG)
    till = await AttackedTill.open(tmp_path)
    before = WATCH.lines
    number = await till.ordered()
    api = "/api/wechat/pay"
    for bearer in (KEYS["admin"], KEYS["pay"], "mt_" + "A" * 43, till.token(), till.forged(secret="x" * 40)):
        for method, path in (("GET", f"{api}/stats"), ("GET", f"{api}/query/{number}")):
            await till.call(method, path, bearer=bearer)
        wish = TEA | {"quote": till.quote(total_fee=1)}
        await till.call("POST", f"{api}/create", bearer=bearer, json=wish)
        await till.call("GET", f"{api}/orders/{ALICE}?key={bearer}", bearer=bearer)
    await till.call("POST", "/api/wechat/login", json={"code": "0a1b2c3d4e5f"})
    fields = till.paid_v2(number)
    await till.tells(v2_wire.write({**fields, "sign": "0" * 32, "attach": attacked_till.TOKEN_SECRET}))
    await till.tells(v2_wire.write(fields))
    body = till.paid_v3(number)
    await till.tells(body, till.signed_v3(body))
    await till.tells(body, till.signed_v3(body, serial="PUB_KEY_ID_0"))
    till.gateway.answer = RuntimeError("a fault of ours")
    await till.call("POST", f"{api}/create", bearer=KEYS["pay"], json=TEA)
    await till.close()
    assert WATCH.lines - before > 20
    assert WATCH.found == []
    assert leaks(caplog.text) == []


# -- what prints itself ----------------------------------------------------------------------


def every_attrs_class():
    found = {}
    for room in (domain, application, adapters, entrypoints):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if module.name.endswith("__main__"):
                continue
            for each in vars(importlib.import_module(module.name)).values():
                if isinstance(each, type) and attrs.has(each) and each.__module__ == module.name:
                    found[f"{each.__module__}.{each.__qualname__}"] = each
    return found


def sounding_secrets():
    """Every field whose name sounds like a secret and whose value a repr would print."""
    return {
        (kind.__name__, field.name)
        for kind in every_attrs_class().values()
        for field in attrs.fields(kind)
        if SECRET_NAME.search(field.name) and field.repr
    }


def test_a_field_that_sounds_like_a_secret_is_not_printed_or_has_its_reason():
    bare = [
        f"{kind}.{name}"
        for kind, name in sounding_secrets()
        if not {f"{kind}.{name}", f"*.{name}"} & NO_SECRETS.keys()
    ]
    assert bare == [], "field(repr=False), or a reason in NO_SECRETS"


def test_no_reason_is_left_without_a_field():
    found = {f"{kind}.{name}" for kind, name in sounding_secrets()}
    assert found | {f"*.{name}" for _, name in sounding_secrets()} >= NO_SECRETS.keys()


def test_what_is_kept_of_the_keys_and_tokens_prints_none():
    """The parts that are allowed to be printed, printed."""
    tokens = Tokens(secrets=(attacked_till.TOKEN_SECRET,), appid="wx1", hours=1, clock=None)
    quotes = Quotes(secrets=(attacked_till.QUOTE_SECRET,), clock=None)
    account = simulator_side.account()
    for part in (tokens, quotes, account, account.merchant, wechat_side.merchant()):
        assert leaks(repr(part)) == []


def test_every_secret_setting_is_kept_out_of_print():
    shown = {field.name for field in attrs.fields(Settings) if field.repr}
    assert not shown & {attribute(setting.name) for setting in SETTINGS if setting.secret}


# -- how they are compared -------------------------------------------------------------------


def test_a_signature_is_compared_in_constant_time():
    """No room compares a signature, a digest or a secret with ==; the simulator's guard nothing."""
    bad = []
    for folder in ("adapters", "application", "entrypoints"):
        for path in set((ROOT / folder).rglob("*.py")) - set(SIMULATOR.rglob("*.py")):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if COMPARED.search(line.partition("#")[0]):
                    bad.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert bad == []
