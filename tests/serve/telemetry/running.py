"""`python -m serve` as a process whose HTTP port is on, for the tests of this folder."""

import contextlib
import http.client
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and labels."""


def find_free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


class Running:
    """A server's process, and what it prints."""

    def __init__(self, models: Path, *flags: str, environment: dict[str, str] | None = None) -> None:
        self.http_port = find_free_port()
        command = [sys.executable, "-m", "serve", "--models", str(models), "--port", "0", "--device", "cpu"]
        command += ["--metrics-port", str(self.http_port), "--version-policy", "all", *flags]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment)
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
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
        """Where it listens for gRPC."""
        return self.wait_for(r"serving .* on (\d[^\s\"]+)")[0][1]

    @property
    def worker_pids(self) -> list[int]:
        """The processes that have been ready, oldest first."""
        return [int(match[1]) for match in self.wait_for(r"is ready, process (\d+)")]

    def get(self, path: str) -> tuple[int, str]:
        """What the HTTP port answers: status and body."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)) as connection:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()

    def scrape(self) -> dict[Sample, float]:
        """Every sample of /metrics, read by Prometheus' own parser."""
        status, text = self.get("/metrics")
        assert status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def scrape_until(self, is_wanted: Callable[[dict[Sample, float]], bool]) -> dict[Sample, float]:
        """The first samples that are as they should be; or those after two seconds, for the test to say what is wrong.

        Counts are on /metrics a second after they were counted at the latest.
        """
        ends_s = time.monotonic() + 2
        while not is_wanted(found := self.scrape()) and time.monotonic() < ends_s:
            time.sleep(0.05)
        return found

    def end(self) -> None:
        """Kill what is left."""
        self.process.kill()
        self.process.wait()
        self._reader.join(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running(models: Path, *flags: str, environment: dict[str, str] | None = None) -> Iterator[Running]:
    """A server, until the end of the block."""
    server = Running(models, *flags, environment=environment)
    try:
        yield server
    finally:
        server.end()


def find(samples: dict[Sample, float], name: str, **labels: str) -> float:
    """The sum of all samples of a name that have these labels."""
    return sum(value for (found, its), value in samples.items() if found == name and its >= frozenset(labels.items()))
