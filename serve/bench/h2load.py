"""Load by h2load (Debian: nghttp2-client): one request again and again, at a tenth of what a client in Python costs.

Enters: a serialized request, an address, a `Plan`. Leaves: a `Measurement`. h2load knows nothing of gRPC: a refused
call is a good HTTP answer without data to it, so good and refused calls are told apart by the bytes that came back,
and their latencies and codes are those of a probe beside the load.
"""

import re
import resource
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from serve.bench.load import Measurement, Plan
from serve.bench.probe import Probe

FRAME_BYTES = 5
"""Before each gRPC message: a flag and its length."""
MOST_STREAMS = 10_000
"""In an open loop, calls under way per connection: far more than are ever reached."""


def run_h2load(address: str, request: bytes, plan: Plan) -> Measurement:
    """A closed loop, every answer taken for good: look at the replies elsewhere first."""
    found, _ = _run(address, request, plan)
    return found


def run_h2load_beside(probe: Probe, address: str, request: bytes, plan: Plan) -> Measurement:
    """The same in an open loop at `plan.rate`, with the latencies of `probe`, which makes calls of the same kind."""
    with probe:
        found, data_bytes = _run(address, request, plan)
    good = count_good(found.good_calls, data_bytes, probe)
    found.errors = _name_failures(found.good_calls - good, probe.failures)
    found.good_calls = good
    found.latencies_us = [1000 * each for each in probe.good_ms]
    found.error_latencies_us = [1000 * each for each in probe.failed_ms]
    return found


def count_good(calls: int, data_bytes: int, probe: Probe) -> int:
    """How many of `calls` had an answer, by the bytes of all of them and those of an answer to `probe`.

    To about a hundredth, and rather too few: the times that an answer holds take a byte more or less.
    """
    if not probe.reply_bytes:
        return 0
    reply_bytes = FRAME_BYTES + sum(probe.reply_bytes) / len(probe.reply_bytes)
    return min(calls, round(data_bytes / reply_bytes))


def _name_failures(count: int, seen: Counter[str]) -> Counter[str]:
    """Failures that h2load cannot tell apart, by code, in the proportions that the probe met."""
    if not count or not seen:
        return Counter(UNKNOWN=count) if count else Counter()
    return Counter({code: round(count * each / seen.total()) for code, each in seen.items()})


def _run(address: str, request: bytes, plan: Plan) -> tuple[Measurement, int]:
    """The measurement, and the bytes of all replies."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(b"\0" + len(request).to_bytes(4) + request)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [*_command(plan), "--data", str(body), "--log-file", str(log), f"http://{address}{plan.method}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # our own flags
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = [line.split("\t") for line in log.read_text().splitlines()]
    data_bytes = re.search(r"traffic: .*\((\d+)\) data", done.stdout)
    if data_bytes is None:
        raise RuntimeError(f"h2load said nothing that can be read: {done.stdout[-300:]}")
    latencies_us = [float(row[2]) for row in rows if row[1] == "200"]
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    share = plan.seconds / (plan.seconds + plan.warm_up_s)  # it loads while it warms up, too
    found = Measurement(
        plan.images_per_call,
        elapsed_s=plan.seconds,
        latencies_us=latencies_us,
        good_calls=len(latencies_us),
        generator_cpu_s=cpu_s * share,
    )
    return found, int(int(data_bytes[1]) * share)  # it counts the bytes of its warm-up, but not the calls


def _command(plan: Plan) -> list[str]:
    connections = min(plan.concurrency, plan.connections)
    streams = MOST_STREAMS if plan.rate else plan.concurrency // connections
    command = ["h2load", "--duration", f"{plan.seconds * 1000:.0f}ms", "--threads", "1"]
    command += ["--warm-up-time", f"{plan.warm_up_s * 1000:.0f}ms"]
    command += ["--clients", str(connections), "--max-concurrent-streams", str(streams)]
    command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    if plan.rate:
        command += ["--rps", f"{max(1, round(plan.rate / connections))}"]
    return command
