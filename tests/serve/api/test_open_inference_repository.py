"""serve.api.open_inference: its index of models, and its requests to load and unload one."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from serve.api.open_inference.service import OpenInferenceService
from serve.inference.registry import Registry
from serve.pb import open_inference_pb2 as pb
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serve.telemetry.calls import Call
from serve.telemetry.counts import Tally
from serve.telemetry.model_statistics import ModelStatistics, read_statistics
from tests.support import RunningServer, write_tiny_model


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
