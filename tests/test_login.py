"""A payer logs in: WeChat says who it is, our token carries it, and nothing secret gets out (R20)."""

import base64
import json
import logging
from datetime import timedelta

import jwt
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.http.tokens import Tokens, kid_of
from adapters.wechat import miniprogram
from adapters.wechat.client import Client
from adapters.wechat.miniprogram import MiniProgram, addresses
from application import login
from application.access import TokenExpired, Unauthenticated
from domain.errors import PaymentError
from tests.access_till import (
    ALICE,
    APPID,
    BOB,
    NOW,
    OLD_SECRET,
    SHOP,
    TOKEN_SECRET,
    bearer,
    guarded_till,
    quote,
    signed,
    token,
    tokens,
    unix,
)
from tests.http_till import ORDERS, refusal
from tests.simulator_side import account, merchant
from tests.wechat_side import WechatSide

LOGIN = "/api/wechat/login"
APP_SECRET = "0123456789abcdef0123456789abcdef"
SESSION_KEY = "HyVFkGl5F5OQWJZZaNzBBg=="


# -- code2Session ------------------------------------------------------------------------------------


@pytest.fixture
def wechat(runner):
    side = WechatSide()
    runner.run(side.start())
    yield side
    runner.run(side.stop())


@pytest.fixture
def desk(runner, wechat):
    """The mini-program, with WeChat's side played by a list of answers; naps are only noted."""
    naps = []

    async def nap(seconds):
        naps.append(seconds)

    client = Client(clock=lambda: NOW, base_url=wechat.url, backup_url="", sleep=nap, read_seconds=2)
    yield MiniProgram(client=client, appid=APPID, app_secret=APP_SECRET)
    runner.run(client.close())


def logged(caplog):
    """All that was logged, but for the lines of the test's own server."""
    records = [record for record in caplog.records if record.name != "aiohttp.access"]
    return "\n".join(record.getMessage() for record in records)


def words(content_type="text/plain", status=200, **fields):
    return web.Response(body=json.dumps(fields).encode(), status=status, content_type=content_type)


@pytest.mark.parametrize("more", [{}, {"errcode": 0, "errmsg": "ok"}, {"unionid": "u"}])
async def test_a_code_becomes_an_openid(desk, wechat, more):
    """Whatever the Content-Type says (miniprogram.md, head)."""
    wechat.says(words(openid=ALICE, session_key=SESSION_KEY, **more))
    assert await desk.openid("0a1B2c") == ALICE
    (heard,) = wechat.heard
    assert heard.method == "GET"
    assert heard.target == (
        f"/sns/jscode2session?appid={APPID}&secret={APP_SECRET}&js_code=0a1B2c&grant_type=authorization_code"
    )


@pytest.mark.parametrize(
    ("errcode", "refusal_"),
    [
        (40029, login.LoginCodeInvalid),
        (40163, login.LoginCodeUsed),
        (40226, login.LoginBlocked),
        (45011, login.LoginTooOften),
        (40013, login.LoginNotSetUp),
        (40125, login.LoginNotSetUp),
        (41002, login.LoginNotSetUp),
        (41004, login.LoginNotSetUp),
        (41008, login.LoginNotSetUp),
        (99999, login.LoginRefused),
    ],
)
async def test_each_errcode_is_its_own_refusal(desk, wechat, caplog, errcode, refusal_):
    caplog.set_level(logging.DEBUG)
    wechat.says(words(errcode=errcode, errmsg=f"no {APP_SECRET}, rid: 5f1-2a-{errcode}"))
    with pytest.raises(login.LoginRefused) as refused:
        await desk.openid("code")
    assert type(refused.value) is refusal_
    assert f"errcode {errcode}, rid 5f1-2a-{errcode}" in logged(caplog)
    assert APP_SECRET not in logged(caplog) + str(refused.value)


async def test_a_busy_wechat_is_asked_again(desk, wechat):
    busy = {"errcode": -1, "errmsg": "system error"}
    wechat.says(words(**busy), words(**busy), words(openid=ALICE, session_key=SESSION_KEY))
    assert await desk.openid("code") == ALICE
    assert len(wechat.heard) == 3


