"""Where WeChat calls us: verify, tell the application, and acknowledge once it is durable."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from aiohttp import web
from attrs import field, frozen

from adapters.wechat.errors import explain_request_id, one_line
from adapters.wechat.evidence import masked, shown_headers, shown_raw
from adapters.wechat.notices import News, Notices, NotTaken
from application.failures import Failure, FailureBook
from application.observer import Observer
from application.payments import Payments
from application.ports import Clock, RefundEar
from domain import errors
from domain.errors import PaymentError
from domain.trade import RefundReport

log = logging.getLogger(__name__)

PATH = "/api/wechat/pay/notify"
SIZE_MAX = 64 * 1024  # bytes; WeChat's own messages are a few KiB (v2.md section 3)
BODY_SECONDS_MAX = 5.0  # WeChat gives up on us by then

# WeChat's word against ours, or about something we do not hold: for a person to look at (R28).
ALARMING = (errors.Discrepancy, errors.Unknown)

# What each failed check means, and what to do about it.
EXPLANATIONS: Mapping[str, str] = {
    "signature": "not signed with the key we hold: a forgery, or the wrong API key or WeChat key here",
    "serial": "signed with a key we do not hold: bring pub_key.pem with WECHAT_PAY_PUBLIC_KEY_ID, "
    "or let the platform certificates be downloaded; a forgery otherwise",
    "probe": "WeChat tests that forged signatures are refused: all is well (R26)",
    "clock": "its timestamp is 300 s or more away from our clock: check NTP; else it is a replay (R27)",
    "type": "signed by a method we do not know",
    "missing_header": "a header of the signature is missing: does a proxy drop Wechatpay-*? or a forgery",
    "decrypt": "signed well and not to be opened: is the APIv3 key (V2: the API key) the current one? (R32)",
    "no_key": "the keys of this version are not set: set them, or turn this version off at WeChat",
    "malformed": "not shaped as WeChat's documents say",
    "payee": "it names another merchant: WECHAT_PAY_MCH_ID, or somebody else's notification",
    "size": "larger than any message of WeChat's: not from WeChat",
    "slow": "the body did not come in time: a slow line, or not from WeChat",
    "incomplete": "the body broke off: WeChat sends it again",
    "fault": "our own fault, or the database's: the log of that moment tells; WeChat sends it again",
    "fee_mismatch": "WeChat names another amount or currency than the order: look in the merchant platform",
    "payee_mismatch": "WeChat names another appid or mch_id than the order has: compare the settings",
    "trade_conflict": "the order was paid under another transaction_id: look in the merchant platform",
    "refund_conflict": "WeChat's refund and ours differ: look in the merchant platform",
    "order_not_found": "paid at WeChat, unknown here: another system uses the merchant, or orders were lost",
    "refund_not_found": "refunded at WeChat, unknown here: made in the merchant platform or by others",
    "store_unavailable": "the database could not be written: WeChat sends it again",
    "wechat_no_answer": "WeChat was silent when asked to confirm: it sends the notification again",
}


def nothing(_code: str, _out_trade_no: str) -> None:
    """Nobody writes a line."""


@frozen
class Notify:
    """One path for V2 and V3, payments and refunds. No login: the signature is the proof (R22).

    `note` is told a refusal's code and the proven out_trade_no, each '' for none, for the request's line.
    """

    payments: Payments
    failures: FailureBook
    refunds: RefundEar
    clock: Clock
    v2: Notices
    v3: Notices
    observer: Observer = field(factory=Observer)
    note: Callable[[str, str], None] = nothing

    async def handle(self, request: web.Request) -> web.Response:
        """Success goes out only after the news is durable; anything else makes WeChat repeat (R24)."""
        notices = self.v3 if _has_v3_headers(request.headers) else self.v2
        body = b""
        try:
            body = await _read(request)
            if body.lstrip()[:1] == b"{":
                notices = self.v3
            news = await notices.read(request.headers, body)
            await self._take_in(news)
        except NotTaken as refusal:
            self.note(refusal.reason.upper(), refusal.out_trade_no)
            await self._explain(notices, refusal, request.headers, body)
            return notices.refused(refusal.status, refusal.reason)
        except Exception as error:
            # Whatever broke on our side, WeChat hears its own FAIL, no trace of ours, and calls again.
            log.exception("notify %s: it could not be taken in", notices.name)
            self.note("FAULT", "")
            fault = NotTaken("fault", status=500, detail=type(error).__name__)
            await self._keep(notices, fault, request.headers, body)
            return notices.refused(500, "fault")
        self._count(notices, "taken")
        self.note("", news.word.out_trade_no if news.word else "")
        return notices.taken()

    async def _take_in(self, news: News) -> None:
        """Raise NotTaken when the application refuses the word."""
        if news.word is None:
            log.info("notification acknowledged, nothing to do: %s", news.cause)
            return
        try:
            if isinstance(news.word, RefundReport):
                await self.refunds.hear(news.word, news.cause, signed=news.signed)
            else:
                await self.payments.record(news.word, news.cause, news.known)
        except PaymentError as error:
            alarming = isinstance(error, ALARMING)
            raise NotTaken(
                error.code.lower(),
                status=500,
                level=logging.ERROR,
                detail=str(error),
                evidence=news.word.evidence if alarming else "",
                out_trade_no=news.word.out_trade_no,
            ) from None

    async def _explain(
        self, notices: Notices, refusal: NotTaken, headers: Mapping[str, str], body: bytes
    ) -> None:
        """One line for the log, and the evidence for a person."""
        told = " ".join(part for part in (refusal.reason, refusal.out_trade_no, refusal.detail) if part)
        if refusal.evidence:
            log.error("ALARM: notify %s, rightly signed, contradicts us: %s", notices.name, one_line(told))
        else:
            log.log(refusal.level, "notify %s refused: %s", notices.name, one_line(told))
        await self._keep(notices, refusal, headers, body)

    async def _keep(
        self, notices: Notices, refusal: NotTaken, headers: Mapping[str, str], body: bytes
    ) -> None:
        self._count(notices, refusal.reason)
        request_id = one_line(headers.get("Request-ID", ""))
        suffix = explain_request_id(request_id)
        explanation = EXPLANATIONS.get(refusal.reason, "the domain refused it")
        await self.failures.keep(
            Failure(
                kind=f"notify.{notices.name}",
                code=refusal.reason.upper(),
                # A stranger can name any order: only a proven message is about one.
                about=refusal.out_trade_no or refusal.serial,
                detail=masked(one_line(refusal.detail)),
                out_trade_no=refusal.out_trade_no,
                serial=refusal.serial,
                request_id=request_id,
                explanation=f"{explanation}; Request-Id {suffix}" if suffix else explanation,
                headers=shown_headers(headers),
                evidence=refusal.evidence or shown_raw(body),
                at=self.clock(),
                is_alarm=bool(refusal.evidence),
            )
        )

    def _count(self, notices: Notices, result: str) -> None:
        self.observer.notified(notices.name, result)
        if notices.name == "v2" and result in {"taken", "signature", "decrypt"}:
            self.observer.verified("v2", "ok" if result == "taken" else result, "")


def _has_v3_headers(headers: Mapping[str, str]) -> bool:
    return any(name.lower().startswith("wechatpay-") for name in headers)


async def _read(request: web.Request) -> bytes:
    """The body, within the limits of size and time; raise NotTaken."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for part in request.content.iter_any():
                body += part
                if len(body) > SIZE_MAX:
                    raise NotTaken("size", status=413)
    except TimeoutError:
        raise NotTaken("slow", status=408) from None
    except (web.RequestPayloadError, ConnectionError):
        raise NotTaken("incomplete") from None
    return bytes(body)
