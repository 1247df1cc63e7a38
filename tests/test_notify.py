"""What WeChat tells us by V2, and what both versions have in common: durable first, then the answer."""

import asyncio
import logging

import pytest
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.store.memory import MemoryStore
from adapters.store.memory_failures import MemoryFailures
from adapters.wechat import v2_wire
from adapters.wechat.notify import PATH, SIZE_MAX
from domain.errors import OrderNotFound, RefundConflict, RefundNotAllowed
from domain.trade import RefundStatus
from tests.notify_till import ACK, NotifyTill, v2_refusal
from tests.wechat_side import (
    API_KEY,
    APPID,
    DOCUMENT,
    NUMBER,
    OPENID,
    TRANSACTION_ID,
    VECTORS,
    merchant,
    v2_xml,
)

MCH_ID = "1230000109"  # whom the vectors notify
OF = {vector["kind"]: [] for vector in DOCUMENT["vectors"]}
for vector in DOCUMENT["vectors"]:
    OF[vector["kind"]].append(vector)
SIGN_TYPES = pytest.mark.parametrize("sign_type", ["MD5", "HMAC-SHA256"])


@pytest.fixture
def open_till(runner, tmp_path):
    opened = []

    async def make(store=None, **changes):
        settings = merchant(**{"mch_id": MCH_ID, **changes})
        opened.append(await NotifyTill.open(settings, tmp_path / "platform", store))
        return opened[-1]

    yield make
    for till in opened:
        runner.run(till.close())


@pytest.fixture
def till(runner, open_till):
    return runner.run(open_till())


def payment(signed_by="MD5", **changes):
    """A payment notification, signed."""
    fields = {
        "appid": APPID,
        "bank_type": "OTHERS",
        "cash_fee": "0",
        "fee_type": "CNY",
        "mch_id": MCH_ID,
        "nonce_str": "5d2b6c2a8db53831f7eda20af46e531c",
        "openid": OPENID,
        "out_trade_no": NUMBER,
        "result_code": "SUCCESS",
        "return_code": "SUCCESS",
        "time_end": "20240102030512",
        "total_fee": "100",
        "transaction_id": TRANSACTION_ID,
    }
    fields = {name: value for name, value in {**fields, **changes}.items() if value is not None}
    return v2_xml(fields, signed_by)


# -- payments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", OF["v2_xml_verify"], ids=lambda vector: vector["id"])
async def test_the_published_notifications_are_judged_as_published(open_till, vector):
    """R6, R23, R33: signed over every field that is not empty, whether we know it or not."""
    given, expect = vector["input"], vector["expect"]
    till = await open_till(api_key=given["key"])
    sign = v2_wire.read(given["xml"].encode()).get("sign", "")
    by_length = "HMAC-SHA256" if len(sign) == 64 else "MD5"
    sign_type = by_length if given["sign_type"] == "auto" else given["sign_type"]
    await till.holds("v2", sign_type, mch_id=MCH_ID)
    answer = await till.told(given["xml"])
    if expect["accept"]:
        assert answer == (200, ACK)
        assert till.status == "PAID"
    else:
        assert v2_refusal(answer) == (400, expect["reason"])
        assert (till.status, till.failures) == ("PENDING", [])


async def test_the_cause_of_a_payment_is_the_notification(till):
    await till.holds("v2", mch_id=MCH_ID)
    await till.told(payment())
    (event,) = [event for event in till.store.events if event.name == "order.paid"]
    assert event.cause == f"notify v2 {TRANSACTION_ID}"
    assert event.facts["transaction_id"] == TRANSACTION_ID


@SIGN_TYPES
async def test_the_stored_order_decides_how_the_sign_was_made(till, sign_type):
    """v2.md section 2: the length of the sign would let a sender choose."""
    await till.holds("v2", "HMAC-SHA256" if sign_type == "MD5" else "MD5", mch_id=MCH_ID)
    assert v2_refusal(await till.told(payment(sign_type, sign_type=sign_type))) == (400, "signature")
    assert till.status == "PENDING"


