"""A payer does not choose the price: what a quote must be, and that it is good for one order (R9)."""

import asyncio
import base64
import json
import logging
from datetime import timedelta

import jwt
import pytest
from attrs import define, evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.http.quotes import Quotes
from adapters.http.routes import Caller, Who
from adapters.http.shapes import CreateOrder
from adapters.store.sqlite import SqliteStore
from application.access import Quote, QuoteExpired, QuoteInvalid, QuoteMismatch, QuoteRequired, QuoteUsed
from application.answers import Keyed
from application.ports import Unknown
from domain.errors import PaymentError
from tests.access_till import (
    ALICE,
    BOB,
    NOW,
    PAY,
    SHOP,
    TOKEN_SECRET,
    bearer,
    guarded_till,
    key_of,
    quote,
    signed,
    token,
    unix,
)
from tests.http_till import CREATE, TEA, refusal
from tests.shop import NO_RIGHTS, Shelf, Wechat, a_draft, the_payments
from tests.shop import TEA as SHOP_TEA

PAYER = Caller(kind=Who.PAYER, name="payer", openid=ALICE)
OTHERS = [Caller(kind=kind, name="x") for kind in (Who.BACKEND, Who.OPERATOR, Who.ANYONE)]
OLD_SHOP = "the secret that the shop had before this one"
QUOTES = Quotes(secrets=(SHOP, OLD_SHOP), clock=lambda: NOW)


def wish(**changes):
    return CreateOrder(**(TEA | changes))


def checked(text, caller=PAYER, **changes):
    return QUOTES.check(wish(quote=text, **changes), caller)


def test_a_fitting_quote_is_taken():
    found = checked(quote())
    assert found.expires_at.timestamp() == unix(minutes=10)


@pytest.mark.parametrize("secret", [SHOP, OLD_SHOP])
def test_either_secret_is_taken_while_they_are_rotated(secret):
    """With a key id or without."""
    assert checked(quote(secret))
    assert checked(signed(parts(quote())[1], secret))


def test_the_openid_and_the_attach_are_bound_if_the_quote_names_them():
    assert checked(quote(openid=ALICE))
    assert checked(quote(attach=None), attach=None)
    assert checked(quote(attach=""), attach=None)
    assert checked(quote(attach=None), attach="")


@pytest.mark.parametrize(
    ("claims", "asked", "name"),
    [
        ({"total_fee": 101}, {}, "total_fee"),
        ({}, {"total_fee": 1}, "total_fee"),
        ({"total_fee": 100.0}, {}, "total_fee"),
        ({"total_fee": "100"}, {}, "total_fee"),
        ({"total_fee": True}, {"total_fee": 1}, "total_fee"),
        ({"body": "红茶"}, {}, "body"),
        ({"body": ["绿茶"]}, {}, "body"),
        ({"attach": "table 8"}, {}, "attach"),
        ({"attach": None}, {}, "attach"),
        ({}, {"attach": None}, "attach"),
        ({"attach": False}, {"attach": ""}, "attach"),
        ({"openid": BOB}, {}, "openid"),
        ({"openid": ""}, {}, "openid"),
    ],
)
def test_another_order_than_the_quoted_one_is_refused_by_the_field(claims, asked, name):
    with pytest.raises(QuoteMismatch) as refused:
        checked(quote(**claims), **asked)
    assert refused.value.field == name


@pytest.mark.parametrize("claims", [{"exp": unix()}, {"exp": unix(seconds=-1)}, {"exp": 0}, {"exp": -5}])
def test_an_expired_quote_is_refused(claims):
    with pytest.raises(QuoteExpired):
        checked(quote(**claims))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quote",
        "a.b.c",
        "令.牌.牌",
        "." * 3,
        "a" * 5000,
        quote(TOKEN_SECRET),
        quote("x" * 32),
        quote(exp=None),
        quote(total_fee=None),
        quote(body=None),
        quote(exp=float(unix(minutes=1))),
        quote(exp=str(unix(minutes=1))),
        quote(exp=True),
        quote(exp=10**30),
        quote(nbf=unix(seconds=1)),
        quote(nbf="soon"),
        quote(jti=7),
        quote(aud="another till"),
        signed({"total_fee": 100, "body": "绿茶", "exp": unix(minutes=1)}, SHOP, kid="00000000"),
        jwt.encode({"total_fee": 100, "body": "绿茶", "exp": unix(minutes=1)}, SHOP, "HS512"),
        jwt.encode({"total_fee": 100, "body": "绿茶", "exp": unix(minutes=1)}, None, "none"),
    ],
)
def test_what_the_shop_did_not_sign_so_is_no_quote(text):
    with pytest.raises(QuoteInvalid):
        checked(text)


