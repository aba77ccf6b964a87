"""What processes have used of the machine, and what its hypervisor has kept of it, as Linux's /proc says.

Enters: a process id. Leaves: CPU seconds and memory; zeros of what the hypervisor took where nothing tells.
Does not know: what the processes do.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from serve.machine.cores import count_usable_cores

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
