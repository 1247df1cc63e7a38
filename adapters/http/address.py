"""The network address a request comes from."""

from aiohttp import web


def client_address(request: web.Request) -> str:
    """The peer of the connection; 127.0.0.1 when it has no address (a Unix socket).

    X-Forwarded-For is not believed: anyone can send it.
    """
    return request.remote or "127.0.0.1"