@SIGN_TYPES
async def test_an_order_placed_by_v3_may_be_notified_by_v2(till, sign_type):
    """Both versions are understood whenever the keys are there."""
    await till.holds("v3", mch_id=MCH_ID)
    assert await till.told(payment(sign_type)) == (200, ACK)
    assert till.status == "PAID"


async def test_a_notification_many_times_is_one_payment(till):
    """R25: one change, one event, a success answer each time; side by side too."""
    await till.holds("v2", mch_id=MCH_ID)
    answers = await asyncio.gather(*(till.told(payment()) for _ in range(8)))
    answers.append(await till.told(payment()))
    assert set(answers) == {(200, ACK)}
    assert till.events == ["order.created", "order.paid"]


@pytest.mark.parametrize("changes", [{"result_code": "FAIL"}, {"return_code": "FAIL"}])
async def test_a_payment_that_failed_is_no_news(till, changes):
    """R17: one failed attempt changes nothing."""
    await till.holds("v2", mch_id=MCH_ID)
    assert await till.told(payment(**changes)) == (200, ACK)
    assert (till.status, till.failures) == ("PENDING", [])


# -- bad input -----------------------------------------------------------------------------------

BAD_XML = [
    *((vector["input"]["xml"], vector["expect"]["reason"]) for vector in OF["v2_xml_parse"]
      if not vector["expect"]["accept"]),
    ("<xml><a><b>1</b></a></xml>", "nested"),
    ("<xml><a>1</a><a>1</a></xml>", "duplicate"),
    (b"<xml><a>\xff\xfe</a></xml>", "malformed"),
    ('<!DOCTYPE xml SYSTEM "http://evil.example/x.dtd"><xml><a>1</a></xml>', "doctype"),
    ('<?xml version="1.0" encoding="utf-16"?><xml><a>1</a></xml>', None),
    ("<html></html>", "root"),
    ("[]", "malformed"),
    ("", "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason"), BAD_XML)
async def test_a_body_that_is_not_v2s_flat_xml_is_refused(till, caplog, body, reason):
    """R23, R33, R47: named in one log line, no trace to the caller, nothing changed."""
    await till.holds("v2", mch_id=MCH_ID)
    status, told = v2_refusal(await till.told(body))
    assert status == 400
    assert told == reason or reason is None
    assert till.status == "PENDING"
    (record,) = caplog.records
    assert record.getMessage().startswith(f"notify v2 refused: {told}")
    assert record.exc_info is None


async def test_a_body_over_the_limit_is_refused_before_it_is_all_there(till):
    async def endless():
        for _ in range(160):
            yield bytes(64 * 1024)

    assert v2_refusal(await till.told(bytes(SIZE_MAX + 1))) == (413, "size")
    answer = await till.client.post(PATH, data=endless())
    assert v2_refusal((answer.status, await answer.read())) == (413, "size")


async def test_a_body_that_never_ends_is_not_waited_for(till, monkeypatch):
    monkeypatch.setattr("adapters.wechat.notify.BODY_SECONDS_MAX", 0.01)
    enough = asyncio.Event()

    async def hesitant():
        yield b"<xml>"
        await enough.wait()

    answer = await till.client.post(PATH, data=hesitant())
    enough.set()
    assert v2_refusal((answer.status, await answer.read())) == (408, "slow")


async def test_without_the_v2_key_nothing_is_believed(open_till, caplog):
    till = await open_till(api_key=None)
    await till.holds("v2", mch_id=MCH_ID)
    assert v2_refusal(await till.told(payment())) == (500, "no_key")
    assert "WECHAT_PAY_API_KEY" in caplog.text


@given(body=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"<xml>{text}</xml>".encode()))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_of_a_stranger_change_anything(runner, till, body):
    """R47."""
    if NUMBER not in till.store.rows:
        runner.run(till.holds("v2", mch_id=MCH_ID))
    status, answer = runner.run(till.told(body))
    assert 400 <= status < 500
    assert b"Traceback" not in answer
    assert (till.status, till.failures) == ("PENDING", [])


