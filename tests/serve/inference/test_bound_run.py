"""serve.inference.bound_run: memory that is used again and again gives every image its own values."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from serve.inference.bound_run import BoundRuns
from tests.support import SHAPE, draw_images

NAMES = ("images", "probabilities")


@pytest.fixture
def session(model_file: Path) -> onnxruntime.InferenceSession:
    """Of the tiny real model: three classes by the brightness of three bands."""
    return onnxruntime.InferenceSession(model_file, providers=["CPUExecutionProvider"])


def run_alone(session: onnxruntime.InferenceSession, images: npt.NDArray[np.uint8]) -> list[list[float]]:
    """The values that ONNX Runtime gives for one image after the other."""
    return [session.run([NAMES[1]], {NAMES[0]: each[None]})[0][0].tolist() for each in images]


def test_each_image_has_the_values_that_onnxruntime_gives_it(session: onnxruntime.InferenceSession) -> None:
    runs, images = BoundRuns(session, NAMES, SHAPE, 3), draw_images(20)
    assert [runs.run(each) for each in images] == run_alone(session, images)


def test_values_stay_as_they_are_when_the_next_image_is_run(session: onnxruntime.InferenceSession) -> None:
    runs, (first, other) = BoundRuns(session, NAMES, SHAPE, 3), draw_images(2)
    values = runs.run(first)
    kept = values.copy()
    assert runs.run(other) != kept
    assert values == kept


def test_threads_that_run_at_once_get_the_values_of_their_own_images(session: onnxruntime.InferenceSession) -> None:
    runs, images = BoundRuns(session, NAMES, SHAPE, 3), draw_images(400)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(runs.run, images))
    assert found == run_alone(session, images)


def test_an_image_that_does_not_fit_leaves_nothing_behind(session: onnxruntime.InferenceSession) -> None:
    runs, (image,) = BoundRuns(session, NAMES, SHAPE, 3), draw_images(1)
    with pytest.raises(ValueError, match="broadcast"):
        runs.run(np.zeros((5, 5, 3), np.uint8))
    assert [runs.run(image)] == run_alone(session, image[None])
