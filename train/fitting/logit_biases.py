"""A fitted model and training images without augmentation -> the same model, with new biases of its logits.

Enters: a keras.Model of `nets/build.py`, images and labels. Leaves: the model with K changed biases.
Does not know: how the model was fitted, or on what.

Augmented images are slightly blurred and have repeated borders. A net that is trained only on them predicts some
classes too often for sharp images. Fitting the biases is a convex problem with one solution, and takes seconds. It is
the bias part of vector scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks"). A larger net gains more.
"""

import keras
import numpy as np
import numpy.typing as npt

from train.data.datasets import Images, Labels
from train.nets.build import predict, take_logits

IMAGE_COUNT = 10_000
MOST_STEPS = 50
SMALLEST_GRADIENT = 1e-7
SMALLEST_STEP = 1e-9


def balance_classes(model: keras.Model, images: Images, labels: Labels) -> None:
    """Fit the biases of the logits in place to images uint8 [N, H, W, C], or to a fixed choice of IMAGE_COUNT."""
    chosen = np.random.default_rng(0).permutation(len(images))[:IMAGE_COUNT]
    logits = predict(take_logits(model), images[chosen])
    model.get_layer("logits").bias.assign_add(fit_biases(logits, labels[chosen]).astype(np.float32))


def fit_biases(logits: npt.NDArray[np.floating], labels: Labels) -> npt.NDArray[np.float64]:
    """The biases float64 [K] that minimise the cross-entropy of logits float [N, K] with labels [N]. They sum to 0.

    A class without labels gets 0 and is left out of the fit. Otherwise its bias would go to minus infinity.
    """
    biases, (named, places) = np.zeros(logits.shape[1]), np.unique(labels, return_inverse=True)
    biases[named] = _fit_named(logits[:, named], places)
    return biases


def _fit_named(logits: npt.NDArray[np.floating], labels: Labels) -> npt.NDArray[np.float64]:
    """Newton's method with a line search. The Hessian has rank K - 1, as a constant in all biases has no effect."""
    logits = logits.astype(np.float64)
    shares = np.bincount(labels, minlength=logits.shape[1]) / len(labels)
    biases = np.zeros(logits.shape[1])
    for _ in range(MOST_STEPS):
        powers = np.exp(logits + biases - (logits + biases).max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        gradient = probabilities.mean(axis=0) - shares
        if np.abs(gradient).max() < SMALLEST_GRADIENT:
            break
        hessian = np.diag(probabilities.mean(axis=0)) - probabilities.T @ probabilities / len(logits)
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        biases -= _shorten(step, gradient, logits + biases, labels)
    return np.asarray(biases - biases.mean())


def _shorten(
    step: npt.NDArray[np.float64], gradient: npt.NDArray[np.float64], logits: npt.NDArray[np.float64], labels: Labels
) -> npt.NDArray[np.float64]:
    """Halve a step float64 [K] until it lowers the loss (Armijo). Full steps diverge if few answers are wrong."""
    before = _measure_loss(logits, labels)
    while np.abs(step).max() > SMALLEST_STEP and _measure_loss(logits - step, labels) > before - 1e-4 * gradient @ step:
        step = step / 2
    return step


def _measure_loss(logits: npt.NDArray[np.float64], labels: Labels) -> float:
    """The mean cross-entropy of logits float64 [N, K] with labels [N]."""
    top = logits.max(axis=1)
    sums = np.exp(logits - top[:, None]).sum(axis=1)
    return float(np.mean(np.log(sums) + top - logits[np.arange(len(labels)), labels]))
