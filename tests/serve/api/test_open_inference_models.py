"""serve.api.open_inference: what it says of the server, its models and their repository, over a real connection."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serve.api.open_inference.service import SERVICE, OpenInferenceService
from serve.client.client import Client
from serve.inference.registry import Registry
from serve.pb import open_inference_pb2 as pb
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serve.telemetry.calls import Call
from serve.telemetry.counts import Tally
from serve.telemetry.model_statistics import ModelStatistics, read_statistics
from tests.serve.api.malformed import make_files, make_pixels, pack
from tests.support import GREY, LABELS, Png, RunningServer, write_tiny_model


@pytest.fixture(scope="module")
def stub(server: RunningServer) -> Iterator[GRPCInferenceServiceStub]:
    """The protocol's methods on the server with the tiny models."""
    with grpc.insecure_channel(server.address) as channel:
        yield GRPCInferenceServiceStub(channel)


def test_the_server_and_its_models_say_that_they_are_ready(stub: GRPCInferenceServiceStub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    for name, version, ready in [
        ("bands", "", True),
        ("bands", "1", True),
        ("bands", "3", False),
        ("nobody", "", False),
        ("", "", False),
    ]:
        assert stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready is ready


def test_the_server_names_itself_and_its_extensions(stub: GRPCInferenceServiceStub) -> None:
    metadata = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert metadata.name == "inkling"
    assert metadata.version
    assert {"classification", "model_configuration", "statistics"} <= set(metadata.extensions)


def test_the_metadata_name_a_tensor_and_the_properties_the_rest(stub: GRPCInferenceServiceStub) -> None:
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="bands"))
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("bands", ["1", "2"], "onnxruntime_onnx")
    (taken,), (given,) = metadata.inputs, metadata.outputs
    assert (taken.name, taken.datatype, list(taken.shape)) == ("images", "UINT8", [-1, 12, 12, 3])
    assert (given.name, given.datatype, list(given.shape)) == ("probabilities", "FP32", [-1, 3])
    properties = metadata.properties
    assert {code: tuple(texts) for code, texts in json.loads(properties["labels"]).items()} == LABELS
    assert "BYTES" in properties["images"]
    assert (properties["policy"], properties["accuracy"]) == ("photo/1", "0.5000")
    assert list(stub.ModelMetadata(pb.ModelMetadataRequest(name="bands", version="1")).versions) == ["1"]


