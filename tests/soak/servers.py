"""Two servers for a soak: one that only changes its models, and one that is killed, stopped and started again, too.

Enters: a folder, a source of chance. Leaves: addresses that stay, events with their names, memory.
Does not know: who calls.
"""

import os
import random
import shutil
import signal
import socket
import time
from pathlib import Path

from serve.model_file.spec import PrepareSpec
from tests.served import Served, is_alive, resident_bytes, wait_until
from tests.support import GREY, write_tiny_model

WORKERS = 2
FLAGS = ("--workers", str(WORKERS), "--model-control", "poll", "--poll-s", "1", "--metrics-port", "0")
LONGEST_LOOK_S = 5.0
"""Seconds within which a new version is live, on a busy machine too; a look is due every second."""
LONGEST_START_S = 300.0
"""Seconds of a start on a very busy machine."""
STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def write_models(folder: Path) -> None:
    """Two tiny models."""
    write_tiny_model(folder / "bands")
    prepare = PrepareSpec("digit", 1, {"box": 8})
    write_tiny_model(folder / "grey-bands", name="grey-bands", input=GREY, prepare=prepare, parameters=432)


class Running:
    """A server on a port that stays the same, with a folder of models of its own."""

    def __init__(self, folder: Path) -> None:
        self._models = folder
        write_models(folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._version = 1
        self._starts = 0
        self.problems: list[str] = []
        """What its log or its end told of a fault of its own."""
        self._served = self._start()

    def kill_worker(self, chance: random.Random) -> str:
        """Kill a worker, and wait for another in its place."""
        ready = len(self._served.worker_pids)
        os.kill(chance.choice(self._workers()), signal.SIGKILL)
        if not wait_until(lambda: len(self._served.worker_pids) > ready, LONGEST_START_S):
            self.problems.append("a killed worker was not replaced")
        return "worker killed"

    def restart(self, chance: random.Random) -> str:
        """Stop it by one of the signals, and start it again."""
        number = chance.choice(STOPS)
        code, _ = self._served.stop(number)
        if code:
            self.problems.append(f"{number.name} ended with {code}")
        self._close()
        self._served = self._start()
        return f"{number.name} and start"

    def change_model(self, chance: random.Random) -> str:
        """A new version in place of the old one, which answers the same; now and then beside a file that is none."""
        self._version += 1
        write_tiny_model(self._models / "bands", self._version)
        if chance.random() < 0.5:
            bad = self._models / f"bad-{self._version}" / "1"
            bad.mkdir(parents=True)
            (bad / "model.onnx").write_bytes(chance.randbytes(1000))
        time.sleep(LONGEST_LOOK_S)
        shutil.rmtree(self._models / "bands" / str(self._version - 1))
        for bad in self._models.glob("bad-*"):
            shutil.rmtree(bad)
        return "model changed"

    def measure(self) -> int:
        """Resident bytes of its workers."""
        return sum(map(resident_bytes, self._workers()))

    def end(self) -> None:
        """Stop it for good."""
        code, _ = self._served.stop()
        if code:
            self.problems.append(f"the last stop ended with {code}")
        self._close()

    def _workers(self) -> list[int]:
        return [pid for pid in self._served.worker_pids if is_alive(pid)]

    def _start(self) -> Served:
        self._starts += 1
        started = Served(self._models, *FLAGS, "--port", self.address.rpartition(":")[2])
        try:
            started.wait_for(r" serving .* on (\S+:\d+)$", within_s=LONGEST_START_S)
        except AssertionError:
            started.end()
            raise
        return started

    def _close(self) -> None:
        self.problems.extend(match.string.strip() for match in self._served.find(r"Traceback|Error:"))
        self._served.end()
