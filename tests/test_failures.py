"""Failures explained: each refused notification and failed call, once, with its evidence and its meaning."""

import json
from datetime import datetime, timedelta

import pytest
from aiohttp import web
from attrs import Factory, define, evolve

from adapters.http.failures_api import FailureApi
from adapters.store.memory import MemoryStore
from adapters.store.memory_failures import MemoryFailures
from adapters.store.sqlite import SqliteStore
from adapters.wechat.certificates import UNKNOWN_SERIAL
from adapters.wechat.evidence import shown_headers, shown_raw
from adapters.wechat.notify import EXPLANATIONS
from adapters.wechat.watch import Watch
from application.errors import StoreUnavailable
from application.failures import REMEMBERED_MAX, Failure, FailureBook, FailureNotFound
from application.ports import Refused, Unknown
from entrypoints.cli import main
from tests.http_till import Till
from tests.notify_till import NotifyTill
from tests.test_notify_v3 import message, transaction
from tests.wechat_side import (
    NOW,
    NUMBER,
    OPENID,
    PLATFORM_SERIAL,
    certificate_pem,
    lines,
    merchant,
    order,
    v2_xml,
    v3_error,
    v3_headers,
)

SECOND = timedelta(seconds=1)
FAILURES = "/api/wechat/pay/failures"


@define
class Counting(MemoryFailures):
    """Counts its writes; gives way when told to."""

    writes: int = 0
    broken: bool = False

    async def keep(self, failure):
        self.writes += 1
        if self.broken:
            raise StoreUnavailable("disk full")
        await super().keep(failure)


@define
class Desk:
    """A book over a store that counts, on a clock that a test moves."""

    now: datetime = NOW
    store: Counting = Factory(Counting)
    book: FailureBook = None

    def __attrs_post_init__(self):
        self.book = FailureBook(self.store, lambda: self.now)

    async def fails(self, about="", **changes):
        given = {"kind": "notify.v3", "code": "SERIAL", "about": about, "at": self.now, **changes}
        await self.book.keep(Failure(**given))


@pytest.fixture
def desk():
    return Desk()


# -- the same failure again ----------------------------------------------------------------------


async def test_a_flood_of_one_failure_is_one_write_in_ten_seconds(desk):
    for _ in range(500):
        await desk.fails()
    assert desk.store.writes == 1
    desk.now += 10 * SECOND
    await desk.fails()
    assert desk.store.writes == 2
    ((_, kept),) = desk.store.kept.items()
    assert (kept.count, kept.first_at, kept.at) == (501, NOW, NOW + 10 * SECOND)


async def test_what_was_only_counted_is_written_down_soon(desk):
    for _ in range(3):
        await desk.fails()
    assert await desk.book.write_down() == 0
    desk.now += 10 * SECOND
    assert await desk.book.write_down() == 1
    assert [one.count for one in desk.store.kept.values()] == [3]
    assert await desk.book.write_down(all_of_them=True) == 0


async def test_whoever_looks_sees_the_count_of_this_moment(desk):
    for _ in range(3):
        await desk.fails()
    (seen,) = await desk.book.newest(10)
    assert seen.count == 3
    await desk.fails()
    assert (await desk.book.find(seen.id)).count == 4


async def test_a_clock_that_was_set_back_does_not_stop_the_writing(desk):
    await desk.fails()
    desk.now -= timedelta(days=1)
    await desk.fails()
    assert desk.store.writes == 2


async def test_memory_is_bounded_and_nothing_is_lost(desk):
    for about in range(REMEMBERED_MAX + 50):
        for _ in range(2):
            await desk.fails(str(about))
    assert len(desk.book._written_at) == REMEMBERED_MAX
    await desk.book.write_down(all_of_them=True)
    assert sum(one.count for one in desk.store.kept.values()) == 2 * (REMEMBERED_MAX + 50)
    assert not desk.book._waiting


