"""The web console: serves the files that ``make console`` builds from ``api/console``.

The files are in memory and are found by their exact path, so a request reads no disk. They contain no data: the page
gets everything by the API, with the permissions of its user.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER = Path(__file__).parent / "static"
"""The built console; git ignores it, the wheel and the image contain it."""
_PAGE = re.compile(r"/(?:(?:audit|keys|projects|quota|sign-in)(?:/.*)?)?")
"""The paths that the page handles."""
_NONCE = b"__STYLE_NONCE__"
"""The place in the page for the nonce of the style elements that its library creates."""
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_ENCODINGS = {"br": ".br", "gzip": ".gz"}
"""Suffix of the compressed copy by content coding, the smallest first."""
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_NOT_BUILT = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Windlass</title></head><body>
<h1>Windlass is running</h1>
<p>This server has no web console: it runs from a checkout in which the console was not built.</p>
<p>Build it with <code>make console</code> (Node 20.19 or newer) and restart the server. A wheel and the container image
contain it.</p>
<p>The API is at <a href="/v1">/v1</a>, its description at <a href="/v1/openapi.json">/v1/openapi.json</a>; the command
<code>windlass --help</code> lists what the command line can do.</p>
</body></html>
"""


@dataclass(frozen=True)
class ConsoleFiles:
    """A built console: content by path below ``/``, and the page."""

    files: Mapping[str, bytes]
    page: bytes | None
    """Content of index.html; None: the console was not built."""


@cache
def read_console(folder: Path = FOLDER) -> ConsoleFiles:
    """Read a built console; the result has no page if there is none."""
    index = folder / "index.html"
    if not index.is_file():
        return ConsoleFiles(MappingProxyType({}), None)
    files = {
        f"/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path != index and not path.name.startswith(".")
    }
    return ConsoleFiles(MappingProxyType(files), index.read_bytes())


class ConsoleMiddleware:
    """ASGI middleware: answers a browser's requests for the page and its files, and passes on all others.

    It is outside of the authentication, since a browser loads the page before its user signs in.
    """

    def __init__(self, app: ASGIApp, console: ConsoleFiles) -> None:
        self._app = app
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        response = self._respond(scope) if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"} else None
        if response is not None:
            await response(scope, receive, _without_body(send) if scope["method"] == "HEAD" else send)
        else:
            await self._app(scope, receive, send)

    def _respond(self, scope: Scope) -> Response | None:
        path, headers = scope["path"], Headers(scope=scope)
        if path in self._console.files and Path(path).suffix in _MEDIA_TYPES:
            return self._file(path, headers)
        # A client of the API that asks for "/" gets the same error as for every path that does not exist.
        if _PAGE.fullmatch(path) and "text/html" in headers.get("accept", ""):
            return self._page()
        return None

    def _file(self, path: str, headers: Headers) -> Response:
        accepted = {each.split(";")[0].strip() for each in headers.get("accept-encoding", "").split(",")}
        kept = "public, max-age=31536000, immutable" if path.startswith("/assets/") else "no-cache"
        own = {"Cache-Control": kept, "Vary": "Accept-Encoding", "Cross-Origin-Resource-Policy": "same-origin"}
        content = self._console.files[path]
        for encoding, suffix in _ENCODINGS.items():
            if encoding in accepted and path + suffix in self._console.files:
                own["Content-Encoding"] = encoding
                content = self._console.files[path + suffix]
                break
        return Response(content, media_type=_MEDIA_TYPES[Path(path).suffix], headers=_HEADERS | own)

    def _page(self) -> Response:
        nonce = secrets.token_urlsafe(16)
        headers = _HEADERS | {"Cache-Control": "no-store", "Content-Security-Policy": content_security_policy(nonce)}
        if self._console.page is None:
            return Response(_NOT_BUILT, status_code=404, media_type=_MEDIA_TYPES[".html"], headers=headers)
        content = self._console.page.replace(_NONCE, nonce.encode())
        return Response(content, media_type=_MEDIA_TYPES[".html"], headers=headers)


def content_security_policy(nonce: str) -> str:
    """Return the policy of the page: only files and requests of this server, and no inline script.

    Args:
        nonce: value that the style elements of the page's library carry.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            f"style-src 'self' 'nonce-{nonce}'",
            "connect-src 'self'",
            "frame-src 'self'",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head
