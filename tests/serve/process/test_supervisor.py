"""serve.process.supervisor: many processes on one port, as processes; started, killed and restarted."""

import asyncio
import errno
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serve.client.client import Client
from serve.config import ServerConfig
from serve.process import supervisor
from serve.process.supervisor import Supervisor, choose_workers
from tests.support import Png


class Supervised:
    """`python -m serve --workers 2` on a free port, and what it logs."""

    def __init__(self, models: Path, starter: Sequence[str] = (), flags: Sequence[str] = ()) -> None:
        command = [*starter, sys.executable, "-m", "serve", "--models", str(models), "--port", "0", "--device", "cpu"]
        command += flags
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([*command, "--workers", "2"], stdin=pipe, stderr=pipe, text=True)
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._grown:
                self.lines.append(line)
                self._grown.notify_all()

    def wait_for(self, pattern: str, count: int = 1) -> list[re.Match[str]]:
        """The first `count` lines that match."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.lines if (match := re.search(pattern, line))]

        with self._grown:
            assert self._grown.wait_for(lambda: len(found()) >= count, 30), self.lines
        return found()

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.wait_for(r"serving .* with 2 workers on (\S+)")[0][1]

    def worker_pids(self) -> list[int]:
        """The processes that became ready, oldest first."""
        return [int(match[1]) for match in self.wait_for(r"is ready, process (\d+)", 2)]

    def end(self) -> None:
        """Kill what is left."""
        self.process.kill()
        self.process.wait()
        self._reader.join(30)
        for stream in (self.process.stdin, self.process.stderr):
            if stream:
                stream.close()


@contextmanager
def supervised(models: Path, starter: Sequence[str] = (), flags: Sequence[str] = ()) -> Iterator[Supervised]:
    running = Supervised(models, starter, flags)
    try:
        yield running
    finally:
        running.end()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_worker_comes_back_and_a_retrying_client_loses_nothing(repository_folder: Path, png: Png) -> None:
    with supervised(repository_folder) as running:
        address = running.address
        answers, failures, stop = [], [], threading.Event()

        def call() -> None:
            with Client(address) as client:
                while not stop.is_set():
                    try:
                        answers.append(client.classify(png(1), model="bands").best.label)
                    except Exception as error:  # collected: a thread's exception would be lost
                        failures.append(error)

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        os.kill(running.worker_pids()[0], signal.SIGKILL)
        running.wait_for("ended with SIGKILL; starting another")
        running.wait_for("is ready", 3)
        stop.set()
        for caller in callers:
            caller.join()
        assert not failures
        assert set(answers) == {"middle"}
        running.process.terminate()
        assert running.process.wait(20) == 0


@pytest.mark.slow
def test_the_pause_grows_while_workers_keep_ending(repository_folder: Path) -> None:
    """Each place has its own pause: the first worker is killed again and again, and the second not at all."""
    with supervised(repository_folder) as running:
        victim = running.worker_pids()[0]
        for count in range(1, 4):
            os.kill(victim, signal.SIGKILL)
            victim = int(running.wait_for(r"is ready, process (\d+)", 2 + count)[-1][1])
        pauses = [found[1] for found in running.wait_for(r"starting another in ([\d.]+) s", 3)]
    assert pauses == ["0.1", "0.2", "0.4"]


def test_workers_share_a_session_and_have_process_groups_of_their_own(
    repository_folder: Path,
) -> None:
    """Linux shares the cores out among sessions first: in sessions of their own, workers waited for each other."""
    with supervised(repository_folder) as running:
        pids = running.worker_pids()
        assert {os.getsid(pid) for pid in pids} == {os.getsid(running.process.pid)}
        assert [os.getpgid(pid) for pid in pids] == pids


async def wait_for_message(caplog: pytest.LogCaptureFixture, pattern: str, count: int) -> list[re.Match[str]]:
    """The first `count` messages that match."""
    async with asyncio.timeout(30):
        while len(found := [match for text in caplog.messages if (match := re.search(pattern, text))]) < count:
            await asyncio.sleep(0.01)
    return found


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a killed worker's pipe
def test_a_system_that_starts_no_process_costs_the_other_workers_nothing(
    repository_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts, start = [], asyncio.create_subprocess_exec

    async def start_or_fail(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        starts.append(arguments)
        if len(starts) == 3:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return await start(*arguments, **options)

    async def main() -> int:
        running = Supervisor(ServerConfig(models=repository_folder, port=0, workers=2, device="cpu"))
        done = asyncio.create_task(running.run())
        first, other = [int(ready[1]) for ready in await wait_for_message(caplog, r"is ready, process (\d+)", 2)]
        os.kill(first, signal.SIGKILL)
        await wait_for_message(caplog, "is ready", 3)
        assert is_alive(other)
        running.stop()
        return await done

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_or_fail)
    assert asyncio.run(main()) == 0
    assert len(starts) == 4
    assert sum("the system starts no process: [Errno" in text for text in caplog.messages) == 1
    assert sum("with 2 workers on" in text for text in caplog.messages) == 1


def test_workers_that_cannot_start_end_the_supervisor_with_their_reason(tmp_path: Path) -> None:
    with supervised(tmp_path) as running:
        assert running.process.wait(20) == 2
        running.wait_for(re.escape(str(tmp_path)))


def test_a_folder_whose_every_file_is_refused_gives_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "broken/1").mkdir(parents=True)
    (tmp_path / "broken/1/model.onnx").write_bytes(b"no model")
    with supervised(tmp_path) as running:
        assert running.process.wait(20) == 3
        running.wait_for("every model file under .* was refused")


def test_the_number_of_workers_follows_the_cores_and_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "count_usable_cores", lambda: 64)
    assert choose_workers(ServerConfig(device="cpu")) == 8
    assert choose_workers(ServerConfig(device="cuda")) == 1
    assert choose_workers(ServerConfig(device="cpu", workers=3)) == 3
    monkeypatch.setattr(supervisor, "count_usable_cores", lambda: 2)
    assert choose_workers(ServerConfig(device="cpu")) == 2
