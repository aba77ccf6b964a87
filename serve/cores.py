"""How many cores this process may use: the affinity mask and the container's quota, not the host's count.

Enters: /proc and /sys of the running process. Leaves: a number of at least 1. Does not know: what they are used for.
ONNX Runtime and most libraries size their pools by the host instead (onnxruntime#8313).
"""

import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def count_usable_cores() -> int:
    """Whole cores that the affinity mask and the cgroup's quota both allow."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, int(_quota_cores(_CGROUP_V2, _CGROUP_V1))))


def _quota_cores(v2: Path, v1: Path) -> float:
    """The quota divided by its period; as good as infinite where there is none."""
    try:
        quota, period = v2.read_text().split() if v2.exists() else _read_v1(v1)
        return float(quota) / float(period) if float(quota) > 0 else float(2**31)
    except (OSError, ValueError):  # no cgroup file, or "max"
        return float(2**31)


def _read_v1(folder: Path) -> tuple[str, str]:
    return (folder / "cpu.cfs_quota_us").read_text(), (folder / "cpu.cfs_period_us").read_text()
