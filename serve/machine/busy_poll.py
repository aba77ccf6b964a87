"""An event loop that stays awake while a lone caller is about to call again.

Enters: when a lone call came, once it was run. Leaves: turns of the event loop. Does not know: what is run, who calls.

A core with nothing to do is halted, on a virtual machine given back to its host: to wake it takes tens of microseconds,
several times a call, and as it has forgotten the code, all that follows takes longer, too. To look for work instead of
sleeping is an old trade of electricity for time (SO_BUSY_POLL in socket(7)). It is made here for a caller who is known
to come back soon, and not where somebody else could use the core.
"""

import asyncio
import time
from collections.abc import Callable

from serve.machine.scheduling import give_way

CONTENDED_TURN_NS = 1_000_000
REST_NS = 100_000_000
"""After a turn that lasted longer than the one, others had the core meanwhile: nothing is polled for the other."""


class BusyPoll:
    """Polls for up to `longest_us` after a lone call that came as soon after the one before. On the event loop."""

    def __init__(self, longest_us: int, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._longest_ns = 1000 * longest_us
        self._clock_ns = clock_ns
        self._loop = asyncio.get_running_loop()
        self._is_polling = False
        self._rests_until_ns = clock_ns()
        self._ended_ns = self._turn_ns = self._rests_until_ns - self._longest_ns

    def follow(self, came_ns: int) -> None:
        """Take notice of a lone call, which came then and has just been run."""
        now_ns = self._clock_ns()
        came_soon = came_ns - self._ended_ns < self._longest_ns
        self._ended_ns = self._turn_ns = now_ns
        if came_soon and not self._is_polling and now_ns >= self._rests_until_ns:
            self._is_polling = True
            self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        """Once a turn, in which the loop reads what has come, and who waits for this core has it first."""
        now_ns = self._clock_ns()
        if now_ns - self._turn_ns > CONTENDED_TURN_NS:
            self._rests_until_ns = now_ns + REST_NS
        self._turn_ns = now_ns
        self._is_polling = now_ns - self._ended_ns < self._longest_ns and now_ns >= self._rests_until_ns
        if self._is_polling:
            give_way()
            self._loop.call_soon(self._poll)