async def test_evidence_that_cannot_be_written_is_logged_and_written_later(desk, caplog):
    desk.store.broken = True
    await desk.fails()
    await desk.fails()
    assert "the evidence was not kept: notify.v3 SERIAL" in caplog.text
    desk.store.broken = False
    desk.now += 10 * SECOND
    await desk.book.write_down()
    assert [one.count for one in desk.store.kept.values()] == [2]


async def test_what_has_not_come_again_for_its_days_is_forgotten(desk):
    desk.book.keep_for = timedelta(days=30)
    await desk.fails("old")
    desk.now += timedelta(days=30) + SECOND
    await desk.fails("new")
    assert await desk.book.forget() == 1
    assert [one.about for one in desk.store.kept.values()] == ["new"]


# -- refused notifications -----------------------------------------------------------------------


@pytest.fixture
def notified(runner, tmp_path):
    opened = []

    async def open_till(**changes):
        opened.append(await NotifyTill.open(merchant(**changes), tmp_path / "platform"))
        return opened[-1]

    yield open_till
    for till in opened:
        runner.run(till.close())


def signed(body, **signing):
    return {"Content-Type": "application/json", **v3_headers(body, **signing)}


async def test_a_forgery_is_kept_once_with_the_check_that_failed(notified):
    """R28: whatever serial or order the forger makes up, it is one failure."""
    till = await notified()
    await till.holds()
    body = message(transaction())
    for n in range(5):
        await till.told(body, signed(body, serial=f"ABCDEF{n}"))
    (kept,) = till.kept
    assert (kept.kind, kept.code, kept.about, kept.count) == ("notify.v3", "SERIAL", UNKNOWN_SERIAL, 5)
    assert kept.headers["wechatpay-serial"] == "ABCDEF4"
    assert "wechatpay-signature" in kept.headers
    assert json.loads(kept.evidence)["id"] == "EV-1"
    assert not kept.is_alarm
    assert kept.explanation.startswith("signed with a key we do not hold")


@pytest.mark.parametrize(
    ("code", "signing"),
    [
        ("SIGNATURE", {"signer": "java_merchant"}),
        ("CLOCK", {"at": NOW + timedelta(minutes=5)}),
        ("PROBE", {"Wechatpay-Signature": "WECHATPAY/SIGNTEST/abcd"}),
        ("TYPE", {"Wechatpay-Signature-Type": "WECHATPAY2-SM2-WITH-SM3"}),
    ],
)
async def test_a_failed_check_names_the_key_it_was_made_with(notified, code, signing):
    """R26, R27."""
    till = await notified()
    body = message(transaction())
    headers = signed(body, **{k: v for k, v in signing.items() if not k.startswith("W")})
    await till.told(body, headers | {k: v for k, v in signing.items() if k.startswith("W")})
    (kept,) = till.kept
    assert (kept.code, kept.about, kept.serial) == (code, PLATFORM_SERIAL, PLATFORM_SERIAL)
    assert kept.explanation == EXPLANATIONS[code.lower()]


async def test_a_resource_nobody_can_open_asks_for_the_key(notified):
    """R32."""
    till = await notified()
    body = message(transaction(), api_v3_key="0" * 32)
    await till.told(body, signed(body))
    (kept,) = till.kept
    assert kept.code == "DECRYPT"
    assert "APIv3 key" in kept.detail + kept.explanation


async def test_a_stranger_who_names_an_order_is_about_no_order(notified):
    till = await notified()
    await till.holds("v2")
    for n in range(3):
        await till.told(v2_xml({"out_trade_no": f"{NUMBER}{n}", "openid": OPENID}, api_key="0" * 32))
    (kept,) = till.kept
    assert (kept.code, kept.about, kept.out_trade_no, kept.count) == ("SIGNATURE", "", "", 3)
    assert json.loads(kept.evidence) == {"out_trade_no": f"{NUMBER}2", "openid": f"{OPENID[:6]}…"}


