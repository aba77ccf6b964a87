"""serve.machine.idle_cores: a run takes two cores while the other workers leave one idle, else one."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from serve.machine.idle_cores import IdleCores, share_memory

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there a server has one worker")

TAKE_AND_WAIT = """
import sys
from serve.machine.idle_cores import IdleCores
mine = IdleCores.at(2, int(sys.argv[1]), 1)
print(mine.claim(), flush=True)
sys.stdin.readline()
"""


def forbid(name: str) -> int:
    """As a sandbox does."""
    raise PermissionError(name)


@pytest.fixture(params=["memory alone", "a file"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a server with three workers."""
    if request.param == "a file":
        monkeypatch.setattr(os, "memfd_create", forbid, raising=False)
    descriptor = share_memory(3)
    yield descriptor
    os.close(descriptor)


def test_a_run_takes_two_cores_while_the_others_rest(memory: int) -> None:
    first, _ = IdleCores.at(2, memory, 0), IdleCores.at(2, memory, 1)
    assert first.claim() == 2


def test_beside_a_run_that_took_both_cores_another_keeps_to_its_own(memory: int) -> None:
    first, second = IdleCores.at(2, memory, 0), IdleCores.at(2, memory, 1)
    taken = first.claim(), second.claim()
    assert taken == (2, 1)
    first.release(2)
    assert first.claim() == 1, "the second still runs"
    second.release(1)
    first.release(1)
    assert second.claim() == 2, "nobody runs any more"


def test_of_four_cores_two_runs_may_have_two_each(memory: int) -> None:
    workers = [IdleCores.at(4, memory, number) for number in range(3)]
    assert [worker.claim() for worker in workers] == [2, 2, 1]


def test_with_one_core_there_is_none_to_spread_over() -> None:
    assert IdleCores(1).claim() == 1


def test_a_worker_alone_counts_the_runs_of_its_other_models() -> None:
    alone = IdleCores(2)
    assert (alone.claim(), alone.claim()) == (2, 1)


def test_who_was_killed_in_a_run_holds_no_core_once_another_has_its_place(memory: int) -> None:
    other = IdleCores.at(2, memory, 0)
    command = [sys.executable, "-c", TAKE_AND_WAIT, str(memory)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(memory,)
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "2\n"
        assert other.claim() == 1, "another process has both"
        other.release(1)
        worker.kill()
    assert other.claim() == 1
    other.release(1)
    IdleCores.at(2, memory, 1)
    assert other.claim() == 2
