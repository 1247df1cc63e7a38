"""Where every request enters and leaves: its id, its refusal put into words, its line in the log."""

import logging
from collections.abc import Callable
from time import perf_counter

from aiohttp import web
from attrs import field, frozen

from adapters.http.address import client_address
from adapters.http.cors import Cors
from adapters.http.errors import (
    MESSAGE,
    BadRequest,
    BodyTooLarge,
    InternalError,
    MethodNotAllowed,
    explained,
    is_listed,
    retry_after,
    status_of,
)
from adapters.http.serving import Handler, dress, json_answer
from adapters.http.trace import TRACE, Trace, given_request_id
from application.errors import WechatRefused, WechatSilent
from application.observer import Observer
from domain.errors import Discrepancy, PaymentError, Unknown

log = logging.getLogger("minitill.http")

FOREIGN: dict[int, type[PaymentError]] = {404: Unknown, 405: MethodNotAllowed, 413: BodyTooLarge}


@frozen(kw_only=True)
class Reception:
    """The one middleware, and the one signal that stamps what leaves."""

    new_request_id: Callable[[], str]
    cors: Cors
    observer: Observer = field(factory=Observer)

    @web.middleware
    async def refusals(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve the request; whatever is raised becomes an answer, and each answer one line of the log."""
        trace = Trace(given_request_id(request) or self.new_request_id())
        TRACE.set(trace)
        started = perf_counter()
        status = 499  # nobody was left to answer
        try:
            response = await self._served(request, handler, trace)
            status = response.status
        except web.HTTPException as answer:  # the own words of a plain route
            status = answer.status
            raise
        else:
            return response
        finally:
            self._told(request, status, perf_counter() - started, trace)

    async def stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add to every answer, streams and errors included, what all of them carry."""
        trace = TRACE.get()
        if trace:
            response.headers["X-Request-Id"] = trace.request_id
        dress(response.headers)
        self.cors.stamp(request, response)

    def _told(self, request: web.Request, status: int, seconds: float, trace: Trace) -> None:
        """The request's one line, each fact under a name of its own; never a query, a header or a body."""
        route = template(request)
        self.observer.served(request.method, route, status, seconds)
        facts = {
            "request_id": trace.request_id,
            "method": request.method,
            "route": route,
            "status": status,
            "client": client_address(request),
            "caller": trace.caller,
            "code": trace.code,
            "out_trade_no": trace.out_trade_no,
            "milliseconds": round(seconds * 1000, 1),
        }
        log.info("%s %s %d", request.method, route, status, extra=facts)

    async def _served(self, request: web.Request, handler: Handler, trace: Trace) -> web.StreamResponse:
        try:
            return self.cors.preflight(request) or await handler(request)
        except web.HTTPException as answer:
            if trace.is_plain:
                raise
            return translated(answer, trace)
        except Exception as error:
            if isinstance(error, PaymentError) and is_listed(error):
                return refused(error, trace)
            log.exception("request_id=%s: unexpected", trace.request_id)
            return refused(InternalError(), trace)


def refused(refusal: PaymentError, trace: Trace) -> web.Response:
    """The refusal as an answer; what an operator should hear of goes to the log as well."""
    status = status_of(type(refusal))
    trace.code = refusal.code
    if isinstance(refusal, WechatRefused | WechatSilent) and trace.out_trade_no == "-":
        trace.out_trade_no = refusal.number
    if isinstance(refusal, Discrepancy):
        log.error("request_id=%s: %s: %s", trace.request_id, refusal.code, one_line(refusal))
    elif status > 500:
        log.warning("request_id=%s: %s: %s", trace.request_id, refusal.code, one_line(refusal))
    if trace.is_plain:
        response = web.Response(text=MESSAGE[refusal.code], status=status)
    else:
        response = json_answer(explained(refusal, trace.request_id), status)
    if wait := retry_after(refusal):
        response.headers["Retry-After"] = wait
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def translated(answer: web.HTTPException, trace: Trace) -> web.Response:
    """What aiohttp refused, in the words of our API."""
    response = refused(FOREIGN.get(answer.status, BadRequest)(answer.reason), trace)
    if "Allow" in answer.headers:
        response.headers["Allow"] = answer.headers["Allow"]
    return response


def one_line(refusal: PaymentError) -> str:
    """The refusal's words without line breaks, so that nobody can write a line of our log."""
    return " ".join(str(refusal).split())


def template(request: web.Request) -> str:
    """The route's path with its names instead of their values; '-' where no route is."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "-"