def parts(text):
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in text.split(".")[:2]]


def joined(header, claims, signature):
    words = [
        json.dumps(each, separators=(",", ":"), ensure_ascii=False).encode() for each in (header, claims)
    ]
    return ".".join([*(base64.urlsafe_b64encode(w).rstrip(b"=").decode() for w in words), signature])


@settings(deadline=None, max_examples=300)
@given(place=st.integers(0, 10_000), character=st.sampled_from("ABCZabcz0189-_.=+/ \n"))
def test_a_quote_altered_anywhere_is_refused(place, character):
    """R9: not one character may differ, not even those whose bits no signature needs."""
    text = quote(jti="once")
    place %= len(text)
    altered = text[:place] + character + text[place + 1 :]
    if altered == text:
        assert checked(altered)
        return
    with pytest.raises(PaymentError):
        checked(altered)


@settings(deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from(["total_fee", "body", "attach", "openid", "exp", "jti"]),
        st.one_of(st.integers(), st.text(max_size=5), st.booleans(), st.none()),
        min_size=1,
    )
)
def test_claims_that_were_changed_are_not_signed(changes):
    header, claims = parts(quote())
    if claims | changes != claims:
        with pytest.raises(QuoteInvalid):
            checked(joined(header, claims | changes, quote().rpartition(".")[2]))


def test_nothing_appended_to_a_quote_is_overlooked():
    for text in (quote() + "=", quote() + "A", quote() + "\n", " " + quote(), quote() + ".x"):
        with pytest.raises(QuoteInvalid):
            checked(text)


def test_the_id_of_a_quote_is_its_jti_else_all_that_was_signed():
    assert checked(quote(jti="a")).id == checked(quote(jti="a", exp=unix(minutes=9))).id
    assert len({checked(each).id for each in (quote(), quote(jti="a"), quote(exp=unix(minutes=9)))}) == 3


def test_who_may_set_the_price_needs_no_quote_but_a_wrong_one_is_refused_all_the_same():
    for caller in OTHERS:
        assert checked(None, caller) is None
        assert checked(quote(), caller)
        with pytest.raises(QuoteMismatch):
            checked(quote(total_fee=1), caller)
    with pytest.raises(QuoteRequired):
        checked(None)
    with pytest.raises(QuoteInvalid):
        checked("")


def test_without_a_secret_payers_can_not_order_and_the_operator_is_told_why(caplog):
    quotes = Quotes(clock=lambda: NOW)
    with pytest.raises(QuoteRequired):
        quotes.check(wish(quote=quote()), PAYER)
    assert "set MINITILL_QUOTE_SECRET" in caplog.text
    for caller in OTHERS:
        assert quotes.check(wish(quote=quote()), caller) is None


def test_no_secret_is_shown():
    assert SHOP not in repr(QUOTES)


# -- at the till -----------------------------------------------------------------------------------


async def post(till, shown, key=None, **changes):
    headers = bearer(shown) | ({"Idempotency-Key": key} if key else {})
    return await till.client.post(CREATE, json=TEA | changes, headers=headers)


@pytest.mark.parametrize(
    ("text", "status", "code", "name"),
    [
        (None, 403, "QUOTE_REQUIRED", None),
        ("x.y.z", 400, "QUOTE_INVALID", "quote"),
        (quote(exp=unix()), 403, "QUOTE_EXPIRED", "quote"),
        (quote(total_fee=1), 403, "QUOTE_MISMATCH", "total_fee"),
        (quote(openid=BOB), 403, "QUOTE_MISMATCH", "openid"),
    ],
)
async def test_each_wrong_quote_has_its_own_code_and_nothing_is_placed(text, status, code, name):
    """R9."""
    async with guarded_till() as till:
        await refusal(await post(till, token(), quote=text), status, code, name)
        assert (till.gateway.placed, till.store.events, till.store.quotes) == ([], [], set())


async def test_a_quote_is_good_for_one_order():
    """R9: by the same payer or another, WeChat does not even hear of the second."""
    async with guarded_till() as till:
        assert (await post(till, token(), quote=quote())).status == 200
        for shown, openid in ((token(), ALICE), (token(BOB), BOB), (key_of(PAY), ALICE)):
            await refusal(await post(till, shown, quote=quote(), openid=openid), 409, "QUOTE_USED")
        assert len(till.gateway.placed) == 1


