"""The aiohttp application, made from routes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from adapters.http.cors import Cors
from adapters.http.reception import Reception
from adapters.http.routes import Guard, PlainRoute, Route
from adapters.http.serving import BODY_BYTES_MAX, serve, serve_plain
from adapters.http.trace import new_request_id

# How the application wants to be run (AppRunner's options): it writes its own line for each
# request; a body that unpacks to a thousand times its size stays packed; what a caller began is
# finished and written down though the caller hung up; and who is refused for sending too much
# has a second more to notice before the line is cut.
SERVER_OPTIONS: Mapping[str, Any] = {
    "access_log": None,
    "auto_decompress": False,
    "handler_cancellation": False,
    "lingering_time": 1.0,
}


def application(
    routes: Iterable[Route | PlainRoute],
    *,
    guard: Guard,
    origins: Iterable[str] = (),
    new_request_id: Callable[[], str] = new_request_id,
) -> web.Application:
    """Serve the routes; `guard` is asked on all but open ones, `origins` are the web pages that may call."""
    reception = Reception(new_request_id=new_request_id, cors=Cors(frozenset(origins)))
    app = web.Application(middlewares=[reception.refusals], client_max_size=BODY_BYTES_MAX)
    app.on_response_prepare.append(reception.stamp)
    for route in routes:
        handler = serve(route, guard) if isinstance(route, Route) else serve_plain(route, guard)
        if route.method == "GET":
            app.router.add_get(route.path, handler)  # and HEAD
        else:
            app.router.add_route(route.method, route.path, handler)
    return app