# -- rightly signed, and still wrong -------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"total_fee": "99"}, "FEE_MISMATCH"),
        ({"fee_type": "USD"}, "FEE_MISMATCH"),
        ({"appid": "wxother"}, "PAYEE_MISMATCH"),
        ({"mch_id": "1900000109"}, "PAYEE_MISMATCH"),
        ({"out_trade_no": "PAY202401020304050002"}, "ORDER_NOT_FOUND"),
        ({"total_fee": None}, "MALFORMED"),
        ({"transaction_id": None}, "MALFORMED"),
        ({"appid": None}, "MALFORMED"),
        ({"time_end": "20240230030512"}, "MALFORMED"),
    ],
)
async def test_a_signed_word_against_ours_pays_nothing_and_raises_an_alarm(till, caplog, changes, code):
    """R28: no PAID, an alarm, the evidence kept, and WeChat repeats."""
    await till.holds("v2", mch_id=MCH_ID)
    for _ in range(2):
        status, reason = v2_refusal(await till.told(payment(**changes)))
        assert status >= 400
        assert reason == code.lower()
    assert till.status == "PENDING"
    (failure,) = till.failures
    assert (failure.kind, failure.code, failure.count) == ("notify.v2", code, 2)
    assert failure.out_trade_no == changes.get("out_trade_no", NUMBER)
    assert '"transaction_id"' in failure.evidence or code == "MALFORMED"
    assert OPENID not in failure.evidence + caplog.text
    assert OPENID[:6] in failure.evidence
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "ALARM" in caplog.text


async def test_another_transaction_for_a_paid_order_raises_an_alarm(till):
    """R28."""
    await till.holds("v2", mch_id=MCH_ID)
    await till.told(payment())
    assert v2_refusal(await till.told(payment(transaction_id="4200002"))) == (500, "trade_conflict")
    assert till.store.rows[NUMBER].transaction_id == TRANSACTION_ID
    assert [failure.code for failure in till.failures] == ["TRADE_CONFLICT"]


async def test_the_evidence_is_bounded(till):
    await till.holds("v2", mch_id=MCH_ID)
    await till.told(payment(total_fee="99", attach="附" * 20_000))
    (failure,) = till.failures
    assert 8000 < len(failure.evidence.encode()) <= 8 * 1024


# -- durable first -------------------------------------------------------------------------------


@define
class SlowStore(MemoryStore):
    """Takes its time to save, until it is let go."""

    asked: asyncio.Event = field(factory=asyncio.Event)
    let_go: asyncio.Event = field(factory=asyncio.Event)

    async def save(self, order, answer=None, quote=None):
        if order.version > 1:
            self.asked.set()
            await self.let_go.wait()
        await super().save(order, answer, quote)


async def test_the_answer_waits_for_the_store(open_till):
    """R24: what WeChat heard SUCCESS for is durable."""
    till = await open_till(SlowStore())
    await till.holds("v2", mch_id=MCH_ID)
    answer = asyncio.ensure_future(till.told(payment()))
    await till.store.asked.wait()
    assert not answer.done()
    till.store.let_go.set()
    assert await answer == (200, ACK)
    assert till.status == "PAID"


@define
class BrokenFailures(MemoryFailures):
    async def keep(self, failure):
        raise RuntimeError(f"disk full at /secret/path, no room for {failure.kind}")


@define
class BrokenStore(MemoryStore):
    broken: bool = False
    failures: MemoryFailures = field(factory=BrokenFailures)

    async def save(self, order, answer=None, quote=None):
        if self.broken:
            raise RuntimeError("disk full at /secret/path")
        await super().save(order, answer, quote)


