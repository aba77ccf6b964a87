"""One HTTP connection within bounds of time: a head that does not come, a body or a response that nobody reads.

Enters: bytes of a connection. Leaves: requests for the application, or the end of the connection.
Does not know: what requests ask.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""Seconds in which the head of a request has to come, from the first byte on, or from the connection's beginning."""
LINGER_S = 2.0
"""Seconds for which the rest of a refused body is read and dropped, so that its caller can read the refusal."""
UNREAD_S = 30.0
"""Seconds for which what was written may wait for its caller to read. After that the connection ends."""


class BoundedConnection(H11Protocol):
    """A connection of uvicorn that ends when its caller is too slow."""

    _timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin, and wait for the first head."""
        super().connection_made(transport)
        self._set_timer(HEAD_S)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if self._timer is None and not self._is_busy():
            self._set_timer(HEAD_S)
        super().data_received(data)
        if self._is_busy():
            self._stop_timer()

    def on_response_complete(self) -> None:
        """Wait for the next head, or drop what is left of the body."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._set_timer(LINGER_S)
        elif self.transport.is_closing():
            self._set_timer(UNREAD_S)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also if its last response stays unread."""
        super().timeout_keep_alive_handler()
        self._set_timer(UNREAD_S)

    def pause_writing(self) -> None:
        """Wait for the caller to read, for a bounded time."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on, for the caller has read."""
        super().resume_writing()
        self._stop_unread_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def _is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _set_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer:
            self._unread_timer.cancel()
            self._unread_timer = None