async def test_a_wechat_that_stays_busy_gave_no_answer(desk, wechat):
    wechat.says(*(words(errcode=-1) for _ in range(3)))
    with pytest.raises(login.LoginNoAnswer):
        await desk.openid("code")
    assert len(wechat.heard) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b'{"openid": ""}',
        b'{"openid": 7}',
        b'{"openid": "o 1"}',
        b'{"openid": null, "errcode": 0}',
        b'{"errcode": "40029"}',
        b'{"errcode": true}',
        b'{"openid": "o1", "errcode": 0.5}',
    ],
)
async def test_what_can_not_be_understood_is_no_login(desk, wechat, answer):
    wechat.says(answer)
    with pytest.raises(login.LoginNoAnswer):
        await desk.openid("code")


async def test_without_an_app_secret_wechat_is_not_asked(desk, wechat, caplog):
    with pytest.raises(login.LoginNotSetUp):
        await MiniProgram(client=desk.client, appid=APPID, app_secret="").openid("code")
    assert "set WECHAT_PAY_APP_SECRET" in caplog.text
    assert wechat.heard == []


@pytest.mark.parametrize("code", ["", "a b", "a\n", "c" * 129, "码"])
async def test_what_is_no_code_does_not_reach_wechat(desk, wechat, code):
    with pytest.raises(login.LoginCodeInvalid):
        await desk.openid(code)
    assert wechat.heard == []


async def test_a_code_can_not_add_to_the_query(desk, wechat):
    wechat.says(words(errcode=40029))
    with pytest.raises(login.LoginCodeInvalid):
        await desk.openid("a&appid=wx0&secret=x#")
    assert "js_code=a%26appid%3Dwx0%26secret%3Dx%23&grant_type" in wechat.heard[0].target


async def test_nothing_of_a_login_is_logged_or_shown(desk, wechat, caplog):
    caplog.set_level(logging.DEBUG)
    wechat.says(words(openid=ALICE, session_key=SESSION_KEY), words(errcode=-1), b"nonsense", b"nonsense")
    await desk.openid("code-1")
    for code in ("code-2", "code-3"):
        with pytest.raises(login.LoginRefused) as refused:
            await desk.openid(code)
        assert APP_SECRET not in repr(refused.value)
    lost = MiniProgram(
        client=Client(clock=lambda: NOW, base_url="http://127.0.0.1:9", backup_url=""),
        appid=APPID,
        app_secret=APP_SECRET,
    )
    with pytest.raises(login.LoginNoAnswer) as refused:
        await lost.openid("code-4")
    await lost.client.close()
    for secret in (APP_SECRET, SESSION_KEY, "code-1", "code-4"):
        assert secret not in logged(caplog) + repr(refused.value) + repr(desk)


def test_the_mini_programs_side_is_wechats_own_unless_a_simulator_is_meant():
    assert addresses("https://api.mch.weixin.qq.com") == (miniprogram.BASE_URL, miniprogram.BACKUP_URL)
    assert miniprogram.BASE_URL == "https://api.weixin.qq.com"
    assert addresses("http://127.0.0.1:5001") == ("http://127.0.0.1:5001", "")


async def test_a_payer_of_the_simulator_logs_in():
    """The code of the simulator's phone, each good once."""
    async with merchant() as one:
        client = Client(clock=lambda: NOW, base_url=one.simulator.url, backup_url="")
        desk = MiniProgram(client=client, appid=account().appid, app_secret=account().app_secret)
        code = (await one.sim("login", {"name": ALICE}))["js_code"]
        assert await desk.openid(code) == ALICE
        with pytest.raises(login.LoginCodeUsed):
            await desk.openid(code)
        with pytest.raises(login.LoginCodeInvalid):
            await desk.openid("nonsense")
        wrong = MiniProgram(client=client, appid=account().appid, app_secret="wrong")
        with pytest.raises(login.LoginNotSetUp):
            await wrong.openid("code-bob")
        await client.close()


# -- the call ------------------------------------------------------------------------------------------


