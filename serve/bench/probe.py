"""A probe beside a load: it sends one request at a fixed interval, and so sees the server as other clients do.

Enters: an address, a method, a serialized request. Leaves: the latency, status and reply size of each call.
Does not know: the load.

The probe is a process of its own, and asks for the real-time policy SCHED_FIFO. Server and load take all cores, so a
probe of ordinary priority waits for a core itself, which is not the server's latency. Without the right to that policy
the latencies include this wait, and `waits_for_cores` says so.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

from serve.client.endpoint import Endpoint, to_endpoint

PAUSE_S = 0.05
TIMEOUT_S = 30


class Call(NamedTuple):
    """One call of the probe."""

    latency_ms: float
    code: str
    """The canonical status code, OK for a reply."""
    reply_bytes: int


class Probe:
    """Sends the same request at fixed times on its own connection, until the end of the block."""

    def __init__(self, server: Endpoint | str, method: str, request: bytes) -> None:
        self.calls: list[Call] = []
        self.waits_for_cores = True
        """Whether latencies include waits of the probe for a core. Known after the block."""
        self._command = [sys.executable, "-m", "serve.bench.probe", method]
        self._endpoint = to_endpoint(server)
        self._request = request

    @property
    def good_ms(self) -> list[float]:
        """Latencies of the successful calls, in milliseconds."""
        return [call.latency_ms for call in self.calls if call.code == "OK"]

    @property
    def failed_ms(self) -> list[float]:
        """Latencies of the failed calls, in milliseconds."""
        return [call.latency_ms for call in self.calls if call.code != "OK"]

    @property
    def failures(self) -> Counter[str]:
        """The number of failed calls by status code."""
        return Counter(call.code for call in self.calls if call.code != "OK")

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True)  # noqa: S603  # ourselves
        stdin, stdout = self._streams()
        # Over the pipe and not as arguments, which every user of the machine can list: it may have a token.
        endpoint = {name: str(value) for name, value in asdict(self._endpoint).items() if value}
        print(json.dumps({"request": self._request.hex(), "endpoint": endpoint}), file=stdin, flush=True)
        stdout.readline()  # "ready"
        return self

    def __exit__(self, *_: object) -> None:
        stdin, stdout = self._streams()
        stdin.close()
        line = stdout.readline()
        stdout.close()
        if self._process.wait():
            raise RuntimeError("the probe beside the load failed; its error is above")
        found = json.loads(line)
        self.waits_for_cores = found["waits_for_cores"]
        self.calls = [Call(*call) for call in found["calls"]]

    def _streams(self) -> tuple[Any, Any]:
        return self._process.stdin, self._process.stdout


def main(method: str) -> None:
    """The process: an endpoint and a request on stdin, "ready" on stdout, calls until stdin ends, then JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too; it ends with its parent and reports
    waits_for_cores = not take_real_time_priority()
    from serve.client.channel import open_channel  # here: gRPC's threads inherit the priority of this one

    given = json.loads(sys.stdin.readline())
    address, token = given["endpoint"].pop("address"), given["endpoint"].pop("token", "")
    paths = {name: Path(path) for name, path in given["endpoint"].items()}
    endpoint, request = Endpoint(address, token=token, **paths), bytes.fromhex(given["request"])
    calls: list[Call] = []
    with open_channel(endpoint) as channel:
        method_call: Any = channel.unary_unary(method)
        print("ready", flush=True)
        pending = []
        while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            pending.append(method_call.future(request, timeout=TIMEOUT_S, metadata=endpoint.metadata))
            pending[-1].add_done_callback(_recorder(time.perf_counter(), calls))
        for future in pending:
            future.exception()  # wait for it
    print(json.dumps({"waits_for_cores": waits_for_cores, "calls": list(calls)}), flush=True)


def take_real_time_priority() -> bool:
    """Run before all processes of ordinary priority. False if the system has no such policy or forbids it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
    except (AttributeError, OSError):  # not Linux; not permitted
        return False
    return True


def _recorder(start_s: float, calls: list[Call]) -> Callable[[Any], None]:
    def record(future: Any) -> None:
        latency_ms = (time.perf_counter() - start_s) * 1000
        reply = b"" if future.exception() else future.result()
        calls.append(Call(latency_ms, future.code().name, len(reply)))

    return record


if __name__ == "__main__":
    main(*sys.argv[1:])
