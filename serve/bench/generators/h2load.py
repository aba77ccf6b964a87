"""Load by h2load (Debian: nghttp2-client), which sends one request repeatedly and costs less than a Python client.

Enters: a serialized request, an address, a `Plan`. Leaves: a `Measurement`. Does not know: what the request asks.

h2load does not read gRPC's status: a failed call is an HTTP 200 with an empty message or without one. So successful and
failed calls are counted by the bytes of the replies. In an open loop, latencies and codes are those of a probe beside
the load. A closed loop has no probe, which would change the number of calls in flight; if calls failed, it has no
latencies.
"""

import re
import resource
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from serve.bench.load import Measurement, Plan, fetch_replies
from serve.bench.probe import Probe
from serve.client.endpoint import Endpoint, to_endpoint

FRAME_BYTES = 5
"""Bytes of the frame before a gRPC message: a flag and the length."""
HTTP_OK = 200
SAMPLE_REPLIES = 10
RESOLUTION = 0.01
"""The share of a reply's bytes by which the times in it change its size."""
MAX_STREAMS = 10_000
"""Calls in flight per connection in an open loop: far more than are ever reached."""


def run_h2load(server: Endpoint | str, request: bytes, plan: Plan) -> Measurement:
    """Run a closed loop. Raises ConfigError if the request fails before the load.

    The smallest of several replies without load is the least size of a reply: under load the times in it are longer.
    """
    reply_bytes = min(map(len, fetch_replies(server, plan.method, request, SAMPLE_REPLIES)))
    found, bytes_per_call = run_command(server, request, plan)
    good = count_good(found.good_calls, bytes_per_call, [reply_bytes])
    if good < found.good_calls:
        found.errors, found.good_calls = _name_failures(found.good_calls - good, Counter()), good
        found.latencies_us = []  # they include those of failed calls
    return found


def run_h2load_beside(probe: Probe, server: Endpoint | str, request: bytes, plan: Plan) -> Measurement:
    """Run an open loop at `plan.rate`. The latencies are those of `probe`, which sends the same request."""
    with probe:
        found, bytes_per_call = run_command(server, request, plan)
    good = count_good(found.good_calls, bytes_per_call, [call.reply_bytes for call in probe.calls if call.code == "OK"])
    found.errors = _name_failures(found.good_calls - good, probe.failures)
    found.good_calls = good
    found.latencies_us = [1000 * each for each in probe.good_ms]
    found.error_latencies_us = [1000 * each for each in probe.failed_ms]
    return found


def count_good(calls: int, bytes_per_call: float, reply_bytes: Sequence[int]) -> int:
    """How many of `calls` succeeded, by the mean bytes of a call and the sizes of successful replies.

    A share of failures below RESOLUTION counts as none. A failed call is assumed to have no message, as it has from our
    server. If successful replies are empty, all calls count as successful.
    """
    if not sum(reply_bytes):
        return calls if reply_bytes else 0
    share = bytes_per_call / (FRAME_BYTES + statistics.mean(reply_bytes))
    return calls if share >= 1 - RESOLUTION else round(calls * max(0, share))


def _name_failures(count: int, seen: Counter[str]) -> Counter[str]:
    """Distribute failures, which h2load does not tell apart, over the codes in the proportions that the probe saw."""
    if not count or not seen:
        return Counter(UNKNOWN=count) if count else Counter()
    return Counter({code: round(count * each / seen.total()) for code, each in seen.items()})


def run_command(server: Endpoint | str, request: bytes, plan: Plan) -> tuple[Measurement, float]:
    """A measurement in which all calls count as successful, and the mean bytes of a call's reply."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(b"\0" + len(request).to_bytes(4) + request)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [*_command(to_endpoint(server), plan), "--data", str(body), "--log-file", str(log)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # our own flags
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = [tuple(map(int, line.split("\t"))) for line in log.read_text().splitlines()]
    data_bytes = re.search(r"traffic: .*\((\d+)\) data", done.stdout)
    if data_bytes is None:
        raise RuntimeError(f"wanted h2load's line of traffic, got {done.stdout[-300:]}")
    measured = drop_warm_up(rows, plan.warm_up_s)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = Measurement(
        plan.images_per_call,
        elapsed_s=plan.seconds,
        latencies_us=[float(latency_us) for _, status, latency_us in measured if status == HTTP_OK],
        good_calls=len(measured),
        generator_cpu_s=cpu_s * plan.seconds / (plan.seconds + plan.warm_up_s),  # without the warm-up's part
    )
    return found, int(data_bytes[1]) / max(1, len(rows))


def drop_warm_up(rows: Sequence[tuple[int, ...]], warm_up_s: float) -> list[tuple[int, ...]]:
    """The calls (start in us, HTTP status, latency in us) that ended after the warm-up.

    h2load's own option for a warm-up is not used: it drops calls from the count but not from the bytes.
    """
    begin_us = min((start_us for start_us, *_ in rows), default=0)
    return [row for row in rows if row[0] + row[2] - begin_us >= warm_up_s * 1e6]


def _command(endpoint: Endpoint, plan: Plan) -> list[str]:
    """The command line. h2load checks no certificate, and takes a token as an argument alone."""
    connections = min(plan.concurrency, plan.connections)
    streams = MAX_STREAMS if plan.rate else plan.concurrency // connections
    seconds = plan.warm_up_s + plan.seconds
    command = ["h2load", "--duration", f"{seconds * 1000:.0f}ms", "--threads", "1"]
    command += ["--clients", str(connections), "--max-concurrent-streams", str(streams)]
    command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    if plan.rate:
        command += ["--rps", f"{max(1, round(plan.rate / connections))}"]
    command += [part for key, value in endpoint.metadata for part in ("--header", f"{key}: {value}")]
    return [*command, f"{'https' if endpoint.uses_tls else 'http'}://{endpoint.address}{plan.method}"]
