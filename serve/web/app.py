"""All paths of the door in one ASGI application, with what is around each of them.

Enters: what reaches the server, and the bounds. Leaves: an application. Does not know: sockets, signals, flags.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from serve.errors import quote
from serve.web.failures import INTERNAL_MESSAGE, HttpError, JsonResponse, refuse, to_response
from serve.web.headers import Guard
from serve.web.open_inference.responses import HEADER
from serve.web.open_inference.routes import OpenInference
from serve.web.openapi.document import make_document
from serve.web.openapi.page import write_page
from serve.web.requests.limits import Bodies
from serve.web.rest import Rest
from serve.web.upstream import Upstream

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
REVALIDATE = {"Cache-Control": "no-cache"}
"""Browsers keep a file, and ask each time whether it has changed."""
CODES = {404: ("NOT_FOUND", "PATH_UNKNOWN"), 405: ("UNIMPLEMENTED", "METHOD_UNKNOWN")}
"""What Starlette itself refuses."""


def make_app(upstream: Upstream, bodies: Bodies, origins: Sequence[str] = ()) -> ASGIApp:
    """The application. Pages of the named origins may call it from a browser; `*` is every one."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-Id", HEADER],
        expose_headers=["Retry-After", "X-Request-Id", HEADER],
    )
    routes: list[BaseRoute] = [*Rest(upstream, bodies).routes, *OpenInference(upstream, bodies).routes]
    app = Starlette(
        routes=[*routes, *_make_pages()],
        middleware=[cors] if origins else [],
        exception_handlers={HttpError: _answer_error, HTTPException: _answer_refusal, Exception: _answer_fault},
    )
    return Guard(app, origins)  # around all of it: the answer to a fault has its headers, too


def _make_pages() -> list[BaseRoute]:
    """The page, its files, and the description of the API."""
    document = make_document()
    reference = write_page(document)

    async def show_page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=REVALIDATE)

    async def show_document(request: Request) -> Response:
        return JsonResponse(document)

    async def show_reference(request: Request) -> Response:
        return HTMLResponse(reference)

    return [
        Route("/", show_page),
        Route("/docs", show_reference),
        Route("/openapi.json", show_document),
        Mount("/static", _Files(directory=STATIC)),
    ]


class _Files(StaticFiles):
    def file_response(self, *arguments: object, **others: object) -> Response:
        response = super().file_response(*arguments, **others)  # type: ignore[arg-type]
        response.headers.update(REVALIDATE)
        return response


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)  # noqa: S101  # Starlette has sorted them
    return to_response(error, request.scope["path"])


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # as above
    code, reason = CODES.get(error.status_code, ("INVALID_ARGUMENT", "REQUEST_UNREADABLE"))
    path = request.scope["path"]
    message = f"wanted a path and a method that /openapi.json describes, got {request.method} {quote(path)}"
    return to_response(refuse(code, reason, message, error.status_code, error.headers), path)


async def _answer_fault(request: Request, error: Exception) -> Response:
    """Whatever it is: the log has it, from Starlette."""
    return to_response(refuse("INTERNAL", "INTERNAL", INTERNAL_MESSAGE), request.scope["path"])
