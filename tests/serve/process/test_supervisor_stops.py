"""serve.process.supervisor: a signal, Ctrl-C or a kill of the supervisor ends its workers."""

import sys
import time
from pathlib import Path

import pytest

from tests.serve.process.test_supervisor import is_alive, supervised

IN_A_TERMINAL = """
import os, pty, sys
os.dup2(2, 1)
stop_who_writes_behind = ["sh", "-c", 'stty tostop && exec "$@"', "sh"]
sys.exit(os.waitstatus_to_exitcode(pty.spawn(stop_who_writes_behind + sys.argv[1:])))
"""
"""A program whose stdin is the keyboard of another, and whose stderr is its screen."""


def wait_until_gone(pids: list[int]) -> None:
    ends = time.monotonic() + 20
    while any(map(is_alive, pids)):
        assert time.monotonic() < ends, "a worker outlived its supervisor"
        time.sleep(0.05)


def test_sigterm_stops_the_workers_and_then_the_supervisor(repository_folder: Path) -> None:
    with supervised(repository_folder) as running:
        pids = running.worker_pids()
        running.process.terminate()
        assert running.process.wait(20) == 0
        assert not any(map(is_alive, pids))


def test_ctrl_c_reaches_the_supervisor_alone_which_stops_the_workers(repository_folder: Path) -> None:
    """The terminal also stops background processes that write to it (`stty tostop`), but not the workers, which log."""
    with supervised(repository_folder, [sys.executable, "-c", IN_A_TERMINAL]) as running:
        pids = running.worker_pids()
        assert running.process.stdin is not None
        print("\x03", end="", file=running.process.stdin, flush=True)
        assert running.process.wait(20) == 0
        running.wait_for("INFO serve.process.worker: stopped", 2)
        assert not any("Traceback" in line for line in running.lines)
        assert not any(map(is_alive, pids))


@pytest.mark.parametrize("state", ["starting 2 workers", "is ready"])
def test_sigterm_during_the_start_ends_everything_with_exit_code_0(repository_folder: Path, state: str) -> None:
    with supervised(repository_folder) as running:
        running.wait_for(state)
        running.process.terminate()
        assert running.process.wait(20) == 0
        running.wait_for("stopped")


def test_workers_end_when_their_supervisor_is_killed(repository_folder: Path) -> None:
    with supervised(repository_folder) as running:
        pids = running.worker_pids()
        running.process.kill()
        wait_until_gone(pids)
