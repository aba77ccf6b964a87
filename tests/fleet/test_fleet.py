"""Three servers on addresses of their own, under calls: one is killed, one drained, and all are updated in turn.

Once behind HAProxy (Debian's package) with the configuration of deploy/, once with gRPC's own round robin.
"""

import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from serve.client.client import Client
from serve.errors import CallError
from tests.served import Served, wait_until
from tests.support import ROOT, Png

HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
CALLERS = 6
STEADY_S = 4
MOST_UNEVEN = 0.2
COUNTED = re.compile(
    r'^inkling_requests_total\{(?=[^}]*method="Classify")(?=[^}]*code="OK")[^}]*\} (\S+)$', re.MULTILINE
)
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")

pytestmark = pytest.mark.slow


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class Fleet:
    """Servers on HOSTS that share a port number, and can be started again."""

    def __init__(self, models: Path) -> None:
        self.port, self.metrics_port = find_free_port(), find_free_port()
        self._servers = {host: self._start(host, models) for host in HOSTS}
        for server in self._servers.values():
            assert server.address

    @property
    def addresses(self) -> str:
        """All of them, as a client takes them."""
        return ",".join(f"{host}:{self.port}" for host in HOSTS)

    def kill(self, host: str) -> None:
        """As when a machine fails: supervisor and workers at once."""
        self._servers[host].end()

    def drain(self, host: str) -> int:
        """As an operator stops one: its exit code."""
        code, _ = self._servers[host].stop(signal.SIGTERM)
        self._servers[host].end()
        return code

    def start(self, host: str, models: Path) -> None:
        """Start one again, and wait until it serves."""
        self._servers[host] = self._start(host, models)
        assert self._servers[host].address

    def count_answers(self) -> dict[str, float]:
        """The calls to Classify that each server has answered."""
        counts = {}
        for host in HOSTS:
            with urllib.request.urlopen(f"http://{host}:{self.metrics_port}/metrics", timeout=10) as page:
                counts[host] = sum(map(float, COUNTED.findall(page.read().decode())))
        return counts

    def end(self) -> None:
        """Kill what is left."""
        for server in self._servers.values():
            server.end()

    def _start(self, host: str, models: Path) -> Served:
        flags = ["--host", host, "--port", str(self.port), "--lame-duck-s", "1", "--grace-s", "10"]
        metrics = ["--metrics-host", host, "--metrics-port", str(self.metrics_port)]
        return Served(models, *flags, *metrics)


@contextmanager
def haproxy(fleet: Fleet, folder: Path) -> Iterator[str]:
    """A balancer with the configuration of deploy/, but for the names and ports of this machine: its address."""
    port = find_free_port()
    text = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
    text, binds = re.subn(r"bind :50051", f"bind 127.0.0.1:{port}", text)
    text, checks = re.subn(r"port 9464", f"port {fleet.metrics_port}", text)
    text, names = re.subn(r" init-addr none resolvers containers", "", text)
    text, resolvers = re.subn(r"resolvers containers\n( +.*\n)+", "", text)
    servers = "".join(f"    server {host} {host}:{fleet.port}\n" for host in HOSTS)
    text, templates = re.subn(r" +server-template .*\n", servers, text)
    assert (binds, checks, names, resolvers, templates) == (1, 1, 1, 1, 1)
    configuration = folder / "haproxy.cfg"
    configuration.write_text(text)
    assert HAPROXY
    with subprocess.Popen([HAPROXY, "-db", "-f", configuration]) as process:
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


class Callers:
    """Threads that call one after the other, until they are told to stop, and what the calls gave."""

    def __init__(self, address: str, image: bytes) -> None:
        self.outcomes: Counter[str] = Counter()
        self.versions: set[str] = set()
        self._stop = threading.Event()
        self._image = image
        self._threads = [threading.Thread(target=self._call, args=(address,)) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the calls that are under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _call(self, address: str) -> None:
        with Client(address) as client:
            while not self._stop.is_set():
                try:
                    answer = client.classify(self._image, model="bands")
                    self.outcomes[answer.best.label] += 1
                    self.versions.add(str(answer.version))
                except CallError as error:
                    self.outcomes[f"{error.code}: {error}"] += 1


@pytest.mark.parametrize("way", ["haproxy", "round robin"])
def test_no_call_fails_through_a_kill_a_drain_and_a_rolling_update(
    repository_folder: Path, tmp_path: Path, png: Png, way: str
) -> None:
    if way == "haproxy" and not HAPROXY:
        pytest.skip("haproxy is not installed; Debian has it in the package haproxy")
    updated = tmp_path / "models"
    shutil.copytree(repository_folder, updated)
    shutil.copytree(updated / "bands/2", updated / "bands/3")
    with ExitStack() as stack:
        fleet = Fleet(repository_folder)
        stack.callback(fleet.end)
        address = stack.enter_context(haproxy(fleet, tmp_path)) if way == "haproxy" else fleet.addresses
        callers = Callers(address, png(1))
        stack.callback(callers.stop)
        assert wait_until(lambda: callers.outcomes["middle"] > 100)
        check_spread(fleet)
        fleet.kill(HOSTS[0])
        time.sleep(2)
        fleet.start(HOSTS[0], repository_folder)
        time.sleep(2)
        assert fleet.drain(HOSTS[1]) == 0
        fleet.start(HOSTS[1], repository_folder)
        assert callers.versions == {"2"}
        for host in HOSTS:
            time.sleep(2)  # until the clients have found the server that was started last
            assert fleet.drain(host) == 0
            fleet.start(host, updated)
        time.sleep(2)
        callers.versions.clear()
        check_spread(fleet)
        callers.stop()
    assert list(callers.outcomes) == ["middle"], callers.outcomes
    assert callers.versions == {"3"}


def check_spread(fleet: Fleet) -> None:
    """No server has a share of the calls that differs by more than MOST_UNEVEN from an equal one."""
    before = fleet.count_answers()
    time.sleep(STEADY_S)
    time.sleep(1.5)  # what was counted is on the page after a second
    calls = {host: count - before[host] for host, count in fleet.count_answers().items()}
    mean = sum(calls.values()) / len(calls)
    assert mean > 20
    assert all(abs(count / mean - 1) < MOST_UNEVEN for count in calls.values()), calls
