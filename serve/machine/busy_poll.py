"""An event loop that keeps polling for the next request of a client that sends one after the other.

Enters: when a single request came, once it was run. Leaves: iterations of the event loop.
Does not know: what is run, who calls.

A core without work is halted; on a virtual machine its host takes it back. Waking it takes tens of microseconds,
several times a request, and its caches are cold. Polling trades electricity for that time (SO_BUSY_POLL in socket(7)).
It happens only after a request that came soon after the one before, and only while no other thread needs the core.
"""

import asyncio
import time
from collections.abc import Callable

from serve.machine.scheduling import yield_core

CONTENDED_ITERATION_NS = 1_000_000
"""Nanoseconds. An iteration that lasted longer means that another thread had the core."""
PAUSE_NS = 100_000_000
"""Nanoseconds without polling after such an iteration."""


class BusyPoll:
    """Polls for up to `longest_us` after a single request that came as soon after the one before. 0 disables it.

    Used on the event loop alone.
    """

    def __init__(self, longest_us: int, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._longest_ns = 1000 * longest_us
        self._clock_ns = clock_ns
        self._loop = asyncio.get_running_loop()
        self._is_polling = False
        self._paused_until_ns = clock_ns()
        self._last_answer_ns = self._last_iteration_ns = self._paused_until_ns - self._longest_ns

    def note_single(self, came_ns: int) -> None:
        """Take notice of a single request that came at `came_ns` and has just been run."""
        now_ns = self._clock_ns()
        came_soon = came_ns - self._last_answer_ns < self._longest_ns
        self._last_answer_ns = self._last_iteration_ns = now_ns
        if came_soon and not self._is_polling and now_ns >= self._paused_until_ns:
            self._is_polling = True
            self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        """Run once per iteration, in which the loop reads what has come; other threads get the core first."""
        now_ns = self._clock_ns()
        if now_ns - self._last_iteration_ns > CONTENDED_ITERATION_NS:
            self._paused_until_ns = now_ns + PAUSE_NS
        self._last_iteration_ns = now_ns
        self._is_polling = now_ns - self._last_answer_ns < self._longest_ns and now_ns >= self._paused_until_ns
        if self._is_polling:
            yield_core()
            self._loop.call_soon(self._poll)
