"""Logits of images and of their mirror images -> which images need both, and the answer that results.

Enters: logits float [N, K] of both views, labels. Leaves: a `SecondView` with its threshold, and combined logits.
Does not know: models, images, Keras, ONNX. `nets/build.py` and `export/passes/second_view.py` have the same rule in a
graph.

The mean over both views is more accurate than one view, at twice the work. Most images gain nothing by it, because
their first answer is sure (hiverge/cifar10-speedrun looks again at the least sure images alone, too).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.evaluation.calibration import apply_softmax
from train.evaluation.metrics import Floats, Integers, measure_accuracy


@dataclass(frozen=True)
class SecondView:
    """When a model looks at the mirror image, too, and what held-out images gained by it."""

    below: float
    """Confidence of the first answer, before calibration, below which the mirror image is looked at."""
    share: float
    """Share of the held-out images that were looked at twice."""
    accuracy_of_one: float
    """Accuracy on held-out images with one view each."""
    accuracy_of_both: float
    """Accuracy on held-out images with both views of each."""
    accuracy: float
    """Accuracy on held-out images with the threshold."""


def choose_second_view(first: Floats, mirrored: Floats, labels: Integers, share: float) -> SecondView:
    """The threshold by which about `share` of the images are looked at twice, for logits float [N, K] of both views."""
    confidence = measure_confidence(first)
    below = float(np.quantile(confidence, share))
    looked_at = float(np.mean(confidence < below))
    answers = (first, (first + mirrored) / 2, combine(first, mirrored, below))
    of_one, of_both, of_some = (measure_accuracy(each, labels) for each in answers)
    return SecondView(below, looked_at, of_one, of_both, of_some)


def combine(first: Floats, mirrored: Floats, below: float) -> npt.NDArray[np.floating]:
    """Logits float [N, K]: the mean of both views where the first answer's confidence is below the threshold."""
    unsure = measure_confidence(first) < below
    return np.where(unsure[:, None], (first + mirrored) / 2, first)


def measure_confidence(logits: Floats) -> npt.NDArray[np.float64]:
    """The highest probability of each row of logits float [N, K], before calibration."""
    return np.asarray(apply_softmax(logits).max(axis=1))
