"""Fixtures for all tests: a tiny model in a file, a running server, a client of it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve.client.client import Client
from serve.config import ServerConfig
from serve.machine.cores import count_usable_cores
from serve.model_file.spec import PrepareSpec
from tests.support import GREY, Png, RunningServer, encode, write_tiny_model


@pytest.fixture(autouse=True)
def same_weights() -> None:
    """Nets that a test builds start with the same weights, whatever tests ran before."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's file, which tests only read."""
    return write_tiny_model(tmp_path_factory.mktemp("bands"))


@pytest.fixture(scope="session")
def repository_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bands` (rgb, versions 1 and 2) and `grey-bands` (grey, version 1)."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "bands", 1)
    write_tiny_model(folder / "bands", 2)
    write_tiny_model(
        folder / "grey-bands",
        name="grey-bands",
        input=GREY,
        prepare=PrepareSpec("digit", 1, {"box": 8}),
        parameters=432,
    )
    return folder


@pytest.fixture(scope="session")
def png() -> Png:
    """A function that makes an image file with one bright band (0, 1 or 2)."""

    def make(band: int = 0, size: tuple[int, int] = (12, 12), mode: str = "RGB", format_name: str = "PNG") -> bytes:
        width, height = size
        pixels = np.zeros((height, width), np.uint8)
        pixels[band * height // 3 : (band + 1) * height // 3] = 255
        return encode(Image.fromarray(pixels).convert(mode), format_name)

    return make


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., RunningServer]]:
    """A function that starts a server with the given settings. All are stopped at the end."""
    running = []

    def start(models: Path, **settings: object) -> RunningServer:
        defaults = {"port": 0, "device": "cpu", "workers": 1, "version_policy": "all"}
        server = RunningServer(ServerConfig(models=models, **defaults | settings))  # type: ignore[arg-type]
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="session", params=[1, count_usable_cores()], ids=["all cores", "one core"])
def server(start_server: Callable[..., RunningServer], repository_folder: Path, request: Any) -> RunningServer:
    """A server with the tiny models: as the only worker of the machine, and as one of several."""
    return start_server(repository_folder, workers=request.param)


@pytest.fixture(scope="session")
def client(server: RunningServer) -> Iterator[Client]:
    """A client of that server."""
    with Client(server.address) as client:
        yield client
