"""Who calls: what is handed on of a request's headers, and an end to its work when the caller leaves.

Enters: a request. Leaves: the metadata of the calls that it causes; the result of its work.
Does not know: what the work is, whether a token is good.
"""

import asyncio
import contextlib
import re
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.requests import Request

from serve.web.failures import HttpError, invalid, refuse
from serve.web.upstream import Metadata

HANDED_ON = ("authorization", "x-request-id", "traceparent", "tracestate")
REQUEST_ID = "x-request-id"
_PLAIN = re.compile(r"[ -~]{0,4096}")
"""What a header of gRPC can carry."""
MOST_METADATA_BYTES = 7 * 1024
"""Bytes of all headers that a call hands on. gRPC takes 8 KiB, and its own headers are among them."""
ENTRY_BYTES = 32
"""What HTTP/2 counts for each header beside its name and value (RFC 9113, section 6.5.2)."""

Result = TypeVar("Result")


def read_metadata(request: Request) -> Metadata:
    """The headers of a request that its calls carry, too. Raises HttpError."""
    found = [(name, value) for name in HANDED_ON for value in request.headers.getlist(name)]
    for name, value in found:
        if not _PLAIN.fullmatch(value):
            raise invalid(f"wanted printable ASCII of at most 4,096 characters in the header {name}, got another text")
    if sum(len(name) + len(value) + ENTRY_BYTES for name, value in found) > MOST_METADATA_BYTES:
        raise _refuse_headers(found)
    return found


async def work_for_caller(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of some work, which is cancelled if the caller leaves before. The body has been read."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise refuse("CANCELLED", "CANCELLED", "the caller left before the answer")
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working


def _refuse_headers(found: Metadata) -> HttpError:
    names = ", ".join(dict.fromkeys(name for name, _ in found))
    message = f"wanted at most {MOST_METADATA_BYTES:,} bytes of the headers {names} together, got more"
    return refuse("INVALID_ARGUMENT", "REQUEST_UNREADABLE", message, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
