"""`python -m serve` as a process on a free port, for tests of faults and attacks: its address, its log, its workers."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support import ROOT

LONGEST_START_S = 60


class Served:
    """A server that runs, and every line that it has logged."""

    def __init__(
        self,
        models: Path,
        *flags: str,
        starter: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        folder: Path = ROOT,
    ) -> None:
        """`starter` is a command that runs another; `folder` is the server's working directory."""
        command = [*starter, sys.executable, "-m", "serve", "--models", str(models), "--port", "0", "--device", "cpu"]
        self.process = subprocess.Popen(
            [*command, "--workers", "1", *flags],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, pattern: str, count: int = 1, within_s: float = LONGEST_START_S) -> list[re.Match[str]]:
        """The first `count` lines of the log that match."""
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.find(pattern)) >= count, within_s), self.lines
        return self.find(pattern)

    def find(self, pattern: str) -> list[re.Match[str]]:
        """The lines of the log so far that match."""
        return [match for line in list(self.lines) if (match := re.search(pattern, line))]

    @property
    def address(self) -> str:
        """Where it listens, once all workers serve."""
        return self.wait_for(r" serving .* on (\S+:\d+)$")[0][1]

    @property
    def worker_pids(self) -> list[int]:
        """The processes that became ready, oldest first."""
        return [int(match[1]) for match in self.find(r"is ready, process (\d+)")]

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = 60) -> tuple[int, float]:
        """Send a stop signal: the exit code, and the seconds until the end."""
        start_s = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(within_s), time.monotonic() - start_s

    def end(self) -> None:
        """Kill what is left."""
        self.process.kill()
        for pid in self.worker_pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(30)
        if self.process.stderr:
            self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._grown:
                self.lines.append(line)
                self._grown.notify_all()


@contextmanager
def served(
    models: Path,
    *flags: str,
    starter: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> Iterator[Served]:
    """A server that is killed at the end, if it runs still."""
    server = Served(models, *flags, starter=starter, environment=environment, folder=folder)
    try:
        yield server
    finally:
        server.end()


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(holds: Callable[[], bool], within_s: float = 20) -> bool:
    """Whether something holds within a time; it is called again and again."""
    ends_s = time.monotonic() + within_s
    while time.monotonic() < ends_s:
        if holds():
            return True
        time.sleep(0.02)
    return False


def resident_bytes(pid: int) -> int:
    """Memory of a process that is resident; 0 if there is no /proc."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
    return int(found[1]) * 1024 if found else 0
