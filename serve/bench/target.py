"""The server that is measured, and what the machine says of it: its address, its start, its CPU and memory.

Enters: flags of `python -m serve`, or a process id. Leaves: an address; seconds of a start; CPU seconds and MiB.
Does not know: loads, and what the server answers.
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
from typing import Any

from serve.errors import ConfigError
from serve.machine.cores import count_usable_cores


@dataclass(frozen=True, slots=True)
class Target:
    """The server under load: where it is, and its process where it is ours to look at."""

    address: str
    pid: int | None


@contextmanager
def start_server(flags: Sequence[str]) -> Iterator[Target]:
    """`python -m serve` on a free port, until the end of the block. Raises ConfigError where it does not serve."""
    # Where it serves is said at the level info, whatever the environment sets for servers.
    command = [sys.executable, "-m", "serve", "--port", "0", "--log-level", "info", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603  # our own module
        lines = iter(process.stderr or ())
        log = threading.Thread(target=sys.stderr.writelines, args=(lines,))
        try:
            address = next((found[1] for line in lines if (found := re.search(r"serving .* on (\S+)$", line))), "")
            if not address:
                raise ConfigError("the server ended before it served; start it by hand to see why")
            log.start()  # reads on: a full pipe would hold up the server
            yield Target(address, process.pid)
        finally:
            process.terminate()
            process.wait()
            if log.is_alive():
                log.join()  # before the block closes what it reads


STEAL_FIELD = 8
"""Of a line of /proc/stat, its name counted: time in which a core was ready to run and the hypervisor ran others
(proc(5))."""


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What a process and its children have used: CPU seconds so far, proportional memory now."""

    cpu_s: float
    pss_mib: float


def measure_use(pid: int) -> ProcessUse:
    """Read /proc for a process and everything below it."""
    cpu_ticks, pss_kib = 0, 0
    for member in process_tree(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:  # it ended meanwhile
            continue
        cpu_ticks += int(fields[11]) + int(fields[12])
        pss_kib += int(re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[0])
    return ProcessUse(cpu_ticks / os.sysconf("SC_CLK_TCK"), pss_kib / 1024)


def process_tree(pid: int) -> list[int]:
    """A process and all below it."""
    members, number = [pid], 0
    while number < len(members):
        children = Path(f"/proc/{members[number]}/task/{members[number]}/children")
        members += map(int, children.read_text().split()) if children.exists() else ()
        number += 1
    return members


def measure_stolen_s(stat: Path = Path("/proc/stat")) -> float:
    """Core-seconds that the hypervisor has kept from the usable cores since the machine started."""
    if not stat.exists():
        return 0.0
    affinity = os.sched_getaffinity(0)
    lines = (line.split() for line in stat.read_text().splitlines())
    stolen = [int(line[STEAL_FIELD]) for line in lines if line[0] in {f"cpu{core}" for core in affinity}]
    ticks = sum(stolen) * count_usable_cores() / len(affinity)  # of a quota's cores as of the others
    return ticks / os.sysconf("SC_CLK_TCK")


IMPORTS = "import grpc, numpy, onnxruntime, PIL.Image"


def measure_start(models: Path, precision: str, workers: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Start in turn, so that what else the machine does falls on all. Raises ConfigError where one does not serve."""
    imports_s: list[float] = []
    found: dict[int, list[tuple[float, float]]] = {count: [] for count in workers}
    for number in range(rounds):
        imports_s.append(measure_imports_s())
        for count in workers:
            found[count].append(
                start_once(["--models", str(models), "--precision", precision, "--workers", str(count)])
            )
            print(f"start {number + 1} of {rounds}, workers {count}: {found[count][-1][0]:.2f} s", file=sys.stderr)
    return [_summarize(count, found[count], statistics.median(imports_s)) for count in workers]


def measure_imports_s() -> float:
    """Seconds of a process that imports what serves and ends."""
    started_s = time.perf_counter()
    quiet = {"ORT_DISABLE_TELEMETRY": "1"} | os.environ
    subprocess.run([sys.executable, "-c", IMPORTS], env=quiet, check=True)  # noqa: S603  # our own line
    return time.perf_counter() - started_s


def start_once(flags: Sequence[str]) -> tuple[float, float]:
    """Seconds from the command until the server says that it serves, and the MiB of all its processes then."""
    started_s = time.perf_counter()
    with start_server(flags) as target:
        took_s = time.perf_counter() - started_s
        return took_s, measure_use(target.pid or 0).pss_mib


def _summarize(workers: int, found: Sequence[tuple[float, float]], imports_s: float) -> dict[str, Any]:
    start_s, pss_mib = map(statistics.median, zip(*found, strict=True))
    row = {"imports_s": imports_s, "start_s": start_s, "over_imports_s": start_s - imports_s, "pss_mib": pss_mib}
    return {"workers": workers, **row, "errors": {}}