async def test_a_signed_lie_is_an_alarm_about_its_order(notified):
    """R28."""
    till = await notified()
    await till.holds()
    body = message(transaction(amount={"total": 1, "currency": "CNY"}))
    await till.told(body, signed(body) | {"Request-ID": "08F9-268443699"})
    (kept,) = till.failures
    assert (kept.code, kept.about, kept.out_trade_no) == ("FEE_MISMATCH", NUMBER, NUMBER)
    assert kept.is_alarm
    assert "look in the merchant platform" in kept.explanation
    assert "268443699: the signature is wrong" in kept.explanation
    assert OPENID not in kept.evidence


async def test_a_fault_of_ours_keeps_what_wechat_said(notified, monkeypatch):
    till = await notified()
    await till.holds()

    async def broken(*_arguments):
        raise RuntimeError("the key is 192006250b4c")

    monkeypatch.setattr(MemoryStore, "save", broken)
    body = message(transaction())
    assert (await till.told(body, signed(body)))[0] == 500
    (kept,) = till.kept
    assert (kept.code, kept.detail) == ("FAULT", "RuntimeError")
    assert json.loads(kept.evidence)["id"] == "EV-1"


async def test_what_is_no_message_at_all_is_kept_masked_and_cut(notified):
    till = await notified()
    await till.told(b"openid is " + OPENID.encode() + b" \xff" + b"x" * 20_000)
    (kept,) = till.kept
    assert kept.evidence.startswith(f"openid is {OPENID[:6]}… �x")
    assert len(kept.evidence.encode()) <= 8 * 1024


def test_headers_are_kept_only_where_they_explain():
    kept = shown_headers(
        {
            "Authorization": "Bearer mt_secret",
            "Cookie": "x",
            "Wechatpay-Serial": "A" * 9000,
            "Request-ID": "r",
            **{f"Wechatpay-{n}": "x" for n in range(100)},
        }
    )
    assert {"authorization", "cookie"}.isdisjoint(kept)
    assert kept["request-id"] == "r"
    assert len(kept) <= 16
    assert all(len(value) <= 512 for value in kept.values())


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 60_000, b"{" * 60_000, b"<xml>", b'{"a":' * 30_000, b"\xff"]
)
def test_no_body_breaks_its_own_evidence(body):
    assert len(shown_raw(body).encode()) <= 8 * 1024


# -- failed calls --------------------------------------------------------------------------------


@pytest.fixture
def line(runner, tmp_path):
    (tmp_path / "platform").mkdir()
    (tmp_path / "platform" / "go_platform.pem").write_bytes(certificate_pem())
    made = lines(runner, tmp_path)
    make = next(made)
    yield runner.run(make())
    next(made, None)


def watched(line):
    book = FailureBook(MemoryFailures(), line.clock, write_every=timedelta(0))
    watch = Watch(clock=line.clock, book=book)
    line.certificates.watch = watch
    return evolve(line.gateway, watch=watch), book


async def test_a_refused_call_is_explained_with_its_request_id(line):
    """R48: the Request-Id, its numeric suffix and what it means."""
    gateway, book = watched(line)
    line.wechat.says(v3_error(401, "SIGN_ERROR", "错误的签名", **{"Request-ID": "08F9-268443699"}))
    assert isinstance(await gateway.prepay(order()), Refused)
    (kept,) = await book.newest(10)
    assert (kept.kind, kept.code, kept.out_trade_no) == ("call.prepay", "SIGN_ERROR", NUMBER)
    assert kept.request_id == "08F9-268443699"
    assert "check the API key" in kept.explanation
    assert "268443699: the signature is wrong" in kept.explanation
    assert json.loads(kept.evidence)["code"] == "SIGN_ERROR"
    assert "HTTP 401" in kept.detail
    assert not kept.is_alarm


