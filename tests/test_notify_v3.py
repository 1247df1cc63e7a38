"""What WeChat tells us by V3: verified on the raw bytes, then opened, then believed."""

import json
import logging
from datetime import timedelta

import pytest

from adapters.wechat import v3_wire
from adapters.wechat.v3_wire import canonical
from domain.trade import RefundStatus
from tests.notify_till import ACK, NotifyTill, at
from tests.wechat_side import (
    API_V3_KEY,
    APPID,
    DOCUMENT,
    MCH_ID,
    NOW,
    NUMBER,
    OPENID,
    PLATFORM_SERIAL,
    PUBLIC_KEY_ID,
    TRANSACTION_ID,
    VECTORS,
    listed_certificates,
    merchant,
    public_key_merchant,
    v2_xml,
    v3_headers,
)

NOTIFICATIONS = [vector for name, vector in VECTORS.items() if name.startswith("v3-notify-")]
JAVA_SERIAL = DOCUMENT["keys"]["java_merchant"]["cert_serial"]
STATUS = {"decrypt": 500}  # ours to mend, so WeChat is asked to come again; all else is the sender's


@pytest.fixture
def open_till(runner, tmp_path):
    opened = []

    async def make(settings=None, **options):
        opened.append(
            await NotifyTill.open(settings or public_key_merchant(), tmp_path / "platform", **options)
        )
        return opened[-1]

    yield make
    for till in opened:
        runner.run(till.close())


@pytest.fixture
def till(runner, open_till):
    return runner.run(open_till())


def transaction(**changes):
    paid = {
        "appid": APPID,
        "mchid": MCH_ID,
        "out_trade_no": NUMBER,
        "transaction_id": TRANSACTION_ID,
        "trade_state": "SUCCESS",
        "success_time": "2024-08-05T17:33:41+08:00",
        "payer": {"openid": OPENID},
        "amount": {"total": 100, "payer_total": 100, "currency": "CNY"},
    }
    return {name: value for name, value in (paid | changes).items() if value is not None}


def refund_notice(**changes):
    return {
        "mchid": MCH_ID,
        "out_trade_no": NUMBER,
        "transaction_id": TRANSACTION_ID,
        "out_refund_no": "RF1",
        "refund_id": "503",
        "refund_status": "SUCCESS",
        "success_time": "2024-08-05T17:40:00+08:00",
        "amount": {"total": 100, "refund": 30},
        **changes,
    }


def message(resource, event_type="TRANSACTION.SUCCESS", api_v3_key=API_V3_KEY, **box):
    """The body of a notification."""
    plain = resource if isinstance(resource, bytes) else json.dumps(resource).encode()
    sealed = v3_wire.seal_resource(api_v3_key, "fdasflkja484", "transaction", plain)
    whole = {
        "id": "EV-1",
        "create_time": "2024-08-05T17:33:41+08:00",
        "event_type": event_type,
        "resource_type": "encrypt-resource",
        "resource": {
            "algorithm": "AEAD_AES_256_GCM",
            "nonce": "fdasflkja484",
            "associated_data": "transaction",
            "ciphertext": sealed,
            **box,
        },
    }
    return json.dumps(whole).encode()


def refusal(answer):
    """The status and the reason of V3's FAIL (R33)."""
    status, body = answer
    told = json.loads(body)
    assert told.keys() == {"code", "message"}
    assert told["code"] == "FAIL"
    return status, told["message"]


@pytest.mark.parametrize("vector", NOTIFICATIONS, ids=lambda vector: vector["id"])
async def test_the_published_notifications_are_judged_as_published(open_till, vector):
    """R23, R26, R27, R32, R33."""
    given, expect = vector["input"], vector["expect"]
    till = await open_till(public_key_merchant(api_v3_key=given["apiv3_key"]), now=at(given["now"]))
    await till.holds()
    answer = await till.told(given["body"], given["headers"])
    if not expect["accept"]:
        assert refusal(answer) == (STATUS.get(expect["reason"], 401), expect["reason"])
    else:
        assert answer == (204, b"")
    paid = expect.get("event_type") == "TRANSACTION.SUCCESS"
    assert till.status == ("PAID" if paid else "PENDING")
    assert [report.refund_status.value for report, _, _ in till.ear.heard] == (
        [expect["resource"]["refund_status"]] if "REFUND" in expect.get("event_type", "") else []
    )
    assert till.failures == []


async def test_the_cause_of_a_payment_is_the_notification(till):
    await till.holds()
    body = message(transaction())
    assert await till.told(body, v3_headers(body)) == (204, b"")
    (event,) = [event for event in till.store.events if event.name == "order.paid"]
    assert event.cause == "notify v3 EV-1"
    assert till.store.rows[NUMBER].paid_at == at(1722850421)


