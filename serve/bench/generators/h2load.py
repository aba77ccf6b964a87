"""Load by h2load (Debian: nghttp2-client): one request again and again, at a tenth of what a client in Python costs.

Enters: a serialized request, an address, a `Plan`. Leaves: a `Measurement`. h2load knows nothing of gRPC: a refused
call is a good HTTP answer with an empty message or none to it, so good and refused calls are told apart by the bytes
that came back. In an open loop their latencies and codes are those of a probe beside the load; a closed one has no
probe, which would be company for its callers, and where calls were refused it has no latencies.
"""

import re
import resource
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from serve.bench.load import Measurement, Plan, look_at_reply
from serve.bench.probe import Probe

FRAME_BYTES = 5
"""Before each gRPC message: a flag and its length."""
HTTP_OK = 200
LOOKS = 10
RESOLUTION = 0.01
MOST_STREAMS = 10_000
"""In an open loop, calls under way per connection: far more than are ever reached."""


def run_h2load(address: str, request: bytes, plan: Plan) -> Measurement:
    """A closed loop. Raises ConfigError where the request is refused before there is any load.

    The smallest of some replies is what an answer has at the least: under load its times are longer, never shorter.
    """
    reply_bytes = min(len(look_at_reply(address, plan.method, request)) for _ in range(LOOKS))
    found, bytes_per_call = _run(address, request, plan)
    good = count_good(found.good_calls, bytes_per_call, [reply_bytes])
    if good < found.good_calls:
        found.errors, found.good_calls = _name_failures(found.good_calls - good, Counter()), good
        found.latencies_us = []  # those of refused calls are among them
    return found


def run_h2load_beside(probe: Probe, address: str, request: bytes, plan: Plan) -> Measurement:
    """The same in an open loop at `plan.rate`, with the latencies of `probe`, which makes calls of the same kind."""
    with probe:
        found, bytes_per_call = _run(address, request, plan)
    good = count_good(found.good_calls, bytes_per_call, probe.reply_bytes)
    found.errors = _name_failures(found.good_calls - good, probe.failures)
    found.good_calls = good
    found.latencies_us = [1000 * each for each in probe.good_ms]
    found.error_latencies_us = [1000 * each for each in probe.failed_ms]
    return found


def count_good(calls: int, bytes_per_call: float, reply_bytes: Sequence[int]) -> int:
    """How many of `calls` had an answer, by the bytes that came for each and the sizes of good replies.

    To a hundredth, by which the times in an answer change its size: so little is not missing. A refused call is taken
    to have the frame of an empty message, as it has from our server; where it has none, rather too few are counted as
    good. Where good replies are empty themselves nothing tells them apart.
    """
    if not sum(reply_bytes):
        return calls if reply_bytes else 0
    share = (bytes_per_call - FRAME_BYTES) / statistics.mean(reply_bytes)
    return calls if share >= 1 - RESOLUTION else round(calls * max(0, share))


def _name_failures(count: int, seen: Counter[str]) -> Counter[str]:
    """Failures that h2load cannot tell apart, by code, in the proportions that the probe met."""
    if not count or not seen:
        return Counter(UNKNOWN=count) if count else Counter()
    return Counter({code: round(count * each / seen.total()) for code, each in seen.items()})


def _run(address: str, request: bytes, plan: Plan) -> tuple[Measurement, float]:
    """The measurement, all calls taken for good, and the bytes of a reply on average."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(b"\0" + len(request).to_bytes(4) + request)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [*_command(plan), "--data", str(body), "--log-file", str(log), f"http://{address}{plan.method}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # our own flags
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = [tuple(map(int, line.split("\t"))) for line in log.read_text().splitlines()]
    data_bytes = re.search(r"traffic: .*\((\d+)\) data", done.stdout)
    if data_bytes is None:
        raise RuntimeError(f"h2load said nothing that can be read: {done.stdout[-300:]}")
    measured = leave_out_warm_up(rows, plan.warm_up_s)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = Measurement(
        plan.images_per_call,
        elapsed_s=plan.seconds,
        latencies_us=[float(latency_us) for _, status, latency_us in measured if status == HTTP_OK],
        good_calls=len(measured),
        generator_cpu_s=cpu_s * plan.seconds / (plan.seconds + plan.warm_up_s),  # it loads while it warms up, too
    )
    return found, int(data_bytes[1]) / max(1, len(rows))


def leave_out_warm_up(rows: Sequence[tuple[int, ...]], warm_up_s: float) -> list[tuple[int, ...]]:
    """Of calls (start in microseconds, HTTP status, latency in microseconds), those that ended after the warm-up.

    h2load's own warm-up leaves them out of its calls, and not out of its bytes.
    """
    begin_us = min((start_us for start_us, *_ in rows), default=0)
    return [row for row in rows if row[0] + row[2] - begin_us >= warm_up_s * 1e6]


def _command(plan: Plan) -> list[str]:
    connections = min(plan.concurrency, plan.connections)
    streams = MOST_STREAMS if plan.rate else plan.concurrency // connections
    seconds = plan.warm_up_s + plan.seconds
    command = ["h2load", "--duration", f"{seconds * 1000:.0f}ms", "--threads", "1"]
    command += ["--clients", str(connections), "--max-concurrent-streams", str(streams)]
    command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    if plan.rate:
        command += ["--rps", f"{max(1, round(plan.rate / connections))}"]
    return command
