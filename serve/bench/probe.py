"""A lone caller beside a load: what it sees of the server is what others see of it.

Enters: an address, a method, a serialized request. Leaves: latencies of good and of failed calls.
Does not know: the load.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import grpc

PAUSE_S = 0.05


class Probe:
    """Makes the same call at fixed moments on a connection of its own, whoever answers, until the end of the block."""

    def __init__(self, address: str, method: str, request: bytes) -> None:
        self.good_ms: list[float] = []
        self.failed_ms: list[float] = []
        self.failures: Counter[str] = Counter()
        """By status code."""
        self.reply_bytes: list[int] = []
        """Sizes of the good replies."""
        self._address = address
        self._method = method
        self._request = request
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._probe)

    def _probe(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            call: Any = channel.unary_unary(self._method)
            pending = []
            while not self._ended.wait(PAUSE_S):
                pending.append(call.future(self._request, timeout=30))
                pending[-1].add_done_callback(self._note_since(time.perf_counter()))
            for future in pending:
                future.exception()  # wait for it

    def _note_since(self, start_s: float) -> Callable[[Any], None]:
        def note(future: Any) -> None:
            latency_ms = (time.perf_counter() - start_s) * 1000
            if future.exception():
                self.failed_ms.append(latency_ms)
                self.failures[future.code().name] += 1
            else:
                self.good_ms.append(latency_ms)
                self.reply_bytes.append(len(future.result()))

        return note

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
