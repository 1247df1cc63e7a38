"""Where WeChat calls us: verify, tell the application, and acknowledge once it is durable."""

import asyncio
import logging
from collections.abc import Mapping

from aiohttp import web
from attrs import evolve, frozen

from adapters.wechat.errors import one_line
from adapters.wechat.notices import News, Notices, NotTaken
from application.payments import Payments
from application.ports import Clock, Failure, Orders, RefundEar
from domain import errors
from domain.errors import PaymentError
from domain.trade import RefundReport

log = logging.getLogger(__name__)

PATH = "/api/wechat/pay/notify"
SIZE_MAX = 64 * 1024  # bytes; WeChat's own messages are a few KiB (v2.md section 3)
BODY_SECONDS_MAX = 5.0  # WeChat gives up on us by then

# WeChat's word against ours, or about something we do not hold: for a person to look at (R28).
ALARMING = (errors.Discrepancy, errors.Unknown)


@frozen
class Notify:
    """One path for V2 and V3, payments and refunds. No login: the signature is the proof (R22)."""

    payments: Payments
    orders: Orders
    refunds: RefundEar
    clock: Clock
    v2: Notices
    v3: Notices

    def route(self) -> list[web.RouteDef]:
        """What the server serves for WeChat."""
        return [web.post(PATH, self.handle)]

    async def handle(self, request: web.Request) -> web.Response:
        """Success goes out only after the news is durable; anything else makes WeChat repeat (R24)."""
        notices = self.v3 if _has_v3_headers(request.headers) else self.v2
        try:
            body = await _read(request)
            if body.lstrip()[:1] == b"{":
                notices = self.v3
            news = await notices.read(request.headers, body)
            await self._take_in(news)
        except NotTaken as refusal:
            return await self._refuse(notices, refusal)
        except Exception:
            # Whatever broke on our side, WeChat hears its own FAIL, no trace of ours, and calls again.
            log.exception("notify %s: it could not be taken in", notices.name)
            return notices.refused(500, "fault")
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

    async def _refuse(self, notices: Notices, refusal: NotTaken) -> web.Response:
        """One line for the log, the evidence for a person, and WeChat's own kind of no."""
        told = " ".join(part for part in (refusal.reason, refusal.out_trade_no, refusal.detail) if part)
        if not refusal.evidence:
            log.log(refusal.level, "notify %s refused: %s", notices.name, one_line(told))
            return notices.refused(refusal.status, refusal.reason)
        log.error("ALARM: notify %s, rightly signed, contradicts us: %s", notices.name, one_line(told))
        failure = Failure(
            kind=f"notify.{notices.name}",
            code=refusal.reason.upper(),
            detail=refusal.detail,
            out_trade_no=refusal.out_trade_no,
            evidence=refusal.evidence,
            at=self.clock(),
        )
        try:
            await self.orders.keep(failure)
        except Exception:
            log.exception("the evidence was not kept: %s", evolve(failure, evidence="…"))
        return notices.refused(refusal.status, refusal.reason)


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