async def test_when_the_store_breaks_wechat_is_asked_to_repeat(open_till, caplog):
    """R24: and hears nothing of what broke."""
    till = await open_till(BrokenStore())
    await till.holds("v2", mch_id=MCH_ID)
    till.store.broken = True
    assert v2_refusal(await till.told(payment())) == (500, "fault")
    assert "disk full" in caplog.text
    assert v2_refusal(await till.told(payment(total_fee="99"))) == (500, "fee_mismatch")
    till.store.broken = False
    assert await till.told(payment()) == (200, ACK)


# -- refunds: sealed, and signed by nobody -------------------------------------------------------

NOTICE = VECTORS["v2-refund-notify-envelope"]["input"]["xml"]


def notice(api_key=API_KEY, mch_id=MCH_ID, **changes):
    inside = {
        "transaction_id": TRANSACTION_ID,
        "out_trade_no": NUMBER,
        "refund_id": "503",
        "out_refund_no": "RF1",
        "total_fee": "100",
        "refund_fee": "30",
        "refund_status": "SUCCESS",
        **changes,
    }
    sealed = v2_wire.seal_req_info(v2_wire.write(inside, root="root"), api_key)
    envelope = {"return_code": "SUCCESS", "appid": APPID, "mch_id": mch_id, "nonce_str": "1ee38e38b04990"}
    return v2_wire.write({**envelope, "req_info": sealed})


async def test_the_published_refund_notice_is_heard_as_unsigned(till):
    """R40; v2.md section 12: whoever hears it asks WeChat before believing it."""
    assert await till.told(NOTICE) == (200, ACK)
    ((report, cause, signed),) = till.ear.heard
    assert signed is False
    assert cause == "notify v2 50300902642024010312345678901"
    assert (report.out_trade_no, report.out_refund_no) == (NUMBER, "RF202401030001")
    assert (report.refund_fee, report.total_fee, report.mch_id) == (30, 100, MCH_ID)
    assert report.refund_status is RefundStatus.SUCCESS
    assert f"{report.success_at:%Y-%m-%d %H:%M:%S}" == "2024-01-03 02:20:30"


@pytest.mark.parametrize(
    ("told", "ours"), [("CHANGE", RefundStatus.ABNORMAL), ("REFUNDCLOSE", RefundStatus.CLOSED)]
)
async def test_a_refund_that_went_wrong_is_heard(till, told, ours):
    assert await till.told(notice(refund_status=told)) == (200, ACK)
    ((report, _, _),) = till.ear.heard
    assert (report.refund_status, report.success_at) == (ours, None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (notice(api_key="f" * 32), "decrypt"),
        (notice(mch_id="1900000109"), "payee"),
        (notice(refund_status="LOST"), "malformed"),
        (notice(refund_fee="0.30"), "malformed"),
        (notice().replace(b"<req_info><![CDATA[", b"<req_info><![CDATA[%"), "decrypt"),
    ],
)
async def test_a_refund_notice_that_does_not_open_is_refused(till, caplog, body, reason):
    assert v2_refusal(await till.told(body)) == (400, reason)
    assert till.ear.heard == []
    assert len(caplog.records) == 1
    assert API_KEY not in caplog.text


async def test_a_refund_notice_that_contradicts_us_raises_an_alarm(till, caplog):
    """R28."""
    for refusal, code in ((RefundConflict("another amount"), "REFUND_CONFLICT"), (OrderNotFound("x"), None)):
        till.ear.refusal = refusal
        assert v2_refusal(await till.told(notice())) == (500, (code or "ORDER_NOT_FOUND").lower())
    assert [failure.kind for failure in till.failures] == ["notify.v2"] * 2
    assert "RF1" in till.failures[0].evidence


async def test_a_refund_that_comes_before_its_payment_is_asked_for_again(till):
    """The order of events is not promised (v3.md section 9): no alarm, and WeChat repeats."""
    till.ear.refusal = RefundNotAllowed("its payment comes first")
    assert v2_refusal(await till.told(notice())) == (500, "refund_not_allowed")
    assert till.failures == []
    till.ear.refusal = None
    assert await till.told(notice()) == (200, ACK)
