"""The API's document and a page to read it with; both are made once and work without a way out."""

import hashlib
from collections.abc import Iterable, Mapping
from importlib.resources import files

import msgspec
from aiohttp import web
from attrs import Factory, evolve, frozen

from adapters.http.openapi import document, plain_answer
from adapters.http.routes import PlainRoute, Route, Who

OPENAPI_PATH = "/openapi.json"
DOCS_PATH = "/docs"

# Only what we serve ourselves runs or is asked; styles a viewer sets on its elements are allowed.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURE: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
ASK_AGAIN = "no-cache"  # a caller keeps it and asks each time whether it is still the one
FOREVER = "public, max-age=31536000, immutable"  # other bytes have another path

MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
VIEWER = ("swagger-ui.css", "swagger-ui-bundle.js", "docs.js")


@frozen
class Page:
    """Bytes under a path, unchanging while the service runs."""

    path: str
    summary: str
    media_type: str
    cache: str
    body: bytes

    @property
    def etag(self) -> str:
        """The bytes' own name."""
        return hashlib.sha256(self.body).hexdigest()[:32]

    @property
    def route(self) -> PlainRoute:
        """Open to anyone."""
        headers = {
            **SECURE,
            "Content-Type": f"{self.media_type}; charset=utf-8",
            "Cache-Control": self.cache,
            "ETag": f'"{self.etag}"',
        }

        async def handle(request: web.Request) -> web.Response:
            known = {tag.value for tag in request.if_none_match or ()}
            if known & {self.etag, "*"}:
                return web.Response(status=304, headers=headers)
            return web.Response(body=self.body, headers=headers)

        not_modified = {"description": "没有变化", "headers": plain_answer()["headers"]}
        answers = {"200": plain_answer(media_type=self.media_type), "304": not_modified}
        return PlainRoute(
            method="GET",
            path=self.path,
            who=Who.ANYONE,
            handler=handle,
            summary=self.summary,
            described={"responses": answers},
        )


@frozen
class Viewer:
    """The vendored files, read once; their folder is named for their bytes."""

    files: Mapping[str, bytes] = Factory(lambda: {name: static(name) for name in VIEWER})

    @property
    def folder(self) -> str:
        """Another one for each change, so that its files may be kept forever."""
        digest = hashlib.sha256(b"".join(self.files.values())).hexdigest()
        return f"{viewer_version()}-{digest[:8]}"

    @property
    def pages(self) -> list[Page]:
        """The page that people open, and what it asks for."""
        html = static("docs.html").decode().replace("{folder}", self.folder).encode()
        return [
            Page(DOCS_PATH, "在浏览器中阅读本文档", "text/html", ASK_AGAIN, html),
            *(
                Page(
                    f"{DOCS_PATH}/{self.folder}/{name}",
                    "文档页面所需的文件",
                    MEDIA_TYPES["." + name.rpartition(".")[2]],
                    FOREVER,
                    body,
                )
                for name, body in self.files.items()
            ),
        ]


def documented(routes: Iterable[Route | PlainRoute], version: str) -> tuple[Route | PlainRoute, ...]:
    """The routes, and after them those of their document and of its page; `version` is minitill's."""
    routes = (*routes, *(page.route for page in Viewer().pages))
    itself = described(b"")
    body = msgspec.json.encode(document((*routes, itself.route), version))
    return (*routes, evolve(itself, body=body).route)


def described(body: bytes) -> Page:
    """The document as a page; it describes its own route too."""
    return Page(OPENAPI_PATH, "本文档（OpenAPI 3.1）", "application/json", ASK_AGAIN, body)


def static(name: str) -> bytes:
    """A file beside this module."""
    return (files("adapters.http") / "static" / name).read_bytes()


def viewer_version() -> str:
    """Of the vendored viewer: "swagger-ui-dist 5.35.0" is the note's first line."""
    return static("VERSION.txt").decode().split()[1]
