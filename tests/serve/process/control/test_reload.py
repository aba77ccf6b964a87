"""Models that change under load, with two workers as processes: no call fails, no answer is of another version."""

import asyncio
import contextlib
import math
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx import helper, numpy_helper

from serve.pb import classifier_pb2 as pb
from serve.pb import open_inference_pb2, open_inference_pb2_grpc
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from tests.serve.machine.test_memory import resident_bytes
from tests.serve.process.test_supervisor import Supervised, supervised
from tests.support import SHAPE, Png, make_graph, make_spec
from train.export.onnx_file import measure_self_test, write_model_file

SWAPS = 10
CHANNELS, CALLERS = 8, 24
POLLED = ("--model-control", "poll", "--poll-s", "1")
BALLAST = (int(np.prod(SHAPE)), 5000)
"""Shape of weights that change no answer and take 8 MiB: a model that stays in memory would be seen."""


def gain_of(version: int) -> float:
    """The gain of the tiny model of a version: no two versions give the same probabilities."""
    return version / 4


def expect(version: int) -> float:
    """The probability that a version gives to the one band that is white."""
    return math.exp(gain_of(version)) / (math.exp(gain_of(version)) + 2)


def write_model(folder: Path, version: int) -> Path:
    """A model with ballast, as `folder`/<version>/model.onnx; the whole folder appears at once."""
    graph = make_graph(SHAPE, gain_of(version))
    ballast = np.random.default_rng(version).random(BALLAST, np.float32)
    graph.graph.initializer.extend(
        [numpy_helper.from_array(ballast, "ballast"), numpy_helper.from_array(np.zeros(1, np.float32), "zero")]
    )
    scores = next(node for node in graph.graph.node if node.op_type == "MatMul")
    scores.output[0] = "bare_scores"
    nodes = list(graph.graph.node)
    nodes[-1:-1] = [
        helper.make_node("MatMul", ["flat", "ballast"], ["loads"]),
        helper.make_node("ReduceMax", ["loads"], ["load"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["load", "zero"], ["nothing"]),
        helper.make_node("Add", ["bare_scores", "nothing"], ["scores"]),
    ]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    spec = make_spec(self_test=measure_self_test(graph, SHAPE))
    path = write_model_file(graph, spec, folder / f".new-{version}")
    path.parent.rename(folder / str(version))
    return folder / str(version) / "model.onnx"


class Load:
    """Callers that never pause, in a thread: how many answers came of each version, and what was wrong."""

    def __init__(self, address: str, image: bytes) -> None:
        self.versions: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._address = address
        self._request = pb.ClassifyRequest(model="bands", image=image)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._call_all()))
        self._thread.start()

    def stop(self) -> None:
        """End all calls."""
        self._stop.set()
        self._thread.join(30)

    async def _call_all(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(self._address, options=options))
                for _ in range(CHANNELS)
            ]
            stubs = [ClassifierServiceStub(channel) for channel in channels]
            await asyncio.gather(*(self._call(stubs[number % CHANNELS]) for number in range(CALLERS)))

    async def _call(self, stub: ClassifierServiceStub) -> None:
        while not self._stop.is_set():
            try:
                reply = await stub.Classify(self._request, timeout=10)
            except grpc.aio.AioRpcError as error:
                self.wrong.append(f"{error.code().name}: {error.details()}")
                continue
            version, found = int(reply.version), reply.classification.classes[0].probability
            self.versions[version] += 1
            if abs(found - expect(version)) > 1e-4:
                self.wrong.append(f"version {version} gave {found}, not {expect(version)}")


@contextmanager
def calls_to(running: Supervised, image: bytes) -> Iterator[Load]:
    load = Load(running.address, image)
    try:
        yield load
    finally:
        load.stop()


def wait_until_followed(running: Supervised, count: int) -> None:
    """Until every worker has followed so many decisions."""
    running.wait_for("every worker follows", count)


def measure_quiet_memory(running: Supervised, image: bytes) -> list[int]:
    """Resident bytes of the workers once a burst of calls is over and its memory returned, smallest of several."""
    with calls_to(running, image):
        time.sleep(2)
    looks = []
    for _ in range(10):
        time.sleep(0.5)
        looks.append([resident_bytes(pid) for pid in running.worker_pids()])
    return [min(each) for each in zip(*looks, strict=True)]


