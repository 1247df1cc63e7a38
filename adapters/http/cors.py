"""Which web pages may call: none, unless the settings name their origins."""

from aiohttp import web
from attrs import frozen

HEADERS_ALLOWED = "Authorization, Content-Type, Idempotency-Key, X-Request-Id"
HEADERS_SHOWN = "Retry-After, X-Request-Id"
PREFLIGHT_SECONDS = "600"


@frozen
class Cors:
    """`origins` as a browser writes them ("https://shop.example"), or "*" for all.

    Credentials a browser would add by itself (cookies) are never allowed, so
    even "*" gives a page nothing that it does not bring along.
    """

    origins: frozenset[str] = frozenset()

    def allowed(self, request: web.Request) -> str:
        """The value of Access-Control-Allow-Origin; '' when the page may not call."""
        origin = request.headers.get("Origin", "")
        if not origin or not self.origins:
            return ""
        if "*" in self.origins:
            return "*"
        return origin if origin in self.origins else ""

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks beforehand; None if this is no such question, or not allowed."""
        wanted = request.headers.get("Access-Control-Request-Method", "")
        refusal = request.match_info.http_exception
        if request.method != "OPTIONS" or not wanted or not isinstance(refusal, web.HTTPMethodNotAllowed):
            return None
        if wanted not in refusal.allowed_methods or not self.allowed(request):
            return None
        headers = {
            "Access-Control-Allow-Methods": ", ".join(sorted(refusal.allowed_methods)),
            "Access-Control-Allow-Headers": HEADERS_ALLOWED,
            "Access-Control-Max-Age": PREFLIGHT_SECONDS,
        }
        return web.Response(status=204, headers=headers)

    def stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tell the browser whether the page may read this answer."""
        if not self.origins:
            return
        response.headers.add("Vary", "Origin")
        allowed = self.allowed(request)
        if allowed:
            response.headers["Access-Control-Allow-Origin"] = allowed
            response.headers["Access-Control-Expose-Headers"] = HEADERS_SHOWN
