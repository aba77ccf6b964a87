"""`/metrics` and `/readyz` while workers are killed and stopped: no sum falls, and no count is lost."""

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import grpc

from serve.api.inkling_v1 import SERVICE
from serve.client.client import Client
from serve.pb import classifier_pb2 as pb
from tests.serve.telemetry.running import Sample, find, running
from tests.support import Png


def test_a_killed_worker_keeps_its_counts_and_no_sum_falls(repository_folder: Path, png: Png) -> None:
    with running(repository_folder, "--workers", "2") as server:
        address = server.address
        stop, failures, answers = threading.Event(), list[Exception](), Counter[int]()

        def call(number: int) -> None:
            with Client(address) as client:
                while not stop.is_set():
                    try:
                        client.classify(png(1), model="bands")
                        answers[number] += 1
                    except Exception as error:  # collected: a thread's exception would be lost
                        failures.append(error)

        callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for caller in callers:
            caller.start()
        server.scrape_until(lambda samples: find(samples, "inkling_requests_total", code="OK") > 50)
        last = server.scrape()
        os.kill(server.worker_pids[0], signal.SIGKILL)
        restarted = False
        while not restarted:
            samples = server.scrape()
            fallen = {sample for sample, value in last.items() if is_sum(sample) and samples.get(sample, -1) < value}
            assert not fallen
            restarted = server.get("/readyz")[0] == 200 and find(samples, "inkling_worker_restarts_total") == 1
            last = samples
        stop.set()
        for caller in callers:
            caller.join()
        assert not failures
        at_kill = find(last, "inkling_requests_total", code="OK")
        lost = answers.total() - find(
            server.scrape_until(lambda samples: find(samples, "inkling_requests_total", code="OK") > at_kill),
            "inkling_requests_total",
            code="OK",
        )
        # What the killed worker had not reported yet: half a second's calls at most.
        assert lost < answers.total() / 2


def is_sum(sample: Sample) -> bool:
    """Whether a sample may only grow."""
    return sample[0].endswith(("_total", "_bucket", "_sum", "_count"))


def test_readyz_follows_the_workers_through_start_kill_and_stop(repository_folder: Path, png: Png) -> None:
    with running(repository_folder, "--workers", "2") as server:
        server.wait_for("starting 2 workers")
        status, reason = server.get("/readyz")
        assert (status, reason) == (503, "workers that do not serve yet: 0, 1\n")
        assert server.get("/healthz") == (200, "ok\n")
        assert server.address
        assert server.get("/readyz") == (200, "ok\n")
        os.kill(server.worker_pids[0], signal.SIGKILL)
        server.wait_for("ended with SIGKILL")
        status, reason = server.get("/readyz")
        assert status == 503
        assert reason in ("workers that do not serve yet: 0\n", "workers that do not serve yet: 1\n")
        server.wait_for("is ready", 3)
        assert server.get("/readyz") == (200, "ok\n")
        # Images that take long enough to be in flight when the stop begins.
        request = pb.BatchClassifyRequest(model="bands", images=[png(1, (2000, 2000))] * 8).SerializeToString()
        with grpc.insecure_channel(server.address) as channel:
            call = channel.unary_unary(f"/{SERVICE.full_name}/BatchClassify").future(request, timeout=30)
            time.sleep(0.1)
            server.process.terminate()
            server.wait_for("stopping;")
            assert server.get("/readyz") == (503, "the server is stopping\n")
            assert server.get("/healthz")[0] == 200
            assert call.code() is grpc.StatusCode.OK
        assert server.process.wait(20) == 0


def test_what_a_worker_counted_before_its_end_is_in_the_last_sums(repository_folder: Path, png: Png) -> None:
    """Two workers, of which one is told to stop by itself right after a call."""
    with running(repository_folder, "--workers", "1") as server:
        with Client(server.address) as client:
            client.classify(png(1), model="bands")
            os.kill(server.worker_pids[0], signal.SIGTERM)
            server.wait_for("ended with exit code 0")
        samples = server.scrape()
        assert find(samples, "inkling_requests_total", method="Classify", code="OK") == 1
        assert find(samples, "inkling_worker_restarts_total") == 1
