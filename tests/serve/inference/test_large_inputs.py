"""Nets of large inputs: batches are bounded by memory, and files are prepared beside the event loop."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serve.images.pool import DecodePool
from serve.inference.answer import Answer
from serve.inference.device import Placement
from serve.inference.engine import LARGEST_BATCH_BYTES, load
from serve.inference.runner import Runner, RunnerLimits
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.memory import measure_resident_bytes
from serve.model_file.spec import InputSpec
from tests.support import LABELS, Png, make_graph, make_spec
from train.export.onnx_file import measure_self_test, write_model_file

LIMITS = RunnerLimits(max_pending=64, max_pending_bytes=2**24, max_queue_delay_us=0, max_image_pixels=2**20)
SIDE, WIDTH = 256, 96


def make_wide_graph() -> onnx.ModelProto:
    """Two values of SIDE x SIDE x WIDTH floats at a time, and little arithmetic."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["grey"], axes=[3], keepdims=1),
        helper.make_node("Mul", ["grey", "rates"], ["wide"]),
        helper.make_node("Tanh", ["wide"], ["bent"]),
        helper.make_node("ReduceMean", ["bent"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Slice", ["means", "start", "stop", "axis"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    weights = {
        "rates": np.linspace(0, 0.1, WIDTH, dtype=np.float32),
        "start": np.array([0], np.int64),
        "stop": np.array([3], np.int64),
        "axis": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(graph: onnx.ModelProto, folder: Path, side: int) -> Path:
    shape = (side, side, 3)
    spec = make_spec(input=InputSpec(shape, "uint8", "rgb"), labels=LABELS, self_test=measure_self_test(graph, shape))
    return write_model_file(graph, spec, folder)


@pytest.mark.skipif(not measure_resident_bytes(), reason="needs Linux's /proc to read resident memory")
def test_a_batch_of_a_net_that_takes_much_memory_is_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.inference.engine.LONGEST_RUN_S", 1000.0)  # so that its time bounds nothing
    engine = load(write(make_wide_graph(), tmp_path, SIDE), Placement("cpu", 1, 64, 0))
    engine.warm_up()
    least_bytes = 4 * SIDE * SIDE * WIDTH  # of one value of one image
    assert 1 <= engine.max_batch <= 1.5 * LARGEST_BATCH_BYTES / least_bytes < 64
    images = np.zeros((engine.max_batch, SIDE, SIDE, 3), np.uint8)
    before = measure_resident_bytes()
    engine.run(images)
    assert measure_resident_bytes() - before < 2 * LARGEST_BATCH_BYTES


@pytest.fixture
def decoders() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, "decoder") as executor:
        yield executor


def test_a_small_file_for_a_large_input_is_prepared_by_the_pool(
    tmp_path: Path, decoders: ThreadPoolExecutor, png: Png
) -> None:
    """The file has 12 x 12 pixels; scaling it to 160 x 160 is work that an event loop should not do."""
    engine = load(write(make_graph((160, 160, 3)), tmp_path, 160), Placement("cpu", 1, 8, 0))
    engine.warm_up()
    threads: list[str] = []

    class Watched(ThreadPoolExecutor):
        """Notes in which threads it works."""

        def submit(self, function, /, *arguments, **named):  # type: ignore[no-untyped-def]
            def work():  # type: ignore[no-untyped-def]
                threads.append(threading.current_thread().name)
                return function(*arguments, **named)

            return decoders.submit(work)

    async def ask() -> list[Answer | Exception]:
        pool = DecodePool(Watched(1), 2, 2**22, 2**20)
        runner = Runner("bands", 1, engine, limits=LIMITS, cpu=CpuPolicy(1, 0), pool=pool)
        answers = await runner.classify([png(0), png(2)])
        await runner.close()
        return answers

    answers = asyncio.run(ask())
    assert [each.ranking[0] for each in answers if isinstance(each, Answer)] == [0, 2]
    assert len(threads) == 2
    assert all(name.startswith("decoder") for name in threads)
