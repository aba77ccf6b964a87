"""Shared by the tests: a tiny real model in a real file, a real server on a free port, image files, an interruption.

The model can be checked by hand: it answers the softmax of the mean brightness of each third of the rows.
"""

import asyncio
import io
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from serve.config import ServerConfig
from serve.images.decode import decode
from serve.model_file.familiarity import FAMILIARITY, FamiliaritySpec, StrangerFigures
from serve.model_file.spec import InputSpec, ModelSpec, PrepareSpec, SelfTest
from serve.process.server import Server
from serve.telemetry.model_statistics import ModelStatistics, read_statistics
from train.export.onnx_file import measure_self_test, write_model_file

ROOT = Path(__file__).parents[1]
"""The repository."""

LABELS = {"en": ("top", "middle", "bottom"), "ru": ("верх", "середина", "низ")}
GREY = InputSpec((12, 12, 1), "uint8", "grey")
SHAPE = (12, 12, 3)
RGB = InputSpec(SHAPE, "uint8", "rgb")
Png = Callable[..., bytes]


def draw_images(count: int) -> npt.NDArray[np.uint8]:
    """Noise, uint8 [count, 12, 12, 3]."""
    return np.random.default_rng(count).integers(0, 256, (count, *SHAPE), np.uint8)


def encode(image: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file, lossless if the format can be."""
    if format_name == "WEBP":
        options = {"lossless": True, **options}
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def reopen(image: Image.Image, format_name: str = "PNG", **options: object) -> Image.Image:
    """An image as the server decodes it from a file."""
    return decode(encode(image, format_name, **options), 1_000_000)


def make_graph(shape: tuple[int, int, int], gain: float = 10) -> onnx.ModelProto:
    """A graph from images uint8 [N, H, W, C] to probabilities float32 [N, 3] by the brightness of three bands.

    The score of a white band is `gain`, that of a black one 0.
    """
    height, width, channels = shape
    weights = np.zeros((height * width * channels, 3), np.float32)
    for band in range(3):
        rows = np.zeros(shape, np.float32)
        rows[band * height // 3 : (band + 1) * height // 3] = gain * 3 / (255 * height * width * channels)
        weights[:, band] = rows.ravel()
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "bands",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *shape])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def make_spec(**changes: object) -> ModelSpec:
    """The metadata of the tiny model, with a placeholder for the self-test."""
    spec = ModelSpec(
        name="bands",
        dataset="none",
        labels=LABELS,
        input=RGB,
        prepare=PrepareSpec("photo", 1, {}),
        precision="float32",
        test_accuracy=0.5,
        test_count=2,
        recipe={"epochs": 1},
        parameters=1296,
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        source_commit="0" * 40,
        versions={"onnx": onnx.__version__},
        self_test=SelfTest(0, ((0.5, 0.25, 0.25),), 1e-3),
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


FAMILIAR = FamiliaritySpec("brightness", 100, 0.01, 0.02, {"dark pages": StrangerFigures(0.9, 0.5)})


def add_brightness(graph: onnx.ModelProto, scale: float = 1) -> onnx.ModelProto:
    """The graph of `make_graph` with the output `familiarity`: the mean brightness from 0 to 1, times `scale`."""
    count = len(numpy_helper.to_array(graph.graph.initializer[0]))
    mean = np.full((count, 1), scale / (255 * count), np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(mean, "mean"))
    graph.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "flat shape"))
    graph.graph.node.append(helper.make_node("MatMul", ["flat", "mean"], ["brightness"]))
    graph.graph.node.append(helper.make_node("Reshape", ["brightness", "flat shape"], [FAMILIARITY]))
    graph.graph.output.append(helper.make_tensor_value_info(FAMILIARITY, TensorProto.FLOAT, ["N"]))
    return graph


def write_tiny_model(
    folder: Path, version: int = 1, gain: float = 10, brightness: float = 0, **changes: object
) -> Path:
    """Write a tiny model to `folder`/<version>/model.onnx with the code that training uses.

    With `brightness`, it gives a familiarity too: that number times the image's mean brightness.
    """
    spec = make_spec(**changes)
    graph = make_graph(spec.input.shape, gain)
    if brightness:
        graph, spec = add_brightness(graph, brightness), replace(spec, familiarity=FAMILIAR)
    spec = replace(spec, self_test=measure_self_test(graph, spec.input.shape))
    return write_model_file(graph, spec, folder / str(version))


def interrupt(command: list[str], start: str) -> tuple[int, str]:
    """Run a command until it prints a line that begins with `start`, and terminate it. Exit code and stderr."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if line.startswith(start):
            process.terminate()
            break
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


class RunningServer:
    """A server on a free port of the loopback address, with its event loop in a thread."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.wait(30)
        if self._failure:
            raise self._failure

    @property
    def address(self) -> str:
        """The host and port on which it listens."""
        return f"127.0.0.1:{self.server.port}"

    async def ask_statistics(self, name: str, version: str) -> ModelStatistics:
        """What a version of a model did, asked on the server's own event loop."""
        tally = asyncio.run_coroutine_threadsafe(self.server.ask_sums(), self.loop)
        return read_statistics(await asyncio.wrap_future(tally), name, version)

    def stop(self) -> None:
        """Stop cleanly. Further calls do nothing."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            self.server = Server(self._config)
            await self.server.start()
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._started.set()
        await self._stop.wait()
        await self.server.stop()


class Stoppable(Protocol):
    """A server of a test."""

    def stop(self) -> None:
        """End it."""


S = TypeVar("S", bound=Stoppable)


@contextmanager
def starting(make: Callable[..., S]) -> Iterator[Callable[..., S]]:
    """A function that starts what `make` makes. All are stopped at the end."""
    with ExitStack() as stack:

        def start(*arguments: Any, **options: Any) -> S:
            made = make(*arguments, **options)
            stack.callback(made.stop)
            return made

        yield start


class Interrupting(io.StringIO):
    """A stdout at which Ctrl-C comes with a text.

    A signal at any moment may come inside of a callback of the garbage collector, which drops the exception.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def write(self, printed: str) -> int:
        """Keep what is printed before that text. Raises KeyboardInterrupt in its place."""
        if self.text in printed:
            raise KeyboardInterrupt
        return super().write(printed)