async def test_a_payer_logs_in_and_is_known_by_its_token():
    async with guarded_till() as till:
        answer = await till.client.post(LOGIN, json={"code": "code-alice"})
        data = (await answer.json())["data"]
        assert set(data) == {"openid", "token", "expires_in"}
        assert (answer.status, data["openid"], data["expires_in"]) == (200, ALICE, 24 * 3600)
        assert answer.headers["Cache-Control"] == "no-store"
        assert (await till.client.get(ORDERS + ALICE, headers=bearer(data["token"]))).status == 200
        till.now += timedelta(hours=24)
        answer = await till.client.get(ORDERS + ALICE, headers=bearer(data["token"]))
        await refusal(answer, 401, "TOKEN_EXPIRED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_code_that_wechat_refuses_is_no_login():
    async with guarded_till() as till:
        await refusal(await till.client.post(LOGIN, json={"code": "x"}), 400, "LOGIN_CODE_INVALID")
        await refusal(await till.client.post(LOGIN, json={}), 400, "BAD_REQUEST", "code")
        await refusal(await till.client.post(LOGIN, json={"code": 7}), 400, "BAD_REQUEST", "code")


@pytest.mark.parametrize(
    ("refused", "status", "wait"),
    [
        (login.LoginCodeUsed, 400, None),
        (login.LoginBlocked, 403, None),
        (login.LoginTooOften, 429, "60"),
        (login.LoginRefused, 502, None),
        (login.LoginNotSetUp, 503, "60"),
        (login.LoginNoAnswer, 504, None),
    ],
)
async def test_each_refusal_has_its_status(monkeypatch, refused, status, wait):
    async def refuse(_self, _code):
        raise refused("why")

    monkeypatch.setattr("tests.access_till.Wechat.openid", refuse)
    async with guarded_till() as till:
        answer = await till.client.post(LOGIN, json={"code": "x"})
        await refusal(answer, status, refused.code)
        assert answer.headers.get("Retry-After") == wait


async def test_without_a_token_secret_nobody_logs_in_and_the_operator_is_told_why(monkeypatch, caplog):
    monkeypatch.setattr("tests.access_till.tokens", lambda clock: tokens(clock, secrets=()))
    async with guarded_till() as till:
        await refusal(await till.client.post(LOGIN, json={"code": "code-alice"}), 503, "LOGIN_NOT_SET_UP")
        assert "set MINITILL_TOKEN_SECRET" in caplog.text
        answer = await till.client.get(ORDERS + ALICE, headers=bearer(token()))
        await refusal(answer, 401, "UNAUTHENTICATED")


# -- tokens --------------------------------------------------------------------------------------------


def test_a_token_says_who_for_which_mini_program_and_until_when():
    text, expires_in = tokens().issue(ALICE)
    claims = jwt.decode(text, TOKEN_SECRET, ["HS256"], options={"verify_exp": False})
    issued_at = int(NOW.timestamp())
    assert claims == {
        "sub": ALICE,
        "appid": APPID,
        "iat": issued_at,
        "exp": issued_at + expires_in,
        "typ": "payer",
    }
    assert jwt.get_unverified_header(text) == {"alg": "HS256", "typ": "JWT", "kid": kid_of(TOKEN_SECRET)}
    assert tokens().read(text) == ALICE


def test_the_first_secret_signs_and_all_of_them_verify():
    before = tokens(secrets=(OLD_SECRET,)).issue(ALICE)[0]
    during, after = tokens(secrets=(TOKEN_SECRET, OLD_SECRET)), tokens(secrets=(TOKEN_SECRET,))
    assert during.read(before) == ALICE
    assert after.read(during.issue(BOB)[0]) == BOB
    with pytest.raises(Unauthenticated):
        after.read(before)


def unsigned(claims, header):
    texts = [base64.urlsafe_b64encode(json.dumps(x).encode()).rstrip(b"=").decode() for x in (header, claims)]
    return ".".join(texts)


PAYER = {"sub": ALICE, "appid": APPID, "iat": unix(), "exp": unix(hours=24), "typ": "payer"}
FORGERIES = {
    "nothing": "",
    "no parts": "token",
    "empty parts": "..",
    "another secret": token(secret="x" * 40),
    "the quote secret": token(secret=SHOP),
    "a quote": quote(),
    "a quote by our secret": quote(TOKEN_SECRET),
    "alg none": jwt.encode(PAYER, None, "none"),
    "alg none, our kid": jwt.encode(PAYER, None, "none", headers={"kid": kid_of(TOKEN_SECRET)}),
    "alg None, signature kept": unsigned(PAYER, {"alg": "None"}) + "." + token().rpartition(".")[2],
    "alg HS512": signed(PAYER, algorithm="HS512"),
    "alg HS384": signed(PAYER, algorithm="HS384"),
    "another kid": signed(PAYER, kid="00000000"),
    "the kid of another secret": signed(PAYER, kid=kid_of(OLD_SECRET)),
    "a kid that is a path": signed(PAYER, kid="../../dev/null"),
    "a kid that is a number": unsigned(PAYER, {"alg": "HS256", "kid": 7}) + "." + "A" * 43,
    "no sub": token(sub=None),
    "an empty sub": token(sub=""),
    "a sub that is no openid": token(sub="o 1"),
    "a sub that is a number": token(sub=7),
    "no appid": token(appid=None),
    "another appid": token(appid="wx0000000000000000"),
    "no iat": token(iat=None),
    "an iat of words": token(iat="now"),
    "an iat after exp": token(iat=unix(hours=25)),
    "no exp": token(exp=None),
    "an exp of words": token(exp="never"),
    "an exp that is true": token(exp=True),
    "an exp beyond time": token(exp=10**30),
    "a half exp": token(exp=unix(hours=1) + 0.5),
    "no typ": token(typ=None),
    "another typ": token(typ="operator"),
    "an audience": token(aud="somebody else"),
    "a critical header": signed(PAYER, crit=["x"], x=1),
    "too long": token(more="x" * 5000),
}


@pytest.mark.parametrize("text", FORGERIES.values(), ids=FORGERIES)
def test_a_token_that_is_not_ours_is_refused(text):
    with pytest.raises(Unauthenticated) as refused:
        tokens().read(text)
    assert type(refused.value) is Unauthenticated
    assert len(text) < 10 or text not in str(refused.value)


@pytest.mark.parametrize("exp", [unix(), unix(seconds=-1), 1])
def test_a_token_whose_time_is_over_says_so_but_only_if_it_is_ours(exp):
    with pytest.raises(TokenExpired):
        tokens().read(token(iat=0, exp=exp))
    with pytest.raises(Unauthenticated) as refused:
        tokens().read(token(secret="x" * 40, iat=0, exp=exp))
    assert type(refused.value) is Unauthenticated


@settings(deadline=None, max_examples=400)
@given(place=st.integers(0, 10_000), character=st.characters(max_codepoint=0x17F))
def test_a_token_altered_anywhere_is_refused(place, character):
    text = token()
    place %= len(text)
    altered = text[:place] + character + text[place + 1 :]
    if altered != text:
        with pytest.raises(PaymentError):
            tokens().read(altered)


def test_the_bits_that_no_signature_needs_must_be_zero_too():
    """Of the last character only four of six bits are the signature's: no second spelling is taken."""
    text = token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for character in alphabet.replace(text[-1], ""):
        with pytest.raises(Unauthenticated):
            tokens().read(text[:-1] + character)


@settings(deadline=None, max_examples=400)
@given(
    text=st.one_of(st.text(), st.text("ab.-_=", max_size=80), st.binary().map(lambda b: b.decode("latin-1")))
)
def test_no_text_at_all_makes_the_reader_stumble(text):
    with pytest.raises(Unauthenticated):
        tokens().read(text)


@settings(deadline=None, max_examples=400)
@given(
    header=st.one_of(
        st.binary(max_size=60),
        st.just(b"[" * 2900),
        st.just(b'{"alg":' * 400),
        st.just(b'{"alg":' + b"9" * 2900 + b"}"),
        st.dictionaries(
            st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5u"]),
            st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.text(), max_size=2)),
        ).map(lambda words: json.dumps(words).encode()),
    )
)
def test_no_header_makes_the_reader_stumble(header):
    """What stands there is read before anything is known to be signed."""
    text = base64.urlsafe_b64encode(header).rstrip(b"=").decode() or "A"
    with pytest.raises(Unauthenticated):
        tokens().read(f"{text}.{token().split('.')[1]}.{token().split('.')[2]}")


def test_no_secret_is_shown():
    assert TOKEN_SECRET not in repr(tokens())
    assert Tokens(secrets=(), appid=APPID, hours=1, clock=lambda: NOW).secrets == ()
