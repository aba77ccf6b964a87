"""Odd model files on a real server: each costs nobody but itself, and tells callers nothing of the machine."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.client.client import Client
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb
from tests.serve.hostile.model_files import nan_for_white, nested, odd_files, put, reads, white_image, whole, with_fact
from tests.served import Served, served
from tests.support import ROOT, Png, write_tiny_model

ODD = odd_files()
ODD_NAMES = ["two\nlines\x1b[31m", os.fsdecode(b"not-utf8-\xff")]
SECRET = b"root:x:0:0:root:/root:/bin/bash\n" * 1000


@pytest.fixture(scope="module")
def running(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a good model among all odd files, with a working directory that holds what some refer to."""
    models, work = tmp_path_factory.mktemp("odd"), tmp_path_factory.mktemp("work")
    (models / "bands").symlink_to(repository_folder / "bands")
    for name, data in ODD.items():
        put(models, name, data)
    put(models, "nan", nan_for_white())
    (models / "dangling/1").mkdir(parents=True)
    (models / "dangling/1/model.onnx").symlink_to("/nowhere/model.onnx")
    (models / "pipe/1").mkdir(parents=True)
    os.mkfifo(models / "pipe/1/model.onnx")
    (models / "folder/1/model.onnx").mkdir(parents=True)
    (models / "device/1").mkdir(parents=True)
    (models / "device/1/model.onnx").symlink_to("/dev/zero")
    for name in ODD_NAMES:
        put(models, name, whole())
    (work / "etc").mkdir()
    for place in ("passwd", "etc/passwd"):
        (work / place).write_bytes(SECRET)
    with served(models, folder=work) as server:
        yield server


@pytest.fixture(scope="module")
def models(running: Served) -> pb.ListModelsResponse:
    """What it tells of its models."""
    with Client(running.address) as client:
        return client.list_models()


def test_good_models_are_served_among_odd_files(running: Served, models: pb.ListModelsResponse, png: Png) -> None:
    assert {model.name for model in models.models} == {"bands", "nan"}
    with Client(running.address) as client:
        assert client.classify(png(1), model="bands").best.label == "middle"
        client.wait_until_ready(5)


@pytest.mark.parametrize("name", [*ODD, "pipe", "folder", "device"])
def test_an_odd_file_is_refused_with_a_reason(models: pb.ListModelsResponse, name: str) -> None:
    (reason,) = [refused.reason for refused in models.refused_models if refused.name == name]
    assert 10 < len(reason) < 500
    assert reason.isprintable()


def test_a_folder_whose_name_is_no_text_is_refused(models: pb.ListModelsResponse) -> None:
    """Its name would be in logs, labels of metrics and lists."""
    reasons = {refused.name: refused.reason for refused in models.refused_models}
    for name in (r"two\nlines\x1b[31m", r"not-utf8-\udcff"):
        assert reasons[name] == "wanted a folder whose name is printable text"


def test_no_reason_tells_a_path_or_a_source_file(running: Served, models: pb.ListModelsResponse) -> None:
    text = "\n".join(refused.reason for refused in models.refused_models)
    for told in (str(ROOT), "/tmp", "passwd", "onnxruntime/", ".cc", ".h:", "Users", "Traceback"):  # noqa: S108
        assert told not in text


def test_the_log_names_each_refused_file_on_one_line(running: Served, models: pb.ListModelsResponse) -> None:
    for refused in models.refused_models:
        name = re.escape(refused.name)
        assert len(running.find(rf"refused {name} version 1: .+/{name}/1/model\.onnx\)$")) == 1
    assert all(line.rstrip("\n").isprintable() for line in running.lines)
    assert all(line[:4].isdigit() for line in running.lines)


def test_what_cannot_be_read_is_named_in_the_log(running: Served) -> None:
    assert running.find(r"dangling/1/model\.onnx")


def test_an_answer_that_is_not_finite_is_internal_and_logged(running: Served, png: Png) -> None:
    with Client(running.address) as client:
        with pytest.raises(CallError) as caught:
            client.classify(white_image(), model="nan")
        assert (caught.value.code, caught.value.reason) == ("INTERNAL", "INTERNAL")
        (good, bad) = client.classify_many([png(0, mode="L"), white_image()], model="nan")
        assert isinstance(bad, CallError)
    assert running.find("nan gave probabilities that are not finite")
    assert isinstance(good, CallError) or good.best.probability > 0


@pytest.mark.parametrize("place", ["passwd", "etc/passwd", "../passwd", "/etc/passwd"])
@pytest.mark.parametrize("inside", [False, True])
def test_weights_of_another_file_are_never_read(tmp_path: Path, place: str, inside: bool) -> None:
    """Beside the model, below the working directory, or anywhere."""
    put(tmp_path, "external", reads(place, inside))
    (tmp_path / "passwd").write_bytes(SECRET)
    (tmp_path / "external/1/passwd").write_bytes(SECRET)
    write_tiny_model(tmp_path / "bands")
    with served(tmp_path, folder=tmp_path) as server, Client(server.address) as client:
        (refused,) = client.list_models().refused_models
    assert refused.reason == "wanted all weights in the one file, the graph refers to another"


def test_a_recipe_of_any_depth_is_listed_or_refused(tmp_path: Path) -> None:
    """What is served can be read by every client: a list is one message deeper than a model."""
    for depth in range(20, 40):
        put(tmp_path, f"deep-{depth}", with_fact("recipe", nested(depth)))
    with served(tmp_path) as server, Client(server.address) as client:
        listed = client.list_models()
        served_names = {model.name for model in listed.models}
        for name in served_names:
            assert client.get_model(name).name == name
    assert "deep-20" in served_names
    assert len(served_names) + len(listed.refused_models) == 20


def test_a_file_of_another_models_name_is_served_and_warned_of(tmp_path: Path) -> None:
    put(tmp_path, "renamed", whole())
    with served(tmp_path) as server, Client(server.address) as client:
        assert client.get_model("renamed").name == "renamed"
        server.wait_for(r"WARNING .*is served as renamed, and calls itself bands")


def test_a_description_too_large_for_clients_is_refused(tmp_path: Path) -> None:
    """Clients of gRPC take four megabytes, and one file would spoil the list of all."""
    write_tiny_model(tmp_path / "bands")
    put(tmp_path, "wordy", with_fact("dataset", '"' + "x" * 5_000_000 + '"'))
    with served(tmp_path) as server, Client(server.address) as client:
        listed = client.list_models()
        assert [model.name for model in listed.models] == ["bands"]
        assert listed.ByteSize() < 100_000
