"""A thread that stops whatever takes too long.

Enters: the beginning and the end of something, and a function that stops it. Leaves: a call of that function.
Does not know: what it watches.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Calls `stop` of everything that lasts longer than `timeout_s`; 0 watches nothing. From any thread."""

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self._watched: dict[object, tuple[float, Callable[[], None]]] = {}
        if timeout_s:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextmanager
    def watch(self, stop: Callable[[], None]) -> Iterator[None]:
        """Surround what may take too long. `stop` is called in the watchdog's thread, at most once."""
        key = object()
        self._watched[key] = self._clock() + self._timeout_s, stop
        try:
            yield
        finally:
            self._watched.pop(key, None)

    def _watch(self) -> None:
        while True:
            time.sleep(self._timeout_s / 4)
            now_s = self._clock()
            for key, (ends_s, stop) in list(self._watched.items()):
                if now_s > ends_s and self._watched.pop(key, None) is not None:
                    stop()


UNWATCHED = Watchdog(0)
"""For what may take as long as it likes."""
