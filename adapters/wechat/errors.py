"""WeChat's error codes: what each one means to each call, and what to do about it.

The codes are those of v2.md sections 5, 7, 8, 9 and 10 and of v3.md section 10.
V2 and V3 spell some of them with and without underscores, and so do pages of
different age: both spellings are one code here.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from attrs import frozen

from application.ports import Meaning, Refused, Unknown

log = logging.getLogger(__name__)

Failed = TypeVar("Failed", bound=Refused | Unknown)

DESCRIPTION_MAX = 256  # characters of WeChat's text in one log line


class Call(StrEnum):
    """What was asked of WeChat: the same code means different things to different calls."""

    PREPAY = "prepay"
    QUERY = "query"
    CLOSE = "close"
    REFUND = "refund"
    QUERY_REFUND = "query_refund"
    RECOVER_REFUND = "recover_refund"
    CERTIFICATES = "certificates"
    BILL = "bill"


@frozen
class Verdict:
    """What a code comes down to; no meaning: WeChat may have acted or not."""

    meaning: Meaning | None
    repeat: bool  # whether the same call again, unchanged, is harmless and may help
    explanation: str


@frozen(kw_only=True)
class Passing(Unknown):
    """Unknown for a reason that passes: where a repeat is harmless, the same call again may tell."""


class Unreadable(Exception):
    """WeChat's message, genuine or not, is not shaped as its documents say; the text names the field."""


def no(meaning: Meaning, explanation: str) -> Verdict:
    """WeChat did not do it, and will not do it the next time either."""
    return Verdict(meaning, repeat=False, explanation=explanation)


def later(meaning: Meaning, explanation: str) -> Verdict:
    """WeChat did not do it; the same call may work later."""
    return Verdict(meaning, repeat=True, explanation=explanation)


def unclear(explanation: str) -> Verdict:
    """WeChat may have done it; the same call again is harmless."""
    return Verdict(None, repeat=True, explanation=explanation)


UNLISTED = Verdict(None, repeat=False, explanation="WeChat does not list this code for this call")

ORDERING = frozenset({Call.PREPAY, Call.QUERY, Call.CLOSE})
REFUNDING = frozenset({Call.REFUND, Call.RECOVER_REFUND})