async def test_a_retry_with_its_key_gets_its_answer_though_the_quote_is_used_and_over():
    """R10."""
    async with guarded_till() as till:
        first = await (await post(till, token(), "k1", quote=quote())).read()
        till.now = NOW.replace(hour=23)
        assert await (await post(till, token(), "k1", quote=quote())).read() == first
        await refusal(await post(till, token(), "k2", quote=quote()), 403, "QUOTE_EXPIRED", "quote")
        assert len(till.gateway.placed) == 1


async def test_many_taps_with_one_key_and_one_quote_are_one_order():
    """R10."""
    async with guarded_till() as till:
        answers = await asyncio.gather(*(post(till, token(), "k1", quote=quote()) for _ in range(10)))
        assert len({await answer.read() for answer in answers}) == 1
        assert {answer.status for answer in answers} == {200}
        assert len(till.store.rows) == 1


async def test_many_taps_with_one_quote_and_no_key_are_one_order():
    """R9."""
    async with guarded_till() as till:
        answers = await asyncio.gather(*(post(till, token(), quote=quote()) for _ in range(10)))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 9
        assert len(till.store.rows) == 1


async def test_an_unanswered_order_keeps_its_quote_and_goes_on_under_its_key():
    async with guarded_till() as till:
        taken, till.gateway.answer = till.gateway.answer, Unknown(why="timed out")
        await refusal(await post(till, token(), "k1", quote=quote()), 504, "WECHAT_NO_ANSWER")
        await refusal(await post(till, token(), quote=quote()), 409, "QUOTE_USED")
        till.gateway.answer = taken
        assert (await post(till, token(), "k1", quote=quote())).status == 200
        assert len(till.store.rows) == 1


async def test_an_order_that_wechat_refused_leaves_the_quote_to_the_next_try():
    async with guarded_till() as till:
        taken, till.gateway.answer = till.gateway.answer, NO_RIGHTS
        assert (await post(till, token(), quote=quote())).status == 502
        till.gateway.answer = taken
        assert (await post(till, token(), quote=quote())).status == 200


@define
class LateEar(Shelf):
    """The store as a second process sees it, which asked for the answer before its twin had written it."""

    deaf: int = 1

    async def recall(self, caller, key):
        self.deaf -= 1
        return None if self.deaf >= 0 else await super().recall(caller, key)


async def test_twins_in_two_processes_share_one_answer_by_one_quote():
    """R10."""
    shelf, wechat = LateEar(deaf=0), Wechat()
    payments = the_payments(shelf, wechat, lambda: NOW)
    once = Quote(id="q1", expires_at=NOW + timedelta(minutes=10))
    keyed = Keyed(caller="PAYER o1", key="k1", request_hash="9f86", write=lambda _: (200, b"{}"))
    new = evolve(SHOP_TEA, quoting=lambda: once)
    first = await payments.create_keyed(new, "api", keyed)
    shelf.deaf = 1
    assert await payments.create_keyed(new, "api", keyed) == first
    shelf.deaf = 1
    with pytest.raises(QuoteUsed):
        await payments.create_keyed(new, "api", evolve(keyed, key="k2"))
    assert len(wechat.placed) == len(shelf.rows) == 1


async def test_a_quote_is_forgotten_a_day_after_it_expired(tmp_path):
    store = await SqliteStore.open(tmp_path / "minitill.db")
    known = []
    for number, quote_id, hours in (("PAY001", "a", 0), ("PAY002", "b", 23), ("PAY003", "c", 25)):
        at = NOW + timedelta(hours=hours)
        order = a_draft(out_trade_no=number).placed("wx", at, "api")
        await store.orders.save(order, None, Quote(id=quote_id, expires_at=at))
        known.append([one for one in "abc" if await store.orders.is_quote_used(one)])
    await store.close()
    assert known == [["a"], ["a", "b"], ["b", "c"]]


async def test_in_open_mode_a_quote_that_is_given_is_checked():
    async with guarded_till(is_open=True) as till:
        assert (await till.client.post(CREATE, json=TEA)).status == 200
        answer = await till.client.post(CREATE, json=TEA | {"quote": quote(total_fee=1)})
        await refusal(answer, 403, "QUOTE_MISMATCH", "total_fee")
    async with guarded_till(is_open=True, quote_secrets=()) as till:
        assert (await till.client.post(CREATE, json=TEA | {"quote": "whatever"})).status == 200


async def test_the_quote_is_not_logged(caplog):
    caplog.set_level(logging.DEBUG)
    async with guarded_till() as till:
        for text in (quote(), quote(), quote(total_fee=1), quote(exp=1)):
            await post(till, token(), quote=text)
            assert text not in caplog.text
            assert text.rpartition(".")[2] not in caplog.text
        assert SHOP not in caplog.text
