"""A lone caller beside a load: what it sees of the server is what others see of it.

Enters: an address, a method, a serialized request. Leaves: latencies of good and of failed calls.
Does not know: the load.

It is a process of its own, and where the system allows it one that never waits for a core (SCHED_FIFO): servers and
load take all cores, and a call would otherwise wait for one on its own side, several times and for longer than it is
the server's. Where it is not allowed, latencies have that in them.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

PAUSE_S = 0.05
LONGEST_CALL_S = 30


class Probe:
    """Makes the same call at fixed moments on a connection of its own, whoever answers, until the end of the block."""

    def __init__(self, address: str, method: str, request: bytes) -> None:
        self.good_ms: list[float] = []
        self.failed_ms: list[float] = []
        self.failures: Counter[str] = Counter()
        """By status code."""
        self.reply_bytes: list[int] = []
        """Sizes of the good replies."""
        self.waits_for_cores = True
        """Whether its latencies have in them what it waited for a core; known at the end."""
        self._command = [sys.executable, "-m", "serve.bench.probe", address, method]
        self._request = request

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True)  # noqa: S603  # ourselves
        stdin, stdout = self._streams()
        print(self._request.hex(), file=stdin, flush=True)
        stdout.readline()  # it is ready
        return self

    def __exit__(self, *_: object) -> None:
        stdin, stdout = self._streams()
        stdin.close()
        line = stdout.readline()
        stdout.close()
        if self._process.wait():
            raise RuntimeError("the lone caller beside the load broke off; above it says why")
        found = json.loads(line)
        self.waits_for_cores = found["waits_for_cores"]
        for call in found["calls"]:
            self._note(*call)

    def _streams(self) -> tuple[Any, Any]:
        return self._process.stdin, self._process.stdout

    def _note(self, latency_ms: float, code: str, reply_bytes: int) -> None:
        if code == "OK":
            self.good_ms.append(latency_ms)
            self.reply_bytes.append(reply_bytes)
        else:
            self.failed_ms.append(latency_ms)
            self.failures[code] += 1


def main(address: str, method: str) -> None:
    """The process: a request in hex on stdin, "ready" on stdout, calls until stdin ends, then a line of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: it ends with its parent, and says what it found
    waits_for_cores = not go_first()
    from serve.client.channel import open_channel  # here: gRPC's threads inherit the priority of this one

    request = bytes.fromhex(sys.stdin.readline())
    calls: list[tuple[float, str, int]] = []
    with open_channel(address) as channel:
        call: Any = channel.unary_unary(method)
        print("ready", flush=True)
        pending = []
        while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            pending.append(call.future(request, timeout=LONGEST_CALL_S))
            pending[-1].add_done_callback(_note_since(time.perf_counter(), calls))
        for future in pending:
            future.exception()  # wait for it
    print(json.dumps({"waits_for_cores": waits_for_cores, "calls": list(calls)}), flush=True)


def go_first() -> bool:
    """Take a core before any process of ordinary priority; False where that is not allowed, or not known."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
    except (AttributeError, OSError):  # no Linux; no right to
        return False
    return True


def _note_since(start_s: float, calls: list[tuple[float, str, int]]) -> Callable[[Any], None]:
    def note(future: Any) -> None:
        latency_ms = (time.perf_counter() - start_s) * 1000
        is_good = future.exception() is None
        calls.append((latency_ms, future.code().name, len(future.result()) if is_good else 0))

    return note


if __name__ == "__main__":
    main(*sys.argv[1:])