async def test_a_notification_many_times_is_one_payment(till):
    """R25."""
    await till.holds()
    for n in range(4):
        till.line.now = NOW + timedelta(minutes=n)
        body = message(transaction())
        assert await till.told(body, v3_headers(body, at=till.line.now)) == (204, b"")
    assert till.events == ["order.created", "order.paid"]


async def test_an_order_placed_by_v2_may_be_notified_by_v3(till):
    """Both versions are understood whenever the keys are there."""
    await till.holds("v2")
    body = message(transaction())
    assert await till.told(body, v3_headers(body)) == (204, b"")
    assert till.status == "PAID"


async def test_both_versions_come_by_one_path(till):
    """R22: told apart by what they bring."""
    await till.holds("v2")
    body = message(transaction())
    assert refusal(await till.told(body)) == (401, "missing_header")
    paid = {"return_code": "SUCCESS", "result_code": "SUCCESS", "appid": APPID, "mch_id": MCH_ID}
    told = v2_xml({**paid, "out_trade_no": NUMBER, "total_fee": 100, "transaction_id": TRANSACTION_ID})
    assert refusal(await till.told(told, v3_headers(body))) == (401, "signature")
    assert till.status == "PENDING"
    assert await till.told(told) == (200, ACK)


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"signer": "java_merchant"}, "signature"),
        ({"at": NOW - timedelta(seconds=300)}, "clock"),
        ({"at": NOW + timedelta(seconds=300)}, "clock"),
        ({"Wechatpay-Timestamp": str(int(NOW.timestamp()) * 1000)}, "clock"),
        ({"Wechatpay-Timestamp": ""}, "missing_header"),
        ({"Wechatpay-Nonce": ""}, "missing_header"),
        ({"Wechatpay-Serial": ""}, "missing_header"),
        ({"Wechatpay-Signature": ""}, "missing_header"),
        ({"Wechatpay-Signature": "not base64!"}, "signature"),
        ({"Wechatpay-Signature-Type": "WECHATPAY2-SM2-WITH-SM3"}, "type"),
        ({"Wechatpay-Serial": "PUB_KEY_ID_0000000000000000000000000000000000"}, "serial"),
        ({"Wechatpay-Signature": "WECHATPAY/SIGNTEST/x"}, "probe"),
    ],
)
async def test_a_message_that_is_not_wechats_is_refused(till, caplog, headers, reason):
    """R23, R26, R27, R33: the check that failed is named in one line, and nothing changes."""
    await till.holds()
    body = message(transaction())
    caplog.set_level(logging.INFO)
    assert refusal(await till.told(body, v3_headers(body, **headers))) == (401, reason)
    assert (till.status, till.failures) == ("PENDING", [])
    told = [record for record in caplog.records if "notify" in record.name or "notice" in record.name]
    assert [record.getMessage() for record in told] == [f"notify v3 refused: {reason}"]
    # A probe wants to see whether we verify; nobody is to be woken for it.
    assert told[0].levelno == (logging.INFO if reason == "probe" else logging.WARNING)


async def test_a_body_changed_on_the_way_is_refused(till):
    """R23: every byte counts, blanks too."""
    body = message(transaction())
    for changed in (body + b" ", body.replace(b": ", b":"), b""):
        assert refusal(await till.told(changed, v3_headers(body)))[0] == 401


async def test_an_unknown_certificate_costs_one_download_and_may_then_be_known(till):
    """R52."""
    await till.holds()
    signed = {"serial": JAVA_SERIAL, "signer": "java_merchant"}
    till.line.wechat.says(listed_certificates("go_platform", "java_merchant", **signed))
    body = message(transaction())
    assert await till.told(body, v3_headers(body, **signed)) == (204, b"")
    assert till.status == "PAID"
    assert refusal(await till.told(body, v3_headers(body, serial="1A2B"))) == (401, "serial")
    assert len(till.line.wechat.heard) == 1


async def test_a_serial_is_known_in_either_case(till):
    await till.holds()
    body = message(transaction())
    for serial in (PLATFORM_SERIAL.lower(), canonical(PLATFORM_SERIAL)):
        assert await till.told(body, v3_headers(body, serial=serial)) == (204, b"")


async def test_the_public_key_signs_as_well(till):
    """R52."""
    await till.holds()
    body = message(transaction())
    headers = v3_headers(body, serial=PUBLIC_KEY_ID, signer="java_wechatpay")
    assert await till.told(body, headers) == (204, b"")


