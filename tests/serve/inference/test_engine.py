"""serve.inference.engine: a file that is right is run as ONNX Runtime runs it, on the device that was asked for."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnx import TensorProto, helper

from serve.inference import engine as engine_module
from serve.inference.device import Placement, choose_device
from serve.inference.engine import Engine, load
from serve.model_file.spec import OUTPUT
from tests.support import ROOT, SHAPE, draw_images, make_graph, make_spec
from train.export.onnx_file import measure_self_test, seal_model

REPOSITORY = ROOT
CPU = Placement("cpu", threads=1, max_batch=64, gpu_memory_bytes=0)
CUDA_PROBLEM = choose_device("auto", 0)[1]


@pytest.mark.parametrize("count", [1, 2, 33])
def test_the_answers_are_those_of_plain_onnxruntime(model_file: Path, count: int) -> None:
    session = onnxruntime.InferenceSession(model_file, providers=["CPUExecutionProvider"])
    (expected,) = session.run([OUTPUT], {"images": draw_images(count)})
    outputs = load(model_file, CPU).run(draw_images(count))
    assert list(outputs) == [OUTPUT]
    assert outputs[OUTPUT].dtype == np.float32
    np.testing.assert_array_equal(outputs[OUTPUT], expected)


def test_an_engine_knows_its_file_and_its_device(model_file: Path) -> None:
    engine = load(model_file, CPU)
    assert engine.placement.device == "cpu"
    assert replace(engine.spec, self_test=make_spec().self_test) == make_spec()


def test_an_engine_answers_many_threads_at_once(model_file: Path) -> None:
    engine = load(model_file, replace(CPU, threads=2))
    batches = [draw_images(count) for count in range(1, 20)]
    expected = [engine.run(batch)[OUTPUT] for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        for found, wanted in zip(threads.map(engine.run, batches), expected, strict=True):
            np.testing.assert_array_equal(found[OUTPUT], wanted)


def test_the_self_test_keeps_to_one_core(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other workers test their models at the same moment."""
    spreads: list[bool] = []
    run = Engine.run

    def note(self: Engine, images: npt.NDArray[np.uint8], spread: bool = True) -> engine_module.Outputs:
        spreads.append(spread)
        return run(self, images, spread=spread)

    monkeypatch.setattr(Engine, "run", note)
    load(model_file, replace(CPU, most_threads=2))
    assert spreads
    assert not any(spreads)


@pytest.mark.parametrize("count", [1, 2, 33])
def test_a_run_on_one_core_gives_the_answers_of_one_that_spreads(model_file: Path, count: int) -> None:
    engine = load(model_file, replace(CPU, most_threads=2))
    expected = engine.run(draw_images(count))[OUTPUT]
    np.testing.assert_array_equal(engine.run(draw_images(count), spread=False)[OUTPUT], expected)


def test_what_goes_wrong_in_a_run_that_keeps_to_one_core_is_raised(model_file: Path) -> None:
    engine = load(model_file, replace(CPU, most_threads=2))
    with pytest.raises(RuntimeError, match="images"):
        engine.run(np.zeros((1, 3, 3, 1), np.uint8), spread=False)
    assert len(engine.run(draw_images(2), spread=False)[OUTPUT]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
@pytest.mark.parametrize(("threads", "behind"), [(1, 1), (2, 0)])
def test_a_run_that_keeps_to_one_core_is_made_behind_the_event_loop(
    model_file: Path, threads: int, behind: int
) -> None:
    """In a thread of the session's own, unless the process has several cores for itself: that run keeps to nothing."""
    program = f"""
import os
import numpy as np
from pathlib import Path
from serve.inference.device import Placement
from serve.inference.engine import load
engine = load(Path("{model_file}"), Placement("cpu", {threads}, 64, 0, most_threads=2))
for _ in range(3):
    engine.run(np.zeros((2, *{SHAPE}), np.uint8), spread=False)
loop = os.getpriority(os.PRIO_PROCESS, os.getpid())
threads = [int(each) for each in os.listdir("/proc/self/task")]
print(sum(os.getpriority(os.PRIO_PROCESS, each) > loop for each in threads))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert int(found.stdout) == behind


@pytest.mark.skipif(sys.platform != "linux", reason="page faults of a thread are counted by Linux alone")
def test_a_run_has_the_memory_of_the_run_before() -> None:
    """Page by page anew it would take up to six times as long: here always, elsewhere where glibc happens to.

    The second run of a size is the first that has all its memory in one block, as ONNX Runtime saw it in the one
    before; whether the warm-up made a run of this size hangs on how fast the machine was just then.
    """
    gives_up = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    program = f"""
import resource
import numpy as np
from pathlib import Path
from serve.inference.device import Placement
from serve.inference.engine import load
engine = load(Path("models/mnist-cnn/1/model.int8.onnx"), Placement("cpu", 1, 64, 0))
images = np.zeros(({CPU.max_batch}, 28, 28, 1), np.uint8)
engine.warm_up()
for count in (2, 20):
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(count):
        engine.run(images)
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY, env=gives_up
    )
    first, others = map(int, found.stdout.split())
    assert first > 1_000, "a model without callers keeps no memory; a batch writes 1,700 pages"
    assert others < 20 * 50


def test_a_second_output_is_returned_by_its_name(tmp_path: Path) -> None:
    """Whatever it is called; `familiarity` has a key of its own in the metadata."""
    graph = make_graph(SHAPE)
    graph.graph.node.append(helper.make_node("ReduceMax", ["probabilities"], ["largest"], axes=[1], keepdims=0))
    graph.graph.output.append(helper.make_tensor_value_info("largest", TensorProto.FLOAT, ["N"]))
    spec = make_spec(self_test=measure_self_test(graph, SHAPE))
    path = tmp_path / "model.onnx"
    path.write_bytes(seal_model(graph, spec))
    outputs = load(path, CPU).run(draw_images(5))
    np.testing.assert_array_equal(outputs["largest"], outputs[OUTPUT].max(axis=1))


@pytest.mark.skipif(bool(CUDA_PROBLEM), reason=f"no CUDA here: {CUDA_PROBLEM}")
def test_cuda_answers_as_the_cpu_does(model_file: Path) -> None:
    assert choose_device("cuda", 0) == ("cuda:0", "")
    on_cuda = load(model_file, replace(CPU, device="cuda:0")).run(draw_images(7))[OUTPUT]
    on_cpu = load(model_file, CPU).run(draw_images(7))[OUTPUT]
    np.testing.assert_allclose(on_cuda, on_cpu, atol=1e-3)


def test_importing_the_engine_leaves_no_file_behind(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would write a device id under the home folder."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", "import serve.inference.engine"], check=True, env=environment)
    assert list(tmp_path.rglob("*")) == []
