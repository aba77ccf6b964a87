"""Workers that hang, and runs and starts that do not end, as processes."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from serve.client import health
from serve.client.client import Client
from serve.errors import CallError
from tests.serve.hostile.model_files import endless, endless_for_white, put, white_image
from tests.served import is_alive, served, wait_until
from tests.support import Png


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_worker_that_is_stopped_is_replaced_and_new_connections_are_answered(
    repository_folder: Path, png: Png, workers: str
) -> None:
    with served(repository_folder, "--workers", workers, "--hang-timeout-s", "2") as running:
        address = running.address
        stopped = running.worker_pids[0]
        os.kill(stopped, signal.SIGSTOP)
        running.wait_for(rf"worker \d has been silent for 2 s; killing process {stopped}", within_s=15)
        running.wait_for("is ready", int(workers) + 1)
        assert not is_alive(stopped)
        with ExitStack() as stack:
            for _ in range(8):
                client = stack.enter_context(Client(address, timeout_s=5))
                assert client.classify(png(1), model="bands").best.label == "middle"
        assert running.stop()[0] == 0


@pytest.mark.slow
def test_a_supervisor_that_was_stopped_with_its_workers_kills_none_of_them(repository_folder: Path) -> None:
    """As on a machine that slept: the silence is no worker's fault."""
    with served(repository_folder, "--hang-timeout-s", "2") as running:
        assert running.address
        (worker,) = running.worker_pids
        for pid in (running.process.pid, worker):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        for pid in (running.process.pid, worker):
            os.kill(pid, signal.SIGCONT)
        time.sleep(4)
        assert not running.find("silent")
        assert health.ask(running.address, "bands", timeout_s=5) == "SERVING"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_that_does_not_end_is_broken_off_and_fails_its_own_caller(
    repository_folder: Path, png: Png, tmp_path: Path, workers: str
) -> None:
    """In either batcher: with one worker in a thread, with two on the event loop."""
    (tmp_path / "bands").symlink_to(repository_folder / "bands")
    put(tmp_path, "endless", endless_for_white())
    with served(tmp_path, "--workers", workers, "--hang-timeout-s", "4") as running:
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(running.address, timeout_s=20)) for _ in range(6)]
            with pytest.raises(CallError) as caught:
                clients[0].classify(white_image(), model="endless")
            assert caught.value.code == "INTERNAL"
            for client in clients:
                assert client.classify(png(1), model="bands").best.label == "middle"
            assert clients[0].classify(png(2, mode="L"), model="endless").best.probability > 0
        assert running.stop()[0] == 0


@pytest.mark.slow
def test_a_self_test_that_does_not_end_refuses_its_file_and_the_others_are_served(
    repository_folder: Path, png: Png, tmp_path: Path
) -> None:
    (tmp_path / "bands").symlink_to(repository_folder / "bands")
    put(tmp_path, "endless", endless())
    with served(tmp_path, "--hang-timeout-s", "4") as running, Client(running.address) as client:
        assert client.classify(png(1), model="bands").best.label == "middle"
        (refused,) = client.list_models().refused_models
        assert refused.name == "endless"
        assert "the self-test broke off" in refused.reason


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_taken_while_a_model_loads(
    repository_folder: Path, tmp_path: Path, number: signal.Signals, workers: str
) -> None:
    put(tmp_path, "endless", endless())
    (tmp_path / "longer").symlink_to(repository_folder / "bands")
    with served(tmp_path, "--workers", workers, "--hang-timeout-s", "0", "--start-timeout-s", "0") as running:
        running.wait_for("starting")
        time.sleep(3)  # the load has begun
        code, ended_s = running.stop(number)
        assert code == 0
        assert ended_s < 5
        assert wait_until(lambda: not any(map(is_alive, running.worker_pids)))


@pytest.mark.slow
def test_a_start_that_does_not_end_is_ended_with_the_name_of_the_model(tmp_path: Path) -> None:
    put(tmp_path, "endless", endless())
    with served(tmp_path, "--hang-timeout-s", "0", "--start-timeout-s", "3") as running:
        running.wait_for("still loading endless version 1 after 3 s", within_s=20)
        assert running.process.wait(20) != 0
