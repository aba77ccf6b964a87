"""What operators and clients are told of bad files: the log, the metric, the index, ListModels, and the command."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from serve.client.client import Client
from serve.client.commands.models import main
from serve.pb import open_inference_pb2 as pb
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.serve.telemetry.running import Running, find, running
from tests.served import wait_until
from tests.support import Png, write_tiny_model

LOADS = "inkling_model_loads_total"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with version 1 of `bands`, and a model file in a wrong place."""
    path = write_tiny_model(tmp_path / "models/bands", 1)
    shutil.copy(path, tmp_path / "models/model.onnx")
    return tmp_path / "models"


@pytest.fixture
def server(folder: Path) -> Iterator[Running]:
    """A server of two workers that polls that folder."""
    with running(folder, "--workers", "2", "--model-control", "poll", "--poll-s", "1") as server:
        assert server.address
        yield server


def test_a_model_file_in_a_wrong_place_is_named_in_the_log_once(server: Running, folder: Path) -> None:
    server.wait_for("serving bands")
    named = [line for line in server.lines if str(folder / "model.onnx") in line]
    assert len(named) == 1, server.lines
    assert " WARNING " in named[0]


def test_a_broken_version_is_told_of_everywhere_and_the_old_one_goes_on(
    server: Running, folder: Path, png: Png
) -> None:
    (folder / "bands/2").mkdir()
    (folder / "bands/2/model.onnx").write_bytes(b"broken")
    server.wait_for(r"ERROR .*refused bands version 2: the file lacks the metadata key", 2)
    samples = server.scrape_until(lambda samples: find(samples, LOADS, result="refused") == 2)
    assert find(samples, LOADS, model="bands", result="refused") == 2, "one in each worker"
    assert find(samples, LOADS, model="bands", result="loaded") == 2
    with grpc.insecure_channel(server.address) as channel, Client(server.address) as client:
        stub = GRPCInferenceServiceStub(channel)
        assert wait_until(lambda: len(client.list_models().refused_models) == 1)
        (refused,) = client.list_models().refused_models
        assert wait_until(lambda: len(stub.RepositoryIndex(pb.RepositoryIndexRequest()).models) == 2)
        states = {each.version: each for each in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models}
        assert client.classify(png(1), model="bands").version == "1"
    assert (refused.name, refused.version) == ("bands", "2")
    assert {version: each.state for version, each in states.items()} == {"1": "READY", "2": "UNAVAILABLE"}
    assert states["2"].reason == refused.reason
    assert "lacks the metadata key" in refused.reason
    assert str(folder) not in refused.reason


def test_the_command_unloads_and_loads_the_models_of_a_server(
    folder: Path, capsys: pytest.CaptureFixture[str], png: Png
) -> None:
    with running(folder, "--workers", "2", "--model-control", "explicit") as server:
        address = ["--address", server.address]
        assert main(["unload", "bands", *address]) == 0
        assert main(["list", *address]) == 0
        assert main(["unload", "bands", *address]) == 1
        assert main(["load", "bands", *address]) == 0
        with Client(server.address) as client:
            assert client.classify(png(1), model="bands").version == "1"
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["unloaded", "MODEL", "loaded"]
    assert "NOT_FOUND: wanted one of the models" in err
