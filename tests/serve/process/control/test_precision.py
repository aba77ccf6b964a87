"""`--precision auto`: int8 where the processor is faster with it and the file keeps the accuracy; replies name it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serve.client.client import Client
from serve.config import ServerConfig
from serve.machine.instructions import find_fast_precision
from serve.process.control.precision import make_repository
from tests.support import Png, RunningServer, write_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`bands`, whose int8 file is as accurate to 0.1 points, and `hoops`, whose int8 file is not."""
    for name, accuracy in (("bands", 0.989), ("hoops", 0.9889)):
        for precision, stated in (("int8", accuracy), ("float32", 0.99)):
            path = write_tiny_model(
                tmp_path / name,
                name=name,
                precision=precision,
                test_accuracy=stated,
                gain=5 if precision == "int8" else 10,
            )
            if precision == "int8":
                path.rename(path.with_name("model.int8.onnx"))
    return tmp_path


def test_on_cuda_auto_is_the_plain_file(folder: Path) -> None:
    repository = make_repository(ServerConfig(models=folder, precision="auto"), is_on_cpu=False)
    repository.look_first()
    assert {file.path.name for files in repository.models.values() for file in files} == {"model.onnx"}


def test_a_precision_that_was_asked_for_is_taken_whatever_its_accuracy(folder: Path) -> None:
    repository = make_repository(ServerConfig(models=folder, precision="int8"), is_on_cpu=True)
    repository.look_first()
    assert {files[0].path.name for files in repository.models.values()} == {"model.int8.onnx"}


def test_auto_is_the_default() -> None:
    assert ServerConfig().precision == "auto"


def test_replies_name_the_precision_that_ran(
    folder: Path, png: Png, start_server: Callable[..., RunningServer]
) -> None:
    server = start_server(folder, precision="auto")
    with Client(server.address) as client:
        found = {name: client.classify(png(), model=name).precision for name in ("bands", "hoops")}
    assert found == {"bands": find_fast_precision(), "hoops": "float32"}
