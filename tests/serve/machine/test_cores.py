"""serve.machine.cores: the cores that this process may use, not those that the host has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve.machine import cores
from serve.machine.cores import count_usable_cores, has_quota

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the kernel's, in which nothing says anything about a quota yet."""
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "_MEMBERSHIP", tmp_path / "membership")
    return tmp_path


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of 1,000 cores, so that only the quota limits."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1000), raising=False)


def write_v1(folder: Path, quota_us: int, period_us: int) -> None:
    """The two files of version 1."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota_us}\n")
    (folder / "cpu.cfs_period_us").write_text(f"{period_us}\n")


def write_v2(folder: Path, text: str) -> None:
    """The file of version 2."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(f"{text}\n")


def test_here_it_is_at_least_one_and_no_more_than_the_affinity_allows() -> None:
    assert 1 <= count_usable_cores() <= ALLOWED


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's sched_setaffinity")
def test_a_process_that_is_held_to_one_core_has_one() -> None:
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from serve.machine.cores import count_usable_cores; print(count_usable_cores())"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "1\n"


def test_without_a_quota_it_is_the_affinity(cgroup: Path) -> None:
    assert count_usable_cores() == ALLOWED
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert count_usable_cores() == ALLOWED


def test_a_quota_is_one_also_where_it_allows_more_than_all_cores(cgroup: Path) -> None:
    assert not has_quota()
    write_v2(cgroup, "max 100000")
    assert not has_quota()
    write_v2(cgroup, f"{100_000 * 10 * ALLOWED} 100000")
    assert has_quota()


def test_version_1_says_minus_one_for_no_quota(cgroup: Path) -> None:
    write_v1(cgroup / "cpu", -1, 100_000)
    assert count_usable_cores() == ALLOWED


@pytest.mark.parametrize(("quota_us", "count"), [(10_000, 1), (100_000, 1), (199_000, 1), (250_000, 2), (10**8, 1000)])
@pytest.mark.parametrize("cgroup_version", [1, 2])
@pytest.mark.usefixtures("many_cores")
def test_a_quota_counts_in_whole_cores_and_never_below_one(
    cgroup: Path, cgroup_version: int, quota_us: int, count: int
) -> None:
    if cgroup_version == 1:
        write_v1(cgroup / "cpu", quota_us, 100_000)
    else:
        write_v2(cgroup, f"{quota_us} 100000")
    assert count_usable_cores() == count


@pytest.mark.parametrize(
    ("own", "above", "count"), [("300000 100000", "max 100000", 3), ("max 100000", "400000 100000", 4)]
)
@pytest.mark.usefixtures("many_cores")
def test_the_quota_is_that_of_the_processs_own_cgroup_or_of_one_above_it(
    cgroup: Path, own: str, above: str, count: int
) -> None:
    """As systemd's CPUQuota= sets it for a service or for a slice."""
    (cgroup / "membership").write_text("0::/system.slice/inkling.service\n")
    write_v2(cgroup / "system.slice/inkling.service", own)
    write_v2(cgroup / "system.slice", above)
    write_v2(cgroup / "system.slice/other.service", "100000 100000")
    assert count_usable_cores() == count


@pytest.mark.usefixtures("many_cores")
def test_of_several_quotas_the_least_holds(cgroup: Path) -> None:
    (cgroup / "membership").write_text("0::/a/b\n")
    write_v2(cgroup, "900000 100000")
    write_v2(cgroup / "a", "200000 100000")
    write_v2(cgroup / "a/b", "500000 100000")
    assert count_usable_cores() == 2


@pytest.mark.parametrize("mounted", ["cpu/docker/77", "cpu"])
@pytest.mark.usefixtures("many_cores")
def test_version_1_has_a_folder_for_the_cpu(cgroup: Path, mounted: str) -> None:
    """In a container it is the container's own, whatever path of the host's the process is told."""
    (cgroup / "membership").write_text("9:memory:/docker/5\n3:cpu,cpuacct:/docker/77\n0::/\n")
    write_v1(cgroup / mounted, 600_000, 100_000)
    write_v1(cgroup / "cpu/docker/5", 100_000, 100_000)
    assert count_usable_cores() == 6


@pytest.mark.parametrize("text", ["", "\n", "nothing", "0::", "0::/../../outside", "0::/gone"])
def test_a_membership_that_leads_nowhere_is_no_quota(cgroup: Path, text: str) -> None:
    (cgroup / "membership").write_text(text)
    assert count_usable_cores() == ALLOWED


@pytest.mark.parametrize("text", ["", "max", "a b", "1 2 3", "\n"])
def test_a_file_that_says_something_else_is_no_quota(cgroup: Path, text: str) -> None:
    (cgroup / "cpu.max").write_text(text)
    assert count_usable_cores() == ALLOWED
