"""The call that is being answered: what its method may know of it, and what is counted, logged and traced of it.

Enters: a deadline, the metadata that came with the call. Leaves: a `Call`, which is the current one of its task.
Does not know: gRPC, requests, what the call is answered with.
"""

import itertools
import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from serve.telemetry.counts import NOT_SERVED

if TYPE_CHECKING:
    from serve.telemetry.tracing import CallSpan

REQUEST_ID = "x-request-id"
"""The key of a request id in metadata."""

MARGIN_S, MARGIN_SHARE = 0.01, 0.02
"""Seconds, and a share of its duration, by which the caller may end a call before the server's deadline."""

_PLAIN_ID = re.compile(r"[!-~]{1,128}")
_PREFIX = secrets.token_hex(6)
_NUMBERS = itertools.count(1)


class Call:
    """One call, from its first handling on. Made for each, so it has slots and makes an id only if one is needed."""

    __slots__ = ("_request_id", "caller", "client", "code", "deadline_s", "served_by", "span", "start_ns")

    def __init__(self, deadline_s: float | None = None, client: Callable[[], str] = str, request_id: str = "") -> None:
        self.client = client
        """The address of the connection that it came over."""
        self.caller = ""
        """The name of the caller's token; empty if the server has no tokens."""
        self.deadline_s = deadline_s
        """On the clock of `time.monotonic`; None without a deadline."""
        self.served_by = NOT_SERVED
        """Name and version of the model that serves it; the method says so once it knows."""
        self.code = "OK"
        """The canonical code that it ends with."""
        self.span: CallSpan | None = None
        """Its span, if it is traced."""
        self.start_ns = time.perf_counter_ns()
        self._request_id = request_id

    @property
    def request_id(self) -> str:
        """The id that the caller sent, or one that is made now."""
        if not self._request_id:
            self._request_id = f"{_PREFIX}-{next(_NUMBERS):x}"
        return self._request_id

    @property
    def id_metadata(self) -> tuple[tuple[str, str], ...]:
        """The id as metadata for the caller: if it sent one, or if the log names one."""
        return ((REQUEST_ID, self._request_id),) if self._request_id else ()

    @property
    def is_late(self) -> bool:
        """Whether its deadline ends it, if it ends now without an answer."""
        return ends_by_deadline(self.deadline_s, self.start_ns)


def ends_by_deadline(deadline_s: float | None, start_ns: int) -> bool:
    """Whether a call that is cancelled now is cancelled by its deadline; it began at `start_ns`.

    The caller's clock may end it a little before the server's: gRPC rounds a timeout up on its way.
    """
    elapsed_s = (time.perf_counter_ns() - start_ns) / 1e9
    return deadline_s is not None and time.monotonic() >= deadline_s - MARGIN_S - MARGIN_SHARE * elapsed_s


CURRENT_CALL: ContextVar[Call | None] = ContextVar("call", default=None)


def find_request_id(metadata: Iterable[tuple[str, Any]]) -> str:
    """The request id that a caller sent, or nothing; an id with other characters than visible ASCII is none."""
    for key, value in metadata:
        if key == REQUEST_ID:
            return value if isinstance(value, str) and _PLAIN_ID.fullmatch(value) else ""
    return ""


def name_current_call() -> str:
    """The call that is being answered in this task, for the log: its request id, and the name of its token."""
    call = CURRENT_CALL.get()
    if call is None:
        return "-"
    return f"{call.request_id} of {call.caller}" if call.caller else call.request_id


def find_id_metadata() -> tuple[tuple[str, str], ...]:
    """The request id of the call that is being answered in this task, as metadata for its caller."""
    call = CURRENT_CALL.get()
    return call.id_metadata if call else ()
