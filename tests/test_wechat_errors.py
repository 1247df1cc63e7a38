"""Every error code of WeChat's has a meaning, and every failure one line in the log."""

import logging

import pytest

from adapters.wechat.errors import (
    REQUEST_ID_SUFFIXES,
    TABLE,
    Call,
    Passing,
    canonical,
    explain_request_id,
    judge,
    report,
    verdict,
)
from adapters.wechat.v3_words import refusal_of
from application.ports import Meaning, Refused, Unknown

FIX = "SIGNERROR XML_FORMAT_ERROR REQUIRE_POST_METHOD"
V2_CODES = {
    # v2.md section 5
    Call.PREPAY: "SYSTEMERROR BANKERROR PARAM_ERROR LACK_PARAMS INVALID_REQUEST ORDERPAID ORDERCLOSED "
    "OUT_TRADE_NO_USED NOAUTH NOTENOUGH APPID_NOT_EXIST MCHID_NOT_EXIST APPID_MCHID_NOT_MATCH "
    f"POST_DATA_EMPTY NOT_UTF8 FREQUENCY_LIMITED {FIX}",
    # section 7
    Call.QUERY: f"ORDERNOTEXIST SYSTEMERROR FREQUENCY_LIMITED PARAM_ERROR {FIX}",
    # section 8
    Call.CLOSE: f"ORDERPAID ORDERCLOSED ORDERNOTEXIST SYSTEMERROR FREQUENCY_LIMITED TRADE_STATE_ERROR {FIX}",
    # section 9
    Call.REFUND: "SYSTEMERROR BIZERR_NEED_RETRY NOTENOUGH TRADE_OVERDUE USER_ACCOUNT_ABNORMAL "
    "INVALID_REQ_TOO_MUCH FREQUENCY_LIMITED INVALID_TRANSACTIONID ORDERNOTEXIST REFUND_FEE_MISMATCH "
    "ORDER_NOT_READY ERROR CERT_ERROR PARAM_ERROR INVALID_REQUEST APPID_NOT_EXIST MCHID_NOT_EXIST "
    f"{FIX}",
    # section 10
    Call.QUERY_REFUND: f"REFUNDNOTEXIST SYSTEMERROR PARAM_ERROR {FIX}",
}
# v3.md section 10, in both spellings where the sheet gives both
V3_ALL = (
    "SYSTEM_ERROR SYSTEMERROR PARAM_ERROR INVALID_REQUEST SIGN_ERROR NO_AUTH NOAUTH MCH_NOT_EXISTS "
    "APPID_MCHID_NOT_MATCH FREQUENCY_LIMITED RATELIMIT_EXCEEDED SERVICE_UNAVAILABLE USERPAYING"
)
V3_CODES = {
    Call.PREPAY: "BANK_ERROR BANKERROR OPENID_MISMATCH ORDER_PAID ORDERPAID ORDER_CLOSED ORDERCLOSED "
    "OUT_TRADE_NO_USED RULE_LIMIT RULELIMIT TRADE_ERROR ACCOUNT_ERROR ACCOUNTERROR NOT_ENOUGH NOTENOUGH "
    "INVALID_TRANSACTIONID",
    Call.QUERY: "ORDER_NOT_EXIST ORDERNOTEXIST",
    Call.CLOSE: "ORDER_PAID ORDERPAID ORDER_CLOSED ORDERCLOSED ORDER_NOT_EXIST ORDERNOTEXIST",
    Call.REFUND: "NOT_ENOUGH NOTENOUGH USER_ACCOUNT_ABNORMAL RESOURCE_NOT_EXISTS BIZERR_NEED_RETRY "
    "REQUEST_BLOCKED",
    Call.QUERY_REFUND: "RESOURCE_NOT_EXISTS",
    Call.CERTIFICATES: "RESOURCE_NOT_EXISTS",
    Call.BILL: "NO_STATEMENT_EXIST STATEMENT_CREATING",
}
NAMED = [
    *((call, code) for call, codes in V2_CODES.items() for code in codes.split()),
    *((call, code) for call, codes in V3_CODES.items() for code in codes.split()),
    *((call, code) for call in Call for code in V3_ALL.split()),
]


@pytest.mark.parametrize(("call", "code"), sorted(set(NAMED)))
def test_every_code_of_the_protocol_is_mapped_and_explained(call, code):
    assert (call, canonical(code)) in TABLE
    assert verdict(call, code).explanation


@pytest.mark.parametrize(
    ("call", "code", "meaning"),
    [
        (Call.PREPAY, "OUT_TRADE_NO_USED", Meaning.NUMBER_USED),
        (Call.PREPAY, "ORDERPAID", Meaning.ALREADY_PAID),
        (Call.PREPAY, "NOTENOUGH", Meaning.PAYER),
        (Call.REFUND, "NOTENOUGH", Meaning.NOT_ENOUGH),
        (Call.CLOSE, "ORDER_CLOSED", Meaning.ALREADY_CLOSED),
        (Call.QUERY, "ORDERNOTEXIST", Meaning.NO_SUCH_ORDER),
        (Call.QUERY_REFUND, "RESOURCE_NOT_EXISTS", Meaning.NO_SUCH_REFUND),
        (Call.REFUND, "RESOURCE_NOT_EXISTS", Meaning.NO_SUCH_ORDER),
        (Call.REFUND, "TRADE_OVERDUE", Meaning.TOO_LATE),
        (Call.PREPAY, "SIGNERROR", Meaning.CONFIGURATION),
        (Call.QUERY, "FREQUENCY_LIMITED", Meaning.TOO_FAST),
    ],
)
def test_a_definite_no_says_what_it_means(call, code, meaning):
    answer = judge(call, code, "详见文档", "0A-1")
    assert isinstance(answer, Refused)
    assert (answer.meaning, answer.err_code, answer.description) == (meaning, code, "详见文档")
    assert answer.request_id == "0A-1"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (Call.PREPAY, "SYSTEMERROR"),
        (Call.PREPAY, "SYSTEM_ERROR"),
        (Call.PREPAY, "BANKERROR"),
        (Call.REFUND, "BIZERR_NEED_RETRY"),
        (Call.REFUND, "FREQUENCY_LIMITED"),  # the state is unknown after a 429 (v3.md section 8)
        (Call.REFUND, "RATELIMIT_EXCEEDED"),
    ],
)
def test_a_passing_trouble_is_never_a_no(call, code):
    """R13: what may have happened is unknown, and a repeat is harmless."""
    assert isinstance(judge(call, code), Passing)