# A later group refines an earlier one.
GROUPS: Sequence[tuple[Iterable[Call], Mapping[str, Verdict]]] = (
    (
        Call,
        {
            "SYSTEM_ERROR": unclear("WeChat is busy and may have acted: repeat the same call"),
            "SERVICE_UNAVAILABLE": unclear("WeChat's front end is down: repeat, on the backup host"),
            "USERPAYING": unclear("accepted and not finished: repeat later with the same parameters"),
            "PARAM_ERROR": no(Meaning.BAD_REQUEST, "a parameter is wrong: the description says which"),
            "LACK_PARAMS": no(Meaning.BAD_REQUEST, "a required parameter is missing"),
            "INVALID_REQUEST": no(Meaning.BAD_REQUEST, "a rule forbids it: the description says which"),
            "XML_FORMAT_ERROR": no(Meaning.BAD_REQUEST, "the XML is malformed"),
            "REQUIRE_POST_METHOD": no(Meaning.BAD_REQUEST, "V2 takes POST only"),
            "POST_DATA_EMPTY": no(Meaning.BAD_REQUEST, "the body is empty"),
            "NOT_UTF8": no(Meaning.BAD_REQUEST, "the body is not UTF-8"),
            "SIGN_ERROR": no(Meaning.CONFIGURATION, "check the API key, the certificate and the clock"),
            "NO_AUTH": no(Meaning.CONFIGURATION, "the merchant has not been given this product"),
            "APPID_NOT_EXIST": no(Meaning.CONFIGURATION, "check WECHAT_PAY_APPID"),
            "MCHID_NOT_EXIST": no(Meaning.CONFIGURATION, "check WECHAT_PAY_MCH_ID"),
            "MCH_NOT_EXISTS": no(Meaning.CONFIGURATION, "check WECHAT_PAY_MCH_ID"),
            "APPID_MCHID_NOT_MATCH": no(Meaning.CONFIGURATION, "bind the appid to the merchant"),
            "FREQUENCY_LIMITED": later(Meaning.TOO_FAST, "back off; a payer may be in the cashier"),
            "RATELIMIT_EXCEEDED": later(Meaning.TOO_FAST, "back off"),
        },
    ),
    (
        ORDERING,
        {
            "ORDER_PAID": no(Meaning.ALREADY_PAID, "paid already: query and deliver"),
            "ORDER_CLOSED": no(Meaning.ALREADY_CLOSED, "closed: a new purchase needs a new number"),
            "ORDER_NOT_EXIST": no(Meaning.NO_SUCH_ORDER, "never created, or too recently to be seen"),
            "INVALID_TRANSACTIONID": no(Meaning.BAD_REQUEST, "the transaction_id is wrong"),
        },
    ),
    (
        {Call.PREPAY},
        {
            "BANK_ERROR": unclear("the bank failed: repeat with the same parameters, or query"),
            "OUT_TRADE_NO_USED": no(Meaning.NUMBER_USED, "the number has other parameters: query it"),
            "INVALID_REQUEST": no(Meaning.BAD_REQUEST, "a rule forbids it; for a used number (201) query it"),
            "OPENID_MISMATCH": no(Meaning.BAD_REQUEST, "the openid belongs to another appid"),
            "NOT_ENOUGH": later(Meaning.PAYER, "the payer's balance is short: the order stays payable"),
            "ACCOUNT_ERROR": no(Meaning.PAYER, "the payer's account cannot pay"),
            "TRADE_ERROR": no(Meaning.PAYER, "the payer's account or the order's state: query it"),
            "RULE_LIMIT": no(Meaning.NOT_NOW, "WeChat's risk control or a limit stopped it"),
        },
    ),
    ({Call.CLOSE}, {"TRADE_STATE_ERROR": no(Meaning.NOT_NOW, "the state forbids closing: query it")}),
    (
        REFUNDING,
        {
            "FREQUENCY_LIMITED": unclear("back off and query; repeat under the same number"),
            "RATELIMIT_EXCEEDED": unclear("back off and query; repeat under the same number"),
            "BIZERR_NEED_RETRY": unclear("another refund was running: repeat under the same number"),
            "NOT_ENOUGH": later(Meaning.NOT_ENOUGH, "top up the merchant's balance; the number stays good"),
            "TRADE_OVERDUE": no(Meaning.TOO_LATE, "over a year old: pay back by another channel"),
            "USER_ACCOUNT_ABNORMAL": no(Meaning.PAYER, "the account is closed: use another channel"),
            "INVALID_REQ_TOO_MUCH": no(Meaning.TOO_FAST, "many wrong calls: wait a minute and mend them"),
            "ORDER_NOT_EXIST": no(Meaning.NO_SUCH_ORDER, "the order is unknown or unpaid"),
            "INVALID_TRANSACTIONID": no(Meaning.NO_SUCH_ORDER, "the order is unknown or unpaid"),
            "RESOURCE_NOT_EXISTS": no(Meaning.NO_SUCH_ORDER, "the order is unknown or unpaid"),
            "REFUND_FEE_MISMATCH": no(Meaning.NUMBER_USED, "the number has another amount: query it"),
            "ORDER_NOT_READY": later(Meaning.NOT_NOW, "the payment is still settling: repeat in minutes"),
            "ERROR": no(Meaning.CONFIGURATION, "the description says why: for the operator"),
            "CERT_ERROR": no(Meaning.CONFIGURATION, "check apiclient_cert.pem and apiclient_key.pem"),
            "REQUEST_BLOCKED": no(Meaning.CONFIGURATION, "WeChat blocks refunds: for the operator"),
        },
    ),
    ({Call.RECOVER_REFUND}, {"RESOURCE_NOT_EXISTS": no(Meaning.NO_SUCH_REFUND, "WeChat has no such refund")}),
    (
        {Call.QUERY_REFUND},
        {
            "REFUND_NOT_EXIST": no(Meaning.NO_SUCH_REFUND, "repeat the refund under the same number"),
            "RESOURCE_NOT_EXISTS": no(Meaning.NO_SUCH_REFUND, "repeat the refund under the same number"),
            "INVALID_TRANSACTIONID": no(Meaning.NO_SUCH_ORDER, "the transaction_id is wrong"),
        },
    ),
    (
        {Call.CERTIFICATES},
        {
            "RESOURCE_NOT_EXISTS": no(
                Meaning.CONFIGURATION,
                "a public-key merchant: set WECHAT_PAY_PUBLIC_KEY_ID and bring its pub_key.pem",
            ),
        },
    ),
    (
        {Call.BILL},
        {
            "NO_STATEMENT_EXIST": no(Meaning.NO_SUCH_ORDER, "no trade that day: an empty bill"),
            "STATEMENT_CREATING": later(Meaning.NOT_NOW, "the bill is being made: again in half an hour"),
        },
    ),
)


