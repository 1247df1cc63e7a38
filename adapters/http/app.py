"""The aiohttp application, made from routes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from adapters.http.address import PROXIES, Networks
from adapters.http.cors import Cors
from adapters.http.line import LINE_OPTIONS
from adapters.http.reception import Reception
from adapters.http.routes import AnyRoute, Guard, PlainRoute, Route
from adapters.http.serving import BODY_BYTES_MAX, BODY_SECONDS, Check, serve, serve_plain, unlimited
from adapters.http.trace import new_request_id
from application.observer import Observer

ROUTES: web.AppKey[Sequence[AnyRoute]] = web.AppKey("routes")  # all that it answers to

# How the application wants to be run (AppRunner's options): what a caller began is finished
# and written down though the caller hung up.
SERVER_OPTIONS: Mapping[str, Any] = {**LINE_OPTIONS, "handler_cancellation": False}


def application(  # noqa: PLR0913 - all but the first two have a default that will do
    routes: Iterable[Route | PlainRoute],
    *,
    guard: Guard,
    origins: Iterable[str] = (),
    new_request_id: Callable[[], str] = new_request_id,
    proxies: Networks = (),
    check: Check = unlimited,
    body_seconds: float = BODY_SECONDS,
    observer: Observer | None = None,
) -> web.Application:
    """Serve the routes.

    `guard` is asked on all but open ones, `origins` are the web pages that may call,
    `proxies` are believed when they name the client's address, `check` refuses whoever
    calls too often, and `body_seconds` are what a body may take to arrive.
    `observer` hears of each request.
    """
    reception = Reception(
        new_request_id=new_request_id, cors=Cors(frozenset(origins)), observer=observer or Observer()
    )
    app = web.Application(middlewares=[reception.refusals], client_max_size=BODY_BYTES_MAX)
    app[PROXIES] = tuple(proxies)
    app[ROUTES] = served = tuple(routes)
    app.on_response_prepare.append(reception.stamp)
    for route in served:
        if isinstance(route, Route):
            handler = serve(route, guard, check, body_seconds)
        else:
            handler = serve_plain(route, guard)
        if route.method == "GET":
            app.router.add_get(route.path, handler)  # and HEAD
        else:
            app.router.add_route(route.method, route.path, handler)
    return app