@pytest.mark.parametrize("call", list(Call))
@pytest.mark.parametrize("code", ["", "A_CODE_OF_2031", "err_code"])
def test_a_code_nobody_listed_leaves_the_outcome_unknown(call, code):
    answer = judge(call, code)
    assert isinstance(answer, Unknown)
    assert not isinstance(answer, Passing)


def test_a_code_of_another_call_leaves_the_outcome_unknown():
    """ORDERPAID says nothing about a refund."""
    assert isinstance(judge(Call.REFUND, "ORDERPAID"), Unknown)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"code":"PARAM_ERROR","message":"m"}', Meaning.BAD_REQUEST),
        (404, b'{"code":"ORDERNOTEXIST"}', Meaning.NO_SUCH_ORDER),
        (500, b'{"code":"OPENID_MISMATCH"}', Meaning.BAD_REQUEST),  # v3.md section 10: a fault of ours
        (500, b'{"code":"ORDER_PAID"}', None),
        (500, b'{"code":"SYSTEM_ERROR"}', None),
        (502, b"<html>", None),
        (429, b"", Meaning.TOO_FAST),
        (429, b'{"code":"NEW_LIMIT"}', Meaning.TOO_FAST),
        (400, b"", None),
        (403, b"[]", None),
        (403, b'{"code":7}', None),
        (404, b"<html>not found</html>", None),
        (302, b'{"code":"PARAM_ERROR"}', None),
        (202, b'{"code":"USERPAYING"}', None),
        (400, b'{"code":' + b"[" * 100_000, None),
    ],
)
def test_a_v3_error_is_a_no_only_when_it_carries_a_code_that_says_so(status, body, expected):
    answer = refusal_of(Call.PREPAY if b"NOTEXIST" not in body else Call.QUERY, status, body, "id-0")
    assert answer.meaning is expected if expected else isinstance(answer, Unknown)


@pytest.mark.parametrize("call", [Call.REFUND, Call.RECOVER_REFUND])
def test_a_429_leaves_a_refund_unknown(call):
    """v3.md section 8."""
    assert isinstance(refusal_of(call, 429, b'{"code":"FREQUENCY_LIMITED"}', ""), Unknown)


def test_the_field_that_is_wrong_is_told_and_its_value_is_not():
    detail = b'{"field":"/payer/openid","issue":"i","value":"oSECRET"}'
    body = b'{"code":"PARAM_ERROR","message":"m","detail":' + detail + b"}"
    answer = refusal_of(Call.PREPAY, 400, body, "")
    assert answer.description == "m /payer/openid i"


@pytest.mark.parametrize("suffix", sorted(REQUEST_ID_SUFFIXES))
def test_the_suffix_of_a_request_id_is_explained(suffix):
    """R48."""
    told = explain_request_id(f"08F78BB5AF0610D302-{suffix}")
    assert told.startswith(f"{suffix}: ")
    assert "not in the list" not in told


def test_every_suffix_of_the_protocol_is_known():
    """R48: v3.md section 10."""
    listed = (
        "268512771 268447840 268435461 268435464 268449538 268498689 270924358 268443715 268447843 268447914 "
        "268449641 268443699 268501013 268498688 268445527 268448010 268443705 268443704 268447845 268443701"
    )
    assert set(REQUEST_ID_SUFFIXES) == set(listed.split())


@pytest.mark.parametrize("request_id", ["", "08F78BB5-0", "08F78BB5", "268435461", "08F78BB5-", "08F78BB5-x"])
def test_a_request_id_without_a_fault_needs_no_explanation(request_id):
    assert explain_request_id(request_id) == ""


def test_an_unknown_suffix_is_shown():
    assert "999" in explain_request_id("08F78BB5-999")


def test_a_failure_is_one_line_that_tells_everything(caplog):
    """R48."""
    caplog.set_level(logging.INFO)
    answer = judge(Call.PREPAY, "SIGN_ERROR", "签名错误\nINFO forged line", "08F7-268443699")
    assert report(Call.PREPAY, "PAY1", answer) is answer
    (record,) = caplog.records
    line = record.getMessage()
    assert record.levelno == logging.ERROR
    assert "\n" not in line
    for part in (
        "prepay PAY1",
        "CONFIGURATION",
        "SIGN_ERROR",
        "签名错误",
        "08F7-268443699",
        "the signature is",
    ):
        assert part in line


def test_an_unknown_outcome_is_logged_with_its_reason(caplog):
    report(Call.REFUND, "PAY1", Unknown(why="HTTP 502"))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "refund PAY1: unknown, HTTP 502"
