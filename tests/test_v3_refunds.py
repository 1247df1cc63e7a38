"""V3's refunds on the wire: accepted is not done, unknown is not no, and the number stays."""

from datetime import UTC, datetime

import pytest
from aiohttp import web
from attrs import evolve

from application.ports import Meaning, Unknown
from domain.trade import RefundStatus
from tests.wechat_side import (
    NOTIFY_URL,
    NUMBER,
    PUBLIC_KEY_ID,
    TRANSACTION_ID,
    by_public_key,
    cut,
    lines,
    order,
    public_key_merchant,
    refund,
    v3_error,
)

REFUNDS = "/v3/refund/domestic/refunds"


@pytest.fixture
def to_wechat(runner, tmp_path):
    made = lines(runner, tmp_path)
    yield runner.run(next(made)(public_key_merchant()))
    next(made, None)


def refund_object(**changes):
    whole = {
        "refund_id": "50000000382019052709732678859",
        "out_refund_no": "REF202401030001",
        "transaction_id": TRANSACTION_ID,
        "out_trade_no": NUMBER,
        "channel": "ORIGINAL",
        "create_time": "2024-01-03T10:20:25+08:00",
        "status": "PROCESSING",
        "amount": {"total": 100, "refund": 30, "currency": "CNY"},
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


async def test_a_refund_is_carried_and_accepted_is_not_done(to_wechat):
    """R8, R34, R38."""
    to_wechat.wechat.says(by_public_key(refund_object()))
    report = await to_wechat.gateway.refund(order(), refund())
    (heard,) = to_wechat.wechat.heard
    assert (heard.method, heard.target) == ("POST", REFUNDS)
    assert heard.headers["Wechatpay-Serial"] == PUBLIC_KEY_ID
    assert heard.json == {
        "out_trade_no": NUMBER,
        "out_refund_no": "REF202401030001",
        "reason": "少了一杯",
        "notify_url": NOTIFY_URL,
        "amount": {"refund": 30, "total": 100, "currency": "CNY"},
    }
    assert report.refund_status is RefundStatus.PROCESSING
    assert (report.out_trade_no, report.out_refund_no) == (NUMBER, "REF202401030001")
    assert report.refund_id == "50000000382019052709732678859"
    assert (report.refund_fee, report.total_fee, report.success_at) == (30, 100, None)


async def test_a_refund_without_a_reason_leaves_it_out(to_wechat):
    """R19."""
    to_wechat.wechat.says(by_public_key(refund_object()))
    await to_wechat.gateway.refund(order(), refund(reason=""))
    assert "reason" not in to_wechat.wechat.heard[0].json


@pytest.mark.parametrize(
    "answer",
    [
        lambda: v3_error(429, "FREQUENCY_LIMITED"),
        lambda: v3_error(500, "SYSTEM_ERROR"),
        lambda: v3_error(400, "A_CODE_OF_2031"),
        lambda: v3_error(403, "BIZERR_NEED_RETRY"),
        lambda: web.json_response(refund_object()),
        lambda: cut,
        lambda: by_public_key(refund_object(out_refund_no="REF202401030002")),
        lambda: by_public_key(refund_object(out_trade_no="PAY202401020304050002")),
        lambda: by_public_key(refund_object(status="LOST")),
        lambda: by_public_key(refund_object(amount={"total": 100, "refund": "30"})),
    ],
)
async def test_a_refund_of_unknown_outcome_is_left_to_the_caller(to_wechat, answer):
    """R13, R34: repeated under the same number, but not behind the caller's back; a 429 too."""
    to_wechat.wechat.says(answer())
    assert isinstance(await to_wechat.gateway.refund(order(), refund()), Unknown)
    assert len(to_wechat.wechat.heard) == 1


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (403, "NOT_ENOUGH", Meaning.NOT_ENOUGH),
        (403, "USER_ACCOUNT_ABNORMAL", Meaning.PAYER),
        (404, "RESOURCE_NOT_EXISTS", Meaning.NO_SUCH_ORDER),
        (400, "INVALID_REQUEST", Meaning.BAD_REQUEST),
    ],
)
async def test_a_refund_is_refused(to_wechat, status, code, meaning):
    to_wechat.wechat.says(v3_error(status, code))
    assert (await to_wechat.gateway.refund(order(), refund())).meaning is meaning


@pytest.mark.parametrize("status", list(RefundStatus))
async def test_a_refunds_state_is_told_in_our_words(to_wechat, status):
    """R38: in a query the field is `status`; a time belongs to SUCCESS alone."""
    told = refund_object(status=status.value, success_time="2024-01-03T10:20:30+08:00")
    to_wechat.wechat.says(by_public_key(told))
    report = await to_wechat.gateway.query_refund(order(), refund())
    assert to_wechat.wechat.heard[0].target == f"{REFUNDS}/REF202401030001"
    assert report.refund_status is status
    done = datetime(2024, 1, 3, 2, 20, 30, tzinfo=UTC) if status is RefundStatus.SUCCESS else None
    assert report.success_at == done


async def test_a_number_with_marks_travels_encoded_as_it_was_signed(to_wechat):
    """R3."""
    to_wechat.wechat.says(by_public_key(refund_object(out_refund_no="R|1*@")))
    report = await to_wechat.gateway.query_refund(order(), refund(out_refund_no="R|1*@"))
    assert to_wechat.wechat.heard[0].target == f"{REFUNDS}/R%7C1%2A%40"
    assert report.out_refund_no == "R|1*@"


async def test_a_refund_wechat_does_not_know(to_wechat):
    to_wechat.wechat.says(v3_error(404, "RESOURCE_NOT_EXISTS"))
    answer = await to_wechat.gateway.query_refund(order(), refund())
    assert answer.meaning is Meaning.NO_SUCH_REFUND


async def test_an_abnormal_refund_is_taken_to_the_merchants_bank_card(to_wechat):
    """R39: the path takes WeChat's refund_id."""
    abnormal = evolve(refund(), refund_status=RefundStatus.ABNORMAL, refund_id="503")
    to_wechat.wechat.says(by_public_key(refund_object(refund_id="503")))
    report = await to_wechat.gateway.recover_refund(order(), abnormal)
    (heard,) = to_wechat.wechat.heard
    assert heard.target == f"{REFUNDS}/503/apply-abnormal-refund"
    assert heard.json == {"out_refund_no": "REF202401030001", "type": "MERCHANT_BANK_CARD"}
    assert report.refund_status is RefundStatus.PROCESSING


async def test_a_refund_without_wechats_id_is_not_recovered_yet(to_wechat):
    answer = await to_wechat.gateway.recover_refund(order(), refund())
    assert answer.meaning is Meaning.NOT_NOW
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
    to_wechat.wechat.says(by_public_key(refund_object()))
    await to_wechat.gateway.refund(order(), refund())
    assert given == [waited]