@pytest.mark.parametrize(
    "body",
    [
        message(transaction(), api_v3_key="f" * 32),
        message(transaction(), ciphertext="%%%"),
        message(transaction(), ciphertext=""),
        message(transaction(), nonce="short"),
        message(transaction(), nonce=""),
        message(transaction(), associated_data="refund"),
    ],
)
async def test_what_does_not_open_asks_for_the_apiv3_key(till, caplog, body):
    """R32: answered so that it comes again, when the right key is set."""
    await till.holds()
    assert refusal(await till.told(body, v3_headers(body))) == (500, "decrypt")
    assert till.status == "PENDING"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "APIv3 key?" in record.getMessage()
    assert API_V3_KEY not in caplog.text


async def test_without_v3s_keys_nothing_is_believed(open_till):
    till = await open_till(merchant(api_v3_key=None))
    body = message(transaction())
    assert refusal(await till.told(body, v3_headers(body))) == (500, "no_key")


async def test_a_body_over_the_limit_is_refused(till):
    assert refusal(await till.told(bytes(65 * 1024), v3_headers(b""))) == (413, "size")


async def test_an_event_nobody_knows_is_acknowledged(till, caplog):
    """v3.md section 9."""
    body = message({}, event_type="COUPON.SENT\n")
    assert await till.told(body, v3_headers(body)) == (204, b"")
    assert "COUPON.SENT  is new to us" in caplog.text


# -- rightly signed, and still wrong -------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        (transaction(amount={"total": 99, "currency": "CNY"}), "FEE_MISMATCH"),
        (transaction(amount={"total": 100, "currency": "USD"}), "FEE_MISMATCH"),
        (transaction(appid="wxother"), "PAYEE_MISMATCH"),
        (transaction(mchid="1900000109"), "PAYEE_MISMATCH"),
        (transaction(out_trade_no="PAY202401020304050002"), "ORDER_NOT_FOUND"),
        (transaction(amount={"total": True}), "MALFORMED"),
        (transaction(trade_state="SETTLED_ON_MARS"), "MALFORMED"),
        (transaction(transaction_id=None), "MALFORMED"),
        (transaction(mchid=None), "MALFORMED"),
        (b"[1]", "MALFORMED"),
        (b"\xff", "MALFORMED"),
    ],
)
async def test_a_signed_word_against_ours_pays_nothing_and_raises_an_alarm(till, caplog, resource, code):
    """R28: no PAID, an alarm, the evidence kept, and WeChat repeats."""
    await till.holds()
    body = message(resource)
    status, reason = refusal(await till.told(body, v3_headers(body)))
    assert status >= 400
    assert reason == code.lower()
    assert till.status == "PENDING"
    (failure,) = till.failures
    assert (failure.kind, failure.code, failure.at) == ("notify.v3", code, NOW)
    assert OPENID not in failure.evidence + caplog.text
    if isinstance(resource, dict):
        assert failure.out_trade_no == resource["out_trade_no"]
        assert OPENID[:6] in failure.evidence
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "ALARM" in record.getMessage()


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"id":"EV-1","event_type":7}', b"not JSON", b"[" * 50_000])
async def test_a_signed_envelope_nobody_can_read_raises_an_alarm(till, body):
    status, reason = refusal(await till.told(body, v3_headers(body)))
    assert (status, reason) == (400, "malformed")
    assert [failure.code for failure in till.failures] == ["MALFORMED"]


# -- refunds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "ours"),
    [
        ("SUCCESS", RefundStatus.SUCCESS),
        ("ABNORMAL", RefundStatus.ABNORMAL),
        ("CLOSED", RefundStatus.CLOSED),
        ("CLOSE", RefundStatus.CLOSED),
    ],
)
async def test_a_refund_is_heard_as_signed(till, told, ours):
    """R38, R40: in a notification the field is refund_status."""
    body = message(refund_notice(refund_status=told), event_type=f"REFUND.{ours}")
    assert await till.told(body, v3_headers(body)) == (204, b"")
    ((report, cause, signed),) = till.ear.heard
    assert (cause, signed) == ("notify v3 EV-1", True)
    assert (report.out_trade_no, report.out_refund_no, report.refund_id) == (NUMBER, "RF1", "503")
    assert (report.refund_fee, report.total_fee, report.mch_id) == (30, 100, MCH_ID)
    assert report.refund_status is ours
    assert report.success_at == (at(1722850800) if ours is RefundStatus.SUCCESS else None)


async def test_a_refund_notice_nobody_can_read_raises_an_alarm(till):
    body = message(refund_notice(refund_status=None, status="SUCCESS"), event_type="REFUND.SUCCESS")
    assert refusal(await till.told(body, v3_headers(body))) == (400, "malformed")
    assert till.ear.heard == []
    (failure,) = till.failures
    assert failure.out_trade_no == NUMBER
