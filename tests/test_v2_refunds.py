"""V2's refunds on the wire: accepted is not done, unknown is not no, and the number stays."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from application.ports import Meaning, Unknown
from domain.trade import RefundStatus
from tests.wechat_side import (
    MCH_ID,
    NOTIFY_URL,
    NUMBER,
    cut,
    lines,
    merchant,
    order,
    refund,
    v2_failure,
    v2_success,
)


@pytest.fixture
def line(runner, tmp_path):
    yield from lines(runner, tmp_path)


@pytest.fixture
def to_wechat(runner, line):
    """A line for one V2 merchant with everything."""
    return runner.run(line(merchant(certificate_path=Path("cert.pem"), private_key_path=Path("key.pem"))))


ACCEPTED = {
    "out_trade_no": NUMBER,
    "out_refund_no": "REF202401030001",
    "refund_id": "50000000382019052709732678859",
    "refund_fee": "30",
    "total_fee": "100",
}


async def test_a_refund_is_carried_and_accepted_is_not_done(to_wechat):
    """R34, R38."""
    to_wechat.wechat.says(v2_success(**ACCEPTED))
    report = await to_wechat.gateway.refund(order("v2"), refund())
    (heard,) = to_wechat.wechat.heard
    assert heard.target == "/secapi/pay/refund"
    sent = heard.fields
    assert (sent["out_refund_no"], sent["refund_fee"], sent["total_fee"]) == ("REF202401030001", "30", "100")
    assert (sent["out_trade_no"], sent["refund_desc"], sent["notify_url"]) == (NUMBER, "少了一杯", NOTIFY_URL)
    assert report.refund_status is RefundStatus.PROCESSING
    assert (report.out_trade_no, report.out_refund_no) == (NUMBER, "REF202401030001")
    assert (report.refund_id, report.refund_fee) == ("50000000382019052709732678859", 30)
    assert (report.total_fee, report.mch_id) == (100, MCH_ID)


@pytest.mark.parametrize("answer", [v2_failure("SYSTEMERROR"), cut, v2_failure("BIZERR_NEED_RETRY")])
async def test_a_refund_of_unknown_outcome_is_left_to_the_caller(to_wechat, answer):
    """R13, R34: repeated under the same number, but not behind the caller's back."""
    to_wechat.wechat.says(answer)
    assert isinstance(await to_wechat.gateway.refund(order("v2"), refund()), Unknown)
    assert len(to_wechat.wechat.heard) == 1


@pytest.mark.parametrize("name", ["out_trade_no", "out_refund_no"])
async def test_an_answer_about_another_refund_is_unknown(to_wechat, name):
    to_wechat.wechat.says(v2_success(**{**ACCEPTED, name: "REF202401030002"}))
    assert isinstance(await to_wechat.gateway.refund(order("v2"), refund()), Unknown)


async def test_without_the_certificate_wechat_is_not_asked_for_a_refund(line, caplog):
    till = await line(merchant())
    answer = await till.gateway.refund(order("v2"), refund())
    assert answer.meaning is Meaning.CONFIGURATION
    assert till.wechat.heard == []
    assert "apiclient_cert.pem" in caplog.text


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        ("SUCCESS", RefundStatus.SUCCESS),
        ("REFUNDCLOSE", RefundStatus.CLOSED),
        ("PROCESSING", RefundStatus.PROCESSING),
        ("CHANGE", RefundStatus.ABNORMAL),
        ("FAIL", RefundStatus.CLOSED),
    ],
)
async def test_a_refunds_state_is_told_in_our_words(to_wechat, status, ours):
    """R38, v2.md section 10. The wanted refund need not stand first."""
    listed = {
        "out_trade_no": NUMBER,
        "total_fee": "100",
        "refund_count": "2",
        "out_refund_no_0": "REF202401030000",
        "refund_status_0": "SUCCESS",
        "out_refund_no_1": "REF202401030001",
        "refund_id_1": "503",
        "refund_fee_1": "30",
        "refund_status_1": status,
        "refund_success_time_1": "2024-08-06 01:02:03",
    }
    to_wechat.wechat.says(v2_success(**listed))
    report = await to_wechat.gateway.query_refund(order("v2"), refund())
    assert to_wechat.wechat.heard[0].target == "/pay/refundquery"
    assert to_wechat.wechat.heard[0].fields["out_refund_no"] == "REF202401030001"
    assert (report.refund_status, report.refund_id, report.refund_fee) == (ours, "503", 30)
    done = datetime(2024, 8, 5, 17, 2, 3, tzinfo=UTC) if ours is RefundStatus.SUCCESS else None
    assert report.success_at == done


@pytest.mark.parametrize(
    "listed",
    [
        {},
        {"out_refund_no_0": "REF202401030000", "refund_status_0": "SUCCESS"},
        {
            "out_refund_no_0": "REF202401030001",
            "refund_status_0": "LOST",
            "refund_id_0": "5",
            "refund_fee_0": "1",
        },
    ],
)
async def test_a_refund_that_is_not_told_of_is_unknown(to_wechat, listed):
    to_wechat.wechat.says(v2_success(out_trade_no=NUMBER, total_fee="100", **listed))
    assert isinstance(await to_wechat.gateway.query_refund(order("v2"), refund()), Unknown)


async def test_a_refund_wechat_does_not_know(to_wechat):
    to_wechat.wechat.says(v2_failure("REFUNDNOTEXIST"))
    answer = await to_wechat.gateway.query_refund(order("v2"), refund())
    assert answer.meaning is Meaning.NO_SUCH_REFUND


async def test_v2_cannot_recover_a_refund_and_says_so(to_wechat):
    """R39."""
    answer = await to_wechat.gateway.recover_refund(order("v2"), refund())
    assert answer.meaning is Meaning.CONFIGURATION
    assert "merchant platform" in answer.explanation
    assert to_wechat.wechat.heard == []


@pytest.mark.parametrize(("set_to", "waited"), [(10, 15), (20, 20)])
async def test_a_refund_is_waited_for_longer(to_wechat, monkeypatch, set_to, waited):
    """R13; v2.md section 1."""
    given = []
    send = type(to_wechat.client).send

    async def remember(client, *arguments, read_seconds=None, **options):
        given.append(read_seconds)
        return await send(client, *arguments, read_seconds=read_seconds, **options)

    monkeypatch.setattr(type(to_wechat.client), "send", remember)
    to_wechat.client.read_seconds = set_to
    to_wechat.wechat.says(v2_success(**ACCEPTED))
    await to_wechat.gateway.refund(order("v2"), refund())
    assert given == [waited]
