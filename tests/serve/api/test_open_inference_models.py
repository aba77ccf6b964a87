"""serve.api.open_inference: what it says of the server and its models, over a real connection."""

import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serve.api.open_inference.service import SERVICE
from serve.client.client import Client
from serve.pb import open_inference_pb2 as pb
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.serve.api.messages import make_files, make_pixels, pack
from tests.support import GREY, LABELS, Png, RunningServer


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
