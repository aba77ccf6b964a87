"""Probabilities of one model before and after a change -> how far they moved, and whether that is too far.

Enters: probabilities float [N, K] of two models for the same images. Leaves: a `Parity`, or ParityFailed.
Does not know: models, files, what was changed.
"""

from dataclasses import dataclass

import numpy as np

from serve.errors import ModelFileError
from train.evaluation.metrics import Floats

LARGEST_DIFFERENCE = 1e-5
TIE = 2e-5  # two classes closer than twice LARGEST_DIFFERENCE may swap
MOST_CHANGED = 0.002  # share of the images whose class may change when weights are rounded
_LEAST = float(np.finfo(np.float32).tiny)


class ParityFailed(ModelFileError):
    """A graph does not give the probabilities of the model that it was made from."""


@dataclass(frozen=True, slots=True)
class Parity:
    """The difference between two models on the same images, such as a Keras model and its ONNX graph."""

    largest_difference: float
    """Largest difference of a probability, over all images and classes."""
    changed_classes: int
    """Images whose top class differs although the top two probabilities are at least TIE apart."""
    image_count: int
    limit: float = LARGEST_DIFFERENCE
    """The largest difference that passes."""


def measure_parity(expected: Floats, found: Floats, limit: float = LARGEST_DIFFERENCE) -> Parity:
    """Compare probabilities float [N, K] of two models for the same images."""
    lowest, highest = np.sort(expected, axis=1)[:, -2:].T
    changed = expected.argmax(axis=1) != found.argmax(axis=1)
    return Parity(
        largest_difference=float(np.abs(expected - found).max()),
        changed_classes=int(np.sum(changed & (highest - lowest >= max(TIE, 2 * limit)))),
        image_count=len(expected),
        limit=limit,
    )


def find_limit(expected: Floats) -> float:
    """The limit for a model that is not ours: LARGEST_DIFFERENCE times the spread of its logits, if that is over 1.

    A probability moves with its logit, and float32 rounds a logit relative to its size. So the same rounding moves a
    probability further in a net whose answers are sure.
    """
    logs = np.log(np.maximum(expected, _LEAST))
    return LARGEST_DIFFERENCE * max(1.0, float((logs.max(axis=1) - logs.min(axis=1)).max()))


def require_parity(parity: Parity) -> None:
    """Raise ParityFailed if a graph differs too much from its model."""
    # `not <=`, so that NaN fails too.
    if not parity.largest_difference <= parity.limit or parity.changed_classes:
        raise ParityFailed(
            f"the ONNX graph differs from the model: wanted probabilities within {parity.limit:.3g} and the "
            f"same classes, found a difference of {parity.largest_difference:.3g} and another class in "
            f"{parity.changed_classes} of {parity.image_count} images; nothing was written"
        )


def require_few_changes(moved: Parity) -> None:
    """Raise ParityFailed if rounding the weights changed the class of too many images."""
    if not moved.changed_classes <= MOST_CHANGED * moved.image_count:
        raise ParityFailed(
            f"16 bits are too few for these weights: wanted another class in at most {MOST_CHANGED:.1%} of the images, "
            f"found {moved.changed_classes} in {moved.image_count}; nothing was written"
        )
