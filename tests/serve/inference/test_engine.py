"""serve.inference.engine: a file that is right is run as ONNX Runtime runs it, on the device that was asked for."""

import os
import subprocess
import sys
import threading
import time
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


def test_the_batch_sizes_of_cuda_are_powers_of_two_and_the_most() -> None:
    sizes = {most: replace(CPU, device="cuda:0", max_batch=most).batch_sizes for most in (1, 2, 32, 33)}
    assert sizes == {1: (1,), 2: (1, 2), 32: (1, 2, 4, 8, 16, 32), 33: (1, 2, 4, 8, 16, 32, 33)}


@pytest.mark.parametrize("count", [1, 3, 5, 20])
def test_padding_to_a_batch_size_changes_no_answer(model_file: Path, count: int) -> None:
    """As on CUDA, over a session of the CPU."""
    engine = load(model_file, CPU)
    session = onnxruntime.InferenceSession(model_file, providers=["CPUExecutionProvider"])
    padding = Engine(engine.spec, session, replace(CPU, device="cuda:0", max_batch=20))
    found = padding.run(draw_images(count))[OUTPUT]
    np.testing.assert_allclose(found, engine.run(draw_images(count))[OUTPUT], rtol=1e-6)


def test_a_slow_net_takes_fewer_images_at_a_time_on_the_cpu(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, sizes = load(model_file, CPU), []
    monkeypatch.setattr(Engine, "_measure", lambda self, size, options=None: sizes.append(size) or 0.03 * size)
    engine.warm_up()
    assert (engine.max_batch, engine.full_batch_s, set(sizes)) == (3, pytest.approx(0.09), {1})


def test_a_slow_net_runs_its_batches_to_warm_up_on_cuda(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA, over a session of the CPU."""
    session = onnxruntime.InferenceSession(model_file, providers=["CPUExecutionProvider"])
    padding, sizes = Engine(load(model_file, CPU).spec, session, replace(CPU, device="cuda:0", max_batch=20)), []
    monkeypatch.setattr(Engine, "_measure", lambda self, size, options=None: sizes.append(size) or 0.03 * size)
    padding.warm_up()
    assert (padding.max_batch, padding.full_batch_s, set(sizes)) == (20, pytest.approx(0.6), {1, 2, 4, 8, 16, 20})


def test_a_quick_net_takes_as_many_as_it_may_and_a_batch_is_timed(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its two runs the quicker counts: the first has fresh memory."""
    figures = iter([0.0002, 0.02, 0.004])
    monkeypatch.setattr(Engine, "_measure", lambda self, size, options=None: next(figures))
    engine = load(model_file, CPU)
    engine.warm_up()
    assert (engine.max_batch, engine.one_image_s, engine.full_batch_s) == (64, 0.0002, 0.004)


def test_what_other_threads_do_meanwhile_does_not_count_as_the_time_of_a_run(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is loaded beside traffic would seem slow, and get smaller batches for good."""
    engine, run, meanwhile_s = load(model_file, CPU), Engine.run, 0.5

    def run_beside_others(self: Engine, *arguments: object, **options: object) -> engine_module.Outputs:
        busy = threading.Thread(target=occupy_core, args=(meanwhile_s,))
        busy.start()
        busy.join()
        return run(self, *arguments, **options)

    monkeypatch.setattr(Engine, "run", run_beside_others)
    engine.warm_up()
    assert 0 < engine.one_image_s < meanwhile_s / 2
    assert 0 < engine.full_batch_s < meanwhile_s / 2


def test_runs_are_measured_with_images_that_no_net_is_sure_about(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A net with a second pass for unsure images would seem quick with empty ones."""
    engine, given, run = load(model_file, CPU), [], Engine.run

    def run_and_note(self: Engine, images: np.ndarray, *arguments: object, **options: object) -> engine_module.Outputs:
        given.append(images)
        return run(self, images, *arguments, **options)

    monkeypatch.setattr(Engine, "run", run_and_note)
    engine.warm_up()
    assert given
    assert all(images.std() > 60 for images in given)


def occupy_core(seconds: float) -> None:
    """Use so many seconds of the CPU in this thread."""
    ends_s = time.thread_time() + seconds
    while time.thread_time() < ends_s:
        pass


def test_a_run_in_the_sessions_own_thread_takes_the_time_of_one_in_the_callers() -> None:
    """The quickest of five, for a core is shared with others."""
    path = REPOSITORY / "models/mnist-cnn/1/model.onnx"

    def measure(most_threads: int) -> tuple[float, float]:
        engine = load(path, replace(CPU, max_batch=16, most_threads=most_threads))
        times = []
        for _ in range(5):
            engine.warm_up()
            times.append((engine.one_image_s, engine.full_batch_s))
        return min(one for one, _ in times), min(full for _, full in times)

    (one, full), (one_aside, full_aside) = measure(1), measure(2)
    assert one / 3 < one_aside < 3 * one
    assert full / 2 < full_aside < 2 * full


@pytest.mark.parametrize("max_batch", [1, 3, 4])
def test_a_self_test_of_more_images_than_a_batch_is_run_in_parts(model_file: Path, max_batch: int) -> None:
    """As on CUDA, where a run takes no more than a batch, over a session of the CPU."""
    spec = load(model_file, CPU).spec
    assert len(spec.self_test.probabilities) == 4
    session = onnxruntime.InferenceSession(model_file, providers=["CPUExecutionProvider"])
    engine_module._check_self_test(Engine(spec, session, replace(CPU, device="cuda:0", max_batch=max_batch)))


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
