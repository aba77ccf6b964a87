"""How many cores this process may use: the affinity mask and the container's quota, not the host's count.

Enters: /proc and /sys of the running process. Leaves: a number of at least 1. Does not know: what uses the cores.
ONNX Runtime and most libraries size their pools by the host instead (onnxruntime#8313).
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MEMBERSHIP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
_NO_QUOTA = float(2**31)


def count_usable_cores() -> int:
    """Whole cores that the affinity mask and the quotas of the cgroups all allow."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([affinity, *map(_read_quota_cores, _find_cgroups())])))


def has_quota() -> bool:
    """Whether a cgroup has a CPU quota, which stops all threads once it is used up."""
    return any(_read_quota_cores(folder) < _NO_QUOTA for folder in _find_cgroups())


def _find_cgroups() -> Iterator[Path]:
    """The folders of this process's cgroup and of its ancestors: each may have a quota, and the least one holds.

    In a container of version 1 the process sees the host's path, while only its own folder is mounted. A folder that is
    missing therefore sets no quota.
    """
    for line in ["0::/", "1:cpu:/", *_read_membership()]:
        _, controllers, path = line.split(":", 2)  # cgroups(7)
        if not controllers or "cpu" in controllers.split(","):
            own = PurePosixPath(path.lstrip("/"))
            root = _CGROUPS / "cpu" if controllers else _CGROUPS
            yield from (root / each for each in (own, *own.parents))


def _read_membership() -> list[str]:
    try:
        return [line for line in _MEMBERSHIP.read_text().splitlines() if line.count(":") > 1]
    except OSError:  # no Linux, or no /proc
        return []


def _read_quota_cores(folder: Path) -> float:
    """A cgroup's quota divided by its period, in cores; _NO_QUOTA if it has none."""
    v2 = folder / "cpu.max"
    try:
        quota, period = v2.read_text().split() if v2.exists() else _read_v1(folder)
        return float(quota) / float(period) if float(quota) > 0 else _NO_QUOTA
    except (OSError, ValueError):  # no cgroup file, or "max"
        return _NO_QUOTA


def _read_v1(folder: Path) -> tuple[str, str]:
    return (folder / "cpu.cfs_quota_us").read_text(), (folder / "cpu.cfs_period_us").read_text()
