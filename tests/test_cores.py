"""serve.cores: the cores that this process may use, not those that the host has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve import cores
from serve.cores import count_usable_cores

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the kernel's, in which nothing says anything about a quota yet."""
    monkeypatch.setattr(cores, "_CGROUP_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(cores, "_CGROUP_V1", tmp_path / "cpu")
    return tmp_path


def write_v1(cgroup: Path, quota_us: int, period_us: int) -> None:
    """The two files of version 1."""
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu/cpu.cfs_quota_us").write_text(f"{quota_us}\n")
    (cgroup / "cpu/cpu.cfs_period_us").write_text(f"{period_us}\n")


def test_here_it_is_at_least_one_and_no_more_than_the_affinity_allows() -> None:
    assert 1 <= count_usable_cores() <= ALLOWED


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's sched_setaffinity")
def test_a_process_that_is_held_to_one_core_has_one() -> None:
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from serve.cores import count_usable_cores; print(count_usable_cores())"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "1\n"


def test_without_a_quota_it_is_the_affinity(cgroup: Path) -> None:
    assert count_usable_cores() == ALLOWED
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert count_usable_cores() == ALLOWED


def test_version_1_says_minus_one_for_no_quota(cgroup: Path) -> None:
    write_v1(cgroup, -1, 100_000)
    assert count_usable_cores() == ALLOWED


@pytest.mark.parametrize(("quota_us", "count"), [(10_000, 1), (100_000, 1), (199_000, 1), (250_000, 2), (10**8, 1000)])
@pytest.mark.parametrize("cgroup_version", [1, 2])
def test_a_quota_counts_in_whole_cores_and_never_below_one(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, cgroup_version: int, quota_us: int, count: int
) -> None:
    """On a host of 1,000 cores, so that only the quota limits."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1000), raising=False)
    if cgroup_version == 1:
        write_v1(cgroup, quota_us, 100_000)
    else:
        (cgroup / "cpu.max").write_text(f"{quota_us} 100000\n")
    assert count_usable_cores() == count


@pytest.mark.parametrize("text", ["", "max", "a b", "1 2 3", "\n"])
def test_a_file_that_says_something_else_is_no_quota(cgroup: Path, text: str) -> None:
    (cgroup / "cpu.max").write_text(text)
    assert count_usable_cores() == ALLOWED