async def test_an_answer_that_is_not_verified_is_kept_with_its_serial(line):
    """R48, R52."""
    gateway, book = watched(line)
    answer = web.json_response({"prepay_id": "wx1"})
    body = bytes(answer.body)
    answer.headers.update(v3_headers(body, signer="java_merchant"))
    line.wechat.says(answer)
    assert isinstance(await gateway.prepay(order()), Unknown)
    (kept,) = await book.newest(10)
    assert (kept.code, kept.serial) == ("NO_ANSWER", PLATFORM_SERIAL)
    assert "not verified" in kept.about
    assert "doctor" in kept.explanation


async def test_the_same_code_of_many_orders_is_one_failure(line):
    gateway, book = watched(line)
    for n in range(3):
        line.wechat.says(v3_error(400, "PARAM_ERROR"))
        await gateway.prepay(order(out_trade_no=f"PAY20240102030405000{n}"))
    (kept,) = await book.newest(10)
    assert (kept.code, kept.count, kept.out_trade_no) == ("PARAM_ERROR", 3, "PAY202401020304050002")


async def test_a_call_that_was_never_made_is_explained_too(line):
    gateway, book = watched(line)
    placed = order()
    await gateway.query(evolve(placed, placement=evolve(placed.placement, mch_id="1900000001")))
    (kept,) = await book.newest(10)
    assert (kept.code, kept.evidence) == ("OTHER_MERCHANT", "")
    assert "WECHAT_PAY_MCH_ID" in kept.explanation


async def test_a_download_of_certificates_that_fails_is_kept(line):
    _, book = watched(line)
    line.wechat.says(v3_error(403, "NO_AUTH"))
    await line.certificates.refresh()
    (kept,) = await book.newest(10)
    assert (kept.kind, kept.code, kept.out_trade_no) == ("call.certificates", "NO_AUTH", "")


# -- who reads it --------------------------------------------------------------------------------


async def test_the_operator_lists_failures_and_sees_one_with_its_evidence(desk, runner):
    await desk.fails("unknown", headers={"user-agent": "x"}, evidence="{}", explanation="look")
    till = await Till().open(*FailureApi(desk.book).routes())
    try:
        async with till.client.get(FAILURES) as answer:
            (listed,) = (await answer.json())["data"]
        assert (listed["kind"], listed["code"], listed["count"]) == ("notify.v3", "SERIAL", 1)
        assert "evidence" not in listed
        async with till.client.get(f"{FAILURES}/{listed['failure_id']}") as answer:
            shown = (await answer.json())["data"]
        assert shown == listed | {"headers": {"user-agent": "x"}, "evidence": "{}"}
        async with till.client.get(f"{FAILURES}/0123456789abcdef") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (404, "FAILURE_NOT_FOUND")
    finally:
        await till.close()


@pytest.fixture
def database(runner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = runner.run(SqliteStore.open(tmp_path / "till.db"))
    failure = Failure(
        kind="notify.v3",
        code="SERIAL",
        about="unknown",
        serial="unknown",
        explanation="bring the key",
        headers={"wechatpay-serial": "AB\x1b[31m\nforged line"},
        evidence="{}",
        at=NOW,
    )
    runner.run(store.failures.keep(failure))
    runner.run(store.close())
    return ["--database", "sqlite:///till.db"], failure.id


def test_the_command_line_lists_and_shows(database, capsys):
    where, failure_id = database
    assert main(["failures", "list", *where, "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["failure_id"], listed["count"]) == (failure_id, 1)
    assert main(["failures", "show", failure_id, *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["explanation"] == "bring the key"


def test_what_a_stranger_sent_cannot_speak_to_the_terminal(database, capsys):
    where, failure_id = database
    assert main(["failures", "show", failure_id, *where]) == 0
    shown = capsys.readouterr().out
    assert "bring the key" in shown
    assert "\x1b" not in shown
    assert not [line for line in shown.splitlines() if line.startswith("forged")]


def test_a_failure_that_is_not_there_is_a_refusal(database, capsys):
    where, _ = database
    assert main(["failures", "show", "nothing", *where]) == 1
    assert FailureNotFound.code in capsys.readouterr().err
