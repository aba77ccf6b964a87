"""What every response says to browsers, and which requests of pages from elsewhere are refused.

Enters: an ASGI application, and the origins that are named. Leaves: one around it. Does not know: paths, bodies.

Without tokens a server answers whoever reaches it, and a page from elsewhere reaches a server on its reader's machine.
So a request that a browser sends for another origin is refused, unless that origin is named.
"""

from collections.abc import Collection, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import quote
from serve.web.failures import refuse, to_response

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Adds the headers, and refuses other origins."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_secure = scope["scheme"] == "https"

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message)
            await send(message)

        headers = Headers(scope=scope)
        if self._is_foreign(headers, is_secure):
            origin = quote(headers["origin"])
            error = refuse(
                "PERMISSION_DENIED", "ORIGIN_REFUSED", f"wanted an origin that --cors-origins names, got {origin}"
            )
            await to_response(error, scope["path"])(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _is_foreign(self, headers: Headers, is_secure: bool) -> bool:
        origin = headers.get("origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return False
        return origin.partition("://")[2] != headers.get("host") or (is_secure and not origin.startswith("https:"))


def _add_headers(message: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(raw=message["headers"])
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")