def canonical(err_code: str) -> str:
    """One spelling for ORDERPAID and ORDER_PAID."""
    return err_code.replace("_", "").upper()


TABLE: Mapping[tuple[Call, str], Verdict] = {
    (call, canonical(code)): verdict
    for calls, verdicts in GROUPS
    for code, verdict in verdicts.items()
    for call in calls
}

# The number behind the last "-" of V3's Request-ID (v3.md section 10).
REQUEST_ID_SUFFIXES: Mapping[str, str] = {
    "268512771": "the order is unknown",
    "268447840": "too many calls",
    "268435461": "a parameter is wrong",
    "268435464": "a parameter is out of range",
    "268449538": "the order is paid",
    "268498689": "the order is paid",
    "270924358": "a field that WeChat does not know",
    "268443715": "the merchant is disabled",
    "268447843": "the order belongs to another merchant",
    "268447914": "the order has expired",
    "268449641": "the order cannot be closed, only reversed",
    "268443699": "the signature is wrong",
    "268501013": "the openid is missing",
    "268498688": "the number was used with other parameters",
    "268445527": "the appid is not bound to the merchant",
    "268448010": "the merchant is restricted",
    "268443705": "partner mode",
    "268443704": "partner mode",
    "268447845": "partner mode",
    "268443701": "partner mode",
}


def verdict(call: Call, err_code: str) -> Verdict:
    """What the code means to this call; a code that is not listed for it leaves the outcome unknown."""
    return TABLE.get((call, canonical(err_code)), UNLISTED)


def judge(call: Call, err_code: str, description: str = "", request_id: str = "") -> Refused | Unknown:
    """WeChat's error as an answer: a definite no, or an outcome that is unknown."""
    found = verdict(call, err_code)
    if found.meaning is not None:
        return Refused(
            meaning=found.meaning,
            err_code=err_code,
            description=description,
            request_id=request_id,
            explanation=found.explanation,
        )
    kind = Passing if found.repeat else Unknown
    return kind(
        why="WeChat gave no certain answer", err_code=err_code, description=description, request_id=request_id
    )


def explain_request_id(request_id: str) -> str:
    """The Request-ID's numeric suffix and its meaning; empty when it tells of no fault (R48)."""
    suffix = request_id.rpartition("-")[2]
    if not suffix.isdecimal() or suffix == "0" or "-" not in request_id:
        return ""
    return f"{suffix}: {REQUEST_ID_SUFFIXES.get(suffix, 'not in the list of known suffixes')}"


LEVELS: Mapping[Meaning, int] = {
    Meaning.CONFIGURATION: logging.ERROR,
    Meaning.BAD_REQUEST: logging.ERROR,
    Meaning.ALREADY_PAID: logging.INFO,
    Meaning.ALREADY_CLOSED: logging.INFO,
    Meaning.NO_SUCH_ORDER: logging.INFO,
    Meaning.NO_SUCH_REFUND: logging.INFO,
}


def report(call: Call, number: str, answer: Failed, level: int | None = None) -> Failed:
    """Log a failed call, once and in one line, and hand it back: never a body, never a key (R48)."""
    if isinstance(answer, Refused):
        outcome = f"refused, {answer.meaning}"
        default = LEVELS.get(answer.meaning, logging.WARNING)
        explanation = answer.explanation
    else:
        outcome = f"unknown, {answer.why}"
        default = logging.WARNING
        explanation = verdict(call, answer.err_code).explanation if answer.err_code else ""
    parts = (
        ("err_code", answer.err_code),
        ("description", answer.description),
        ("request_id", answer.request_id),
        ("suffix", explain_request_id(answer.request_id)),
        ("explanation", explanation),
    )
    told = "".join(f"; {name}: {one_line(text)}" for name, text in parts if text)
    log.log(default if level is None else level, "%s %s: %s%s", call, number, one_line(outcome), told)
    return answer


def one_line(text: str) -> str:
    """Someone else's text, fit for a log line: no control characters, and not endless."""
    return "".join(mark if mark.isprintable() else " " for mark in text[:DESCRIPTION_MAX])