@pytest.mark.slow
def test_ten_versions_one_after_the_other_cost_no_call_and_no_memory(tmp_path: Path, png: Png) -> None:
    """With a version that is broken in between, and others removed."""
    folder, image = tmp_path / "models/bands", png(0)
    folder.mkdir(parents=True)
    write_model(folder, 1)
    with supervised(folder.parent, flags=POLLED) as running:
        before = measure_quiet_memory(running, image)
        with calls_to(running, image) as load:
            for swap in range(1, SWAPS + 1):
                write_model(folder, swap + 1)
                shutil.rmtree(folder / str(swap - 1), ignore_errors=True)
                wait_until_followed(running, swap)
            (folder / "90").mkdir()
            (folder / "90/model.onnx").write_bytes(b"broken")
            running.wait_for("refused bands version 90", 2)
            served = load.versions.total()
            while load.versions.total() < served + 500:
                time.sleep(0.1)
        after = measure_quiet_memory(running, image)
        running.process.terminate()
        assert running.process.wait(20) == 0
    assert not load.wrong
    assert set(load.versions) == set(range(1, SWAPS + 2))
    assert load.versions.total() > 3000
    assert all(new <= 1.1 * old for old, new in zip(before, after, strict=True)), (before, after)


@pytest.mark.slow
def test_ten_loads_on_request_cost_no_call_and_an_unload_is_of_all_workers(tmp_path: Path, png: Png) -> None:
    """Asked for over connections of their own, which lead to either worker by chance."""
    folder = tmp_path / "models/bands"
    folder.mkdir(parents=True)
    write_model(folder, 1)

    def ask(address: str, method: str, request: object) -> None:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            getattr(open_inference_pb2_grpc.GRPCInferenceServiceStub(channel), method)(request, timeout=20)

    load_request = open_inference_pb2.RepositoryModelLoadRequest(model_name="bands")
    unload_request = open_inference_pb2.RepositoryModelUnloadRequest(model_name="bands")
    with supervised(folder.parent, flags=("--model-control", "explicit")) as running:
        with calls_to(running, png(0)) as load:
            for version in range(2, SWAPS + 2):
                write_model(folder, version)
                if version == SWAPS:
                    write_broken(folder / "90")
                    with pytest.raises(grpc.RpcError, match="bands: version 90: the file lacks the metadata key"):
                        ask(running.address, "RepositoryModelLoad", load_request)
                    shutil.rmtree(folder / "90")
                ask(running.address, "RepositoryModelLoad", load_request)
                served, ends_s = load.versions[version], time.monotonic() + 20
                while load.versions[version] < served + 200 and time.monotonic() < ends_s:
                    time.sleep(0.05)
        ask(running.address, "RepositoryModelUnload", unload_request)
        with calls_to(running, png(0)) as late:
            time.sleep(0.5)
    assert not load.wrong
    assert set(load.versions) == set(range(1, SWAPS + 2))
    assert (late.versions.total(), {text.partition(":")[0] for text in late.wrong}) == (0, {"NOT_FOUND"})


def mount(volume: Path, version: int, write: Callable[[Path], object]) -> None:
    """Change a volume as the kubelet does: a new folder, a link that is replaced, the old folder removed."""
    new = volume / f"..2026_11_30_{version}"
    (new / "bands").mkdir(parents=True)
    write(new / "bands")
    old = (volume / "..data").resolve() if (volume / "..data").exists() else None
    (volume / "..data_tmp").symlink_to(new.name)
    (volume / "..data_tmp").rename(volume / "..data")
    if not (volume / "bands").is_symlink():
        (volume / "bands").symlink_to("..data/bands")
    if old:
        shutil.rmtree(old)


@pytest.mark.slow
def test_ten_swaps_of_a_volume_of_kubernetes_cost_no_call(tmp_path: Path, png: Png) -> None:
    """Each takes the old version away; a broken one in between leaves the old one to those who call."""
    mount(tmp_path, 1, lambda folder: write_model(folder, 1))
    with supervised(tmp_path, flags=POLLED) as running, calls_to(running, png(0)) as load:
        for swap in range(1, SWAPS + 1):
            mount(tmp_path, swap + 1, lambda folder, version=swap + 1: write_model(folder, version))  # type: ignore[misc]
            wait_until_followed(running, swap)
        mount(tmp_path, 90, lambda folder: write_broken(folder / "90"))
        running.wait_for("refused bands version 90", 2)
        served = load.versions[SWAPS + 1]
        while load.versions[SWAPS + 1] < served + 500 and not load.wrong:
            time.sleep(0.1)
    assert not load.wrong
    assert set(load.versions) == set(range(1, SWAPS + 2))
    assert load.versions.total() > 3000


def write_broken(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"broken")


@pytest.mark.slow
def test_a_worker_that_takes_the_place_of_a_killed_one_serves_the_present_version(tmp_path: Path, png: Png) -> None:
    folder = tmp_path / "models/bands"
    folder.mkdir(parents=True)
    write_model(folder, 1)
    with supervised(folder.parent, flags=POLLED) as running:
        first, _ = running.worker_pids()
        write_model(folder, 2)
        wait_until_followed(running, 1)
        os.kill(first, 9)
        running.wait_for("is ready", 3)
        with calls_to(running, png(0)) as load:
            time.sleep(1)
        names = [re.sub(r"^\S+ \S+ ", "", line) for line in running.lines if " ERROR " in line]
        assert len(names) == 1, names
    assert (load.wrong, set(load.versions)) == ([], {2})
