"""The measured server as a process: its address, the time of its start, its CPU time and memory.

Enters: flags of `python -m serve`, or a process id. Leaves: an address, seconds of a start, CPU seconds and MiB.
Does not know: loads, or the server's answers.
"""

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve.bench.report import StartRow
from serve.client.endpoint import Endpoint
from serve.errors import ConfigError
from serve.machine.cores import count_usable_cores


@dataclass(frozen=True, slots=True)
class Target:
    """The server under load, and its process id if it is known."""

    server: Endpoint | str
    pid: int | None


@contextmanager
def start_server(flags: Sequence[str], code: Path | None = None) -> Iterator[Target]:
    """Run `python -m serve` on a free port until the end of the block. Raises ConfigError if it does not start.

    `code` is a folder with the code of another commit, which runs in place of this.
    """
    # The address is logged at the level info, so the environment's log level must not apply.
    command = [sys.executable, "-m", "serve", "--port", "0", "--log-level", "info", *flags]
    environment = os.environ | ({"PYTHONPATH": str(code)} if code else {})
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=code, env=environment) as process:  # noqa: S603  # our own module
        lines = iter(process.stderr or ())
        log = threading.Thread(target=sys.stderr.writelines, args=(lines,))
        try:
            address = next((found[1] for line in lines if (found := re.search(r"serving .* on (\S+)$", line))), "")
            if not address:
                raise ConfigError("wanted a server that serves, got one that ended; run `python -m serve` to see why")
            log.start()  # keeps reading, because a full pipe would block the server
            yield Target(address, process.pid)
        finally:
            process.terminate()
            process.wait()
            if log.is_alive():
                log.join()  # before the block closes the pipe


STEAL_FIELD = 8
"""Index of steal time in a line of /proc/stat, its name included (proc(5)): ticks that the hypervisor took."""


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """A process and its descendants: CPU seconds so far, and proportional set size (PSS) in MiB now."""

    cpu_s: float
    pss_mib: float


def measure_use(pid: int) -> ProcessUse:
    """Read the use of a process and its descendants from /proc."""
    cpu_ticks, pss_kib = 0, 0
    for member in process_tree(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:  # the process has ended
            continue
        cpu_ticks += int(fields[11]) + int(fields[12])
        pss_kib += int(re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[0])
    return ProcessUse(cpu_ticks / os.sysconf("SC_CLK_TCK"), pss_kib / 1024)


def process_tree(pid: int) -> list[int]:
    """The ids of a process and of its descendants."""
    members, number = [pid], 0
    while number < len(members):
        children = Path(f"/proc/{members[number]}/task/{members[number]}/children")
        members += map(int, children.read_text().split()) if children.exists() else ()
        number += 1
    return members


def measure_stolen_s(stat: Path = Path("/proc/stat")) -> float:
    """Steal time of the usable cores since boot, in core-seconds. 0 without /proc/stat."""
    if not stat.exists():
        return 0.0
    affinity = os.sched_getaffinity(0)
    lines = (line.split() for line in stat.read_text().splitlines())
    stolen = [int(line[STEAL_FIELD]) for line in lines if line[0] in {f"cpu{core}" for core in affinity}]
    ticks = sum(stolen) * count_usable_cores() / len(affinity)  # a CPU quota is fewer cores than the affinity
    return ticks / os.sysconf("SC_CLK_TCK")


IMPORTS = "import grpc, numpy, onnxruntime, PIL.Image"


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds until the server serves, and the MiB of all its processes then."""

    took_s: float
    pss_mib: float


def measure_start(models: Path, precision: str, workers: Sequence[int], rounds: int) -> list[StartRow]:
    """Start servers in turn, so that other load on the machine affects all alike. Raises ConfigError if one fails."""
    imports_s: list[float] = []
    starts: dict[int, list[Start]] = {count: [] for count in workers}
    for number in range(rounds):
        imports_s.append(measure_imports_s())
        for count in workers:
            start = start_once(["--models", str(models), "--precision", precision, "--workers", str(count)])
            starts[count].append(start)
            print(f"start {number + 1} of {rounds}, workers {count}: {start.took_s:.2f} s", file=sys.stderr)
    return [_summarize(count, starts[count], statistics.median(imports_s)) for count in workers]


def measure_imports_s() -> float:
    """Seconds of a process that only imports the server's packages."""
    started_s = time.perf_counter()
    environment = {"ORT_DISABLE_TELEMETRY": "1"} | os.environ
    subprocess.run([sys.executable, "-c", IMPORTS], env=environment, check=True)  # noqa: S603  # our own line
    return time.perf_counter() - started_s


def start_once(flags: Sequence[str]) -> Start:
    """Start a server, measure it and stop it."""
    started_s = time.perf_counter()
    with start_server(flags) as target:
        took_s = time.perf_counter() - started_s
        return Start(took_s, measure_use(target.pid or 0).pss_mib)


def _summarize(workers: int, starts: Sequence[Start], imports_s: float) -> StartRow:
    start_s = statistics.median(start.took_s for start in starts)
    pss_mib = statistics.median(start.pss_mib for start in starts)
    return StartRow(workers, imports_s, start_s, start_s - imports_s, pss_mib)
