"""`--model-control explicit` by the protocol alone: a server of two workers, loads and unloads beside each other."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import numpy_helper

from serve.pb import open_inference_pb2 as pb
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.serve.process.test_supervisor import Supervised, supervised
from tests.support import SHAPE, Png, make_graph, make_spec, write_tiny_model
from train.export.onnx_file import measure_self_test, write_model_file

BALLAST_BYTES = 100 * 2**20
"""Of weights that nothing uses: reading them, and comparing their digest and their seal, takes a worker a while."""
Index = dict[tuple[str, str], tuple[str, str]]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Supervised]:
    """A server of two workers with version 1 of `bands`, whose folder gets more."""
    write_tiny_model(tmp_path / "models/bands", 1)
    with supervised(tmp_path / "models", flags=("--model-control", "explicit")) as running:
        yield running


@pytest.fixture
def stubs(running: Supervised) -> Iterator[list[GRPCInferenceServiceStub]]:
    """Stubs over connections of their own, which lead to either worker by chance."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(running.address, options=options) for _ in range(8)]
    yield [GRPCInferenceServiceStub(channel) for channel in channels]
    for channel in channels:
        channel.close()


def write_slow_model(folder: Path) -> None:
    """A model whose load takes a while."""
    graph = make_graph(SHAPE)
    ballast = np.zeros(BALLAST_BYTES // 4, np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    write_model_file(graph, make_spec(name="slow", self_test=measure_self_test(graph, SHAPE)), folder / "1")


def read_index(stub: GRPCInferenceServiceStub) -> Index:
    """The state and the reason of each name and version."""
    models = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    return {(each.name, each.version): (each.state, each.reason) for each in models}


def infer(stub: GRPCInferenceServiceStub, model: str, image: bytes) -> Any:
    """The answer of a model."""
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="images", datatype="BYTES", shape=[1]).contents.bytes_contents.append(image)
    return stub.ModelInfer(request, timeout=20)


def load(model: str) -> pb.RepositoryModelLoadRequest:
    return pb.RepositoryModelLoadRequest(model_name=model)


def unload(model: str) -> pb.RepositoryModelUnloadRequest:
    return pb.RepositoryModelUnloadRequest(model_name=model)


@pytest.mark.slow
def test_models_are_loaded_and_unloaded_while_a_load_is_under_way(
    running: Supervised, stubs: list[GRPCInferenceServiceStub], tmp_path: Path, png: Png
) -> None:
    """The others answer meanwhile; what is asked for during the load is done after it, and every worker agrees."""
    first, *others = stubs
    write_slow_model(tmp_path / "models/slow")
    write_tiny_model(tmp_path / "models/hoops", 3, name="hoops")
    loading: Any = first.RepositoryModelLoad.future(load("slow"), timeout=60)  # type: ignore[attr-defined]
    running.wait_for("decision 1 on models: changing slow")
    answered = 0
    following = [stub.RepositoryModelLoad.future(load("hoops"), timeout=60) for stub in others[:2]]  # type: ignore[attr-defined]
    unloading: Any = others[2].RepositoryModelUnload.future(unload("slow"), timeout=60)  # type: ignore[attr-defined]
    while not loading.done():
        assert infer(others[answered % 7], "bands", png(1)).model_version == "1"
        answered += 1
    assert answered > 1
    assert loading.code() is grpc.StatusCode.OK
    assert [each.code() for each in (*following, unloading)] == [grpc.StatusCode.OK] * 3
    for stub in stubs:
        assert read_index(stub) == {
            ("bands", "1"): ("READY", ""),
            ("hoops", "3"): ("READY", ""),
            ("slow", "1"): ("UNAVAILABLE", "unloaded"),
        }
        assert not stub.ModelReady(pb.ModelReadyRequest(name="slow")).ready
        assert infer(stub, "hoops", png(1)).model_version == "3"


def test_an_unloaded_model_is_in_the_index_until_it_is_loaded_again(
    running: Supervised, stubs: list[GRPCInferenceServiceStub], png: Png
) -> None:
    first, *others = stubs
    first.RepositoryModelUnload(unload("bands"), timeout=20)
    for stub in stubs:
        assert read_index(stub) == {("bands", "1"): ("UNAVAILABLE", "unloaded")}
        assert not stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
        with pytest.raises(grpc.RpcError) as caught:
            infer(stub, "bands", png(1))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError, match=r"wanted one of the models .*; got 'bands'"):
        others[0].RepositoryModelUnload(unload("bands"), timeout=20)
    others[0].RepositoryModelLoad(load("bands"), timeout=20)
    for stub in stubs:
        assert read_index(stub) == {("bands", "1"): ("READY", "")}
        assert infer(stub, "bands", png(1)).model_version == "1"


def test_a_worker_that_takes_the_place_of_another_knows_what_was_unloaded(
    running: Supervised, stubs: list[GRPCInferenceServiceStub], tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "models/hoops", 3, name="hoops")
    stubs[0].RepositoryModelLoad(load("hoops"), timeout=20)
    stubs[0].RepositoryModelUnload(unload("bands"), timeout=20)
    for pid in running.worker_pids():
        before = len(running.wait_for("is ready"))
        os.kill(pid, signal.SIGKILL)
        running.wait_for("is ready", before + 1)
    expected = {("bands", "1"): ("UNAVAILABLE", "unloaded"), ("hoops", "3"): ("READY", "")}
    with grpc.insecure_channel(running.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        assert read_index(GRPCInferenceServiceStub(channel)) == expected


def test_versions_that_may_have_been_live_are_listed(tmp_path: Path, png: Png) -> None:
    for version in (1, 2, 3):
        write_tiny_model(tmp_path / "models/bands", version)
    write_tiny_model(tmp_path / "models/hoops", 1, name="hoops")
    flags = ("--model-control", "explicit", "--version-policy", "latest:2")
    with (
        supervised(tmp_path / "models", flags=flags) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        stub.RepositoryModelUnload(unload("bands"), timeout=20)
        index = read_index(stub)
    assert index == {
        ("hoops", "1"): ("READY", ""),
        ("bands", "3"): ("UNAVAILABLE", "unloaded"),
        ("bands", "2"): ("UNAVAILABLE", "unloaded"),
    }