def test_the_configuration_is_that_of_triton(stub: GRPCInferenceServiceStub) -> None:
    config = stub.ModelConfig(pb.ModelConfigRequest(name="grey-bands")).config
    assert (config.name, config.platform, config.backend) == ("grey-bands", "onnxruntime_onnx", "onnxruntime")
    assert config.max_batch_size == 256
    (taken,), (given,) = config.input, config.output
    assert (taken.name, taken.data_type, list(taken.dims)) == ("images", pb.TYPE_UINT8, list(GREY.shape))
    assert taken.format == pb.ModelInput.FORMAT_NHWC
    assert (given.name, given.data_type, list(given.dims)) == ("probabilities", pb.TYPE_FP32, [3])
    assert list(config.dynamic_batching.preferred_batch_size) == [32]


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("bands", "9")])
def test_an_unknown_model_is_not_found(stub: GRPCInferenceServiceStub, method: str, name: str, version: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(getattr(pb, f"{method}Request")(name=name, version=version))
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert "wanted one of" in error.details()


def test_the_limit_of_images_is_the_servers(
    start_server: Callable[..., RunningServer], repository_folder: Path
) -> None:
    server = start_server(repository_folder, max_request_images=2, max_queue_delay_us=50)
    with grpc.insecure_channel(server.address) as channel:
        few = GRPCInferenceServiceStub(channel)
        config = few.ModelConfig(pb.ModelConfigRequest(name="bands")).config
        assert config.max_batch_size == 2
        assert config.dynamic_batching.max_queue_delay_microseconds == 50
        assert list(few.ModelInfer(make_pixels(count=2)).outputs[0].shape) == [2, 3]
        with pytest.raises(grpc.RpcError, match="wanted 1 to 2 images, got 3"):
            few.ModelInfer(make_pixels(count=3))


def ask_statistics(stub: GRPCInferenceServiceStub, name: str, version: str = "") -> dict[str, pb.ModelStatistics]:
    """The statistics of a model's versions."""
    found = stub.ModelStatistics(pb.ModelStatisticsRequest(name=name, version=version)).model_stats
    return {each.version: each for each in found}


def test_a_call_is_counted_in_images_before_its_answer_leaves(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """Of either protocol. A call with a bad image has failed; its other image was run."""
    server = start_server(repository_folder, workers=4)
    with grpc.insecure_channel(server.address) as channel, Client(server.address) as client:
        stub = GRPCInferenceServiceStub(channel)
        assert {version: each.inference_count for version, each in ask_statistics(stub, "bands").items()} == {
            "1": 0,
            "2": 0,
        }
        for count in range(1, 20):
            stub.ModelInfer(make_pixels(count=3))
            assert ask_statistics(stub, "bands", "2")["2"].inference_count == 3 * count
        client.classify(png(0), model="bands")
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(make_files(pack(png(0), b"text"), 2))
        found = ask_statistics(stub, "bands", "2")["2"]
        assert found.inference_count == 3 * 19 + 2
        assert found.execution_count == 19 + 2
        assert found.inference_stats.success.count == found.inference_stats.queue.count == 3 * 19 + 2
        assert found.inference_stats.fail.count == 1
        assert {each.batch_size: each.compute_infer.count for each in found.batch_stats} == {1: 2, 3: 19}
        times = found.inference_stats
        assert 0 < times.compute_infer.ns <= times.success.ns
        assert found.last_inference > 1_700_000_000_000
        assert ask_statistics(stub, "bands", "1")["1"].inference_count == 0


def test_statistics_without_a_name_are_those_of_every_model(stub: GRPCInferenceServiceStub) -> None:
    found = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    assert {(each.name, each.version) for each in found} == {("bands", "1"), ("bands", "2"), ("grey-bands", "1")}
    with pytest.raises(grpc.RpcError, match="wanted a model's name"):
        stub.ModelStatistics(pb.ModelStatisticsRequest(version="1"))


def test_the_index_lists_what_is_served_and_what_was_refused(
    start_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "bands", 1)
    damaged = write_tiny_model(tmp_path / "bands", 2)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    variant = write_tiny_model(tmp_path / "other", 1).with_name("model.int8.onnx")
    variant.write_bytes(b"no model")
    with grpc.insecure_channel(start_server(tmp_path, precision="int8").address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        index = {(each.name, each.version): each for each in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models}
        ready = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
    assert {place: each.state for place, each in index.items()} == {
        ("bands", "1"): "READY",
        ("bands", "2"): "UNAVAILABLE",
        ("other", "1"): "READY",
    }
    assert not index["bands", "1"].reason
    assert "sha256" in index["bands", "2"].reason
    assert "model.int8.onnx" in index["other", "1"].reason
    assert [(each.name, each.version) for each in ready] == [("bands", "1"), ("other", "1")]


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_a_server_that_loads_nothing_on_request_says_so(stub: GRPCInferenceServiceStub, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(getattr(pb, f"{method}Request")(model_name="bands"))
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "ed with --model-control explicit" in error.details()
    assert b"MODEL_CONTROL_OFF" in dict(error.trailing_metadata())["grpc-status-details-bin"]


@pytest.mark.parametrize(
    ("method", "request_", "sentence"),
    [
        ("RepositoryIndex", pb.RepositoryIndexRequest(repository_name="other"), "no repository_name.*'other'"),
        (
            "RepositoryModelLoad",
            pb.RepositoryModelLoadRequest(
                model_name="bands", parameters={"config": pb.ModelRepositoryParameter(string_param="{}")}
            ),
            "wanted no parameter, .* got 'config'",
        ),
        (
            "RepositoryModelUnload",
            pb.RepositoryModelUnloadRequest(
                model_name="bands", parameters={"force": pb.ModelRepositoryParameter(bool_param=True)}
            ),
            "no parameter but unload_dependents, .* got 'force'",
        ),
    ],
    ids=["index", "load", "unload"],
)
def test_requests_to_the_repository_are_checked(
    stub: GRPCInferenceServiceStub, method: str, request_: object, sentence: str
) -> None:
    with pytest.raises(grpc.RpcError, match=sentence) as caught:
        getattr(stub, method)(request_)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


class NotedControl:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def load(self, name: str) -> None:
        """Note it."""
        self.asked.append(("load", name))

    async def unload(self, name: str) -> None:
        """Note it."""
        self.asked.append(("unload", name))


async def find_no_statistics(name: str, version: str) -> ModelStatistics:
    return read_statistics(Tally(), name, version)


def test_a_control_gets_the_names_of_models_to_load_and_unload() -> None:
    control = NotedControl()
    service = OpenInferenceService(Registry(), 1, statistics=find_no_statistics, control=control)
    unload = pb.RepositoryModelUnloadRequest(
        model_name="b", parameters={"unload_dependents": pb.ModelRepositoryParameter(bool_param=True)}
    )

    async def main() -> None:
        await service.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="a"), Call())
        await service.RepositoryModelUnload(unload, Call())

    asyncio.run(main())
    assert control.asked == [("load", "a"), ("unload", "b")]


def test_a_server_that_stops_is_live_and_not_ready(
    start_server: Callable[..., RunningServer], repository_folder: Path
) -> None:
    server = start_server(repository_folder, grace_s=2, lame_duck_s=1)
    probes: set[tuple[bool, bool, bool]] = set()
    stopping = threading.Thread(target=server.stop)
    with grpc.insecure_channel(server.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest()).ready
        stopping.start()
        while stopping.is_alive():
            with contextlib.suppress(grpc.RpcError):
                ready = stub.ServerReady(pb.ServerReadyRequest()).ready
                model_ready = stub.ModelReady(pb.ModelReadyRequest(name="bands")).ready
                probes.add((stub.ServerLive(pb.ServerLiveRequest()).live, ready, model_ready))
    assert (True, False, False) in probes


def test_health_and_reflection_know_the_service(server: RunningServer) -> None:
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE.full_name)
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE.full_name))
        reply = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request])))
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    (file,) = reply.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(file).service[0].name == "GRPCInferenceService"
