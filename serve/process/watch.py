"""Whether a worker hangs: it does not serve in time after its start, or it is silent afterwards.

Enters: the messages of one worker. Leaves: a sentence, once it hangs. Does not know: processes, and what becomes of it.
"""

import asyncio
import time
from collections.abc import Callable

from serve.process.link import BEAT_S, Loading, Message, Serving


class WorkerWatch:
    """Watches one worker from its start. A timeout of 0 never passes."""

    def __init__(
        self, name: str, start_timeout_s: float, hang_timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._start_timeout_s = start_timeout_s
        self._hang_timeout_s = hang_timeout_s
        self._clock = clock
        self._heard_s = clock()
        self._doing = "starting"
        self._serves = False

    def note(self, message: Message) -> None:
        """Take notice of a message."""
        if isinstance(message, Loading):
            self._doing = f"loading {message.model} version {message.version}"
        if isinstance(message, Serving):
            self._serves = True
        if self._serves:
            self._heard_s = self._clock()

    async def wait_until_hung(self) -> str:
        """Return when the worker hangs: what is wrong with it."""
        last_s = self._clock()
        while not (problem := self._find_problem()):
            await asyncio.sleep(BEAT_S / 2)
            now_s = self._clock()
            if now_s - last_s > 2 * BEAT_S:  # this process was stopped as well, as by a machine that is put to sleep
                self._heard_s += now_s - last_s
            last_s = now_s
        return problem

    def _find_problem(self) -> str:
        silent_s = self._clock() - self._heard_s
        if not self._serves:
            late = 0 < self._start_timeout_s < silent_s
            return f"{self._name} was still {self._doing} after {self._start_timeout_s:g} s" if late else ""
        hangs = 0 < self._hang_timeout_s < silent_s
        return f"{self._name} has been silent for {self._hang_timeout_s:g} s" if hangs else ""
