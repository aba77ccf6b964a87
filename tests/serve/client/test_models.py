"""`inkling models`: what a server has, as a table and as JSON; and the calls that change it, byte for byte."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from serve.client.commands.models import main
from serve.pb import open_inference_pb2 as pb
from serve.pb import open_inference_pb2_grpc
from tests.support import RunningServer, write_tiny_model

Captured = pytest.CaptureFixture[str]


class Repository(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """A server that notes what it is asked to load and unload."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self._server = grpc.server(ThreadPoolExecutor(1))
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        """Note a load. One model is not there."""
        self.requests.append(request)
        if request.model_name == "none":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return pb.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request: Any, _: Any) -> Any:  # noqa: N802  # the RPC's name
        """Note an unload."""
        self.requests.append(request)
        return pb.RepositoryModelUnloadResponse()

    def stop(self) -> None:
        """Stop at once."""
        self._server.stop(None).wait()


@pytest.fixture
def repository() -> Iterator[Repository]:
    running = Repository()
    yield running
    running.stop()


def test_the_models_are_listed_with_the_refused_files(
    start_server: Callable[..., RunningServer], tmp_path: Path, capsys: Captured
) -> None:
    write_tiny_model(tmp_path / "bands")
    broken = tmp_path / "broken" / "1" / "model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"nothing")
    server = start_server(tmp_path)
    assert main(["list", "--address", server.address]) == 0
    head, row, refused = capsys.readouterr().out.splitlines()
    assert head.split() == ["MODEL", "VERSION", "PRECISION", "DEVICE", "INPUT", "ACCURACY"]
    assert row.split() == ["bands", "1", "float32", "cpu", "12x12x3", "0.5000"]
    assert refused.startswith("refused  broken/1  ")
    assert main(["list", "--json", "--address", server.address]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in facts["models"]] == ["bands"]
    assert [each["name"] for each in facts["refused_models"]] == ["broken"]


def test_a_model_is_described(server: RunningServer, capsys: Captured) -> None:
    assert main(["show", "bands", "--version", "1", "--address", server.address]) == 0
    out = capsys.readouterr().out
    assert "bands, version 1" in out
    assert "12x12x3, rgb, prepared by photo/1" in out
    assert "верх, середина, низ" in out
    assert main(["show", "bands", "--json", "--address", server.address]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == "2"


def test_a_model_that_is_not_there_is_a_sentence(server: RunningServer, capsys: Captured) -> None:
    assert main(["show", "none", "--json", "--address", server.address]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["reason"] == "MODEL_NOT_FOUND"
    assert err.startswith(f"serve.client.commands.models: {server.address}: NOT_FOUND: ")


@pytest.mark.parametrize("name", ["bands", "модель", "n" * 127, "n" * 128, "n" * 20_000])
def test_load_and_unload_send_the_models_name(repository: Repository, name: str, capsys: Captured) -> None:
    for action in ("load", "unload"):
        assert main([action, name, "--address", repository.address]) == 0
        assert capsys.readouterr().out == f"{action}ed {name}\n"
    assert repository.requests == [
        pb.RepositoryModelLoadRequest(model_name=name),
        pb.RepositoryModelUnloadRequest(model_name=name),
    ]


def test_a_load_that_fails_is_a_sentence(repository: Repository, capsys: Captured) -> None:
    assert main(["load", "none", "--address", repository.address]) == 1
    assert capsys.readouterr().err.endswith("NOT_FOUND: no such model\n")


@pytest.mark.parametrize("action", ["load", "unload"])
def test_a_server_that_loads_nothing_on_request_says_so(server: RunningServer, action: str, capsys: Captured) -> None:
    assert main([action, "bands", "--json", "--address", server.address]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["reason"] == "MODEL_CONTROL_OFF"
    assert "FAILED_PRECONDITION: " in err


def test_a_dead_server_is_a_sentence(capsys: Captured) -> None:
    for words in (["list"], ["load", "bands"]):
        assert main([*words, "--address", "127.0.0.1:1"]) == 1
        assert "127.0.0.1:1: UNAVAILABLE: " in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["load"], ["list", "extra"], ["list", "--address", "nowhere"]])
def test_bad_usage_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
