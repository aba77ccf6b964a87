"""serve.inference.engine: how many images it runs at a time, and how its runs are warmed up and timed."""

import math
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from serve.inference import engine as engine_module
from serve.inference.engine import Engine, load
from serve.model_file.spec import OUTPUT
from tests.serve.inference.test_engine import CPU, REPOSITORY
from tests.support import draw_images


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
    """The quickest of five, in turn, for a core is shared with others."""
    path = REPOSITORY / "models/mnist-cnn/1/model.onnx"
    engines = [load(path, replace(CPU, max_batch=16, most_threads=threads)) for threads in (1, 2)]
    one, full = [math.inf, math.inf], [math.inf, math.inf]
    for _ in range(5):
        for at, engine in enumerate(engines):
            engine.warm_up()
            one[at] = min(one[at], engine.one_image_s)
            full[at] = min(full[at], engine.full_batch_s)
    assert one[0] / 3 < one[1] < 3 * one[0]
    assert full[0] / 2 < full[1] < 2 * full[0]


@pytest.mark.parametrize("max_batch", [1, 3, 4])
def test_a_self_test_of_more_images_than_a_batch_is_run_in_parts(model_file: Path, max_batch: int) -> None:
    """As on CUDA, where a run takes no more than a batch, over a session of the CPU."""
    spec = load(model_file, CPU).spec
    assert len(spec.self_test.probabilities) == 4
    session = onnxruntime.InferenceSession(model_file, providers=["CPUExecutionProvider"])
    engine_module._check_self_test(Engine(spec, session, replace(CPU, device="cuda:0", max_batch=max_batch)))
