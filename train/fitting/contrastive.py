"""A fresh model and training images -> the same model, with the layers before its logits pretrained.

Enters: a keras.Model of `build.py`, the training part of a dataset, a `Recipe`. Leaves: the model, and a file from
which `train.fitting.fit` continues. Does not know: studies, validation figures, ONNX. Plain Keras 3: any backend.

The loss is supervised contrastive (Khosla et al. 2020, "Supervised Contrastive Learning", L_out of equation 2). It
moves images of one class together on a sphere, and images of other classes apart. The paper shows each image twice in
a batch. Here once is enough, as a batch of hundreds has others of each class; an epoch costs about as much as one of
`fit`. These epochs come on top of the recipe's own, so a comparison has to count them.
"""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from train.data.datasets import Part
from train.fitting.augmentation.augment import Augment
from train.fitting.checkpoint import Progress, Settings, save_checkpoint
from train.fitting.epochs.run import train_epoch
from train.fitting.epochs.strangers import Shown
from train.fitting.fit import compile_for_training
from train.fitting.learning_rate import schedule_learning_rate
from train.nets.build import prepare_first_layer
from train.nets.optimizer import make_optimizer
from train.nets.precision import find_precision
from train.recipes.recipe import Augmentation, Recipe

TEMPERATURE = 0.1  # the paper's
EMBEDDING_WIDTH = 128  # the paper's


def pretrain(model: keras.Model, train: Part, recipe: Recipe, *, epochs: int, seed: int) -> list[dict[str, float]]:
    """Train the layers before the logits in place; returns a row for each epoch: `loss`, `accuracy`, `seconds`."""
    targets = keras.utils.to_categorical(train.labels, model.output_shape[1])
    prepare_first_layer(model, train.images)
    schedule = schedule_learning_rate(
        dataclasses.replace(recipe, epochs=epochs), math.ceil(len(train) / recipe.batch_size)
    )
    embedding = embed(model, recipe, seed)
    embedding.compile(
        optimizer=make_optimizer(recipe.optimizer, schedule),
        loss=contrast,
        metrics=[accuracy],
        jit_compile=keras.backend.backend() == "jax",  # as in `fit`
    )
    history = []
    for epoch in range(epochs):
        started_s = time.monotonic()
        print(f"pretraining epoch {epoch + 1} of {epochs}", flush=True)
        figures = train_epoch(embedding, Shown(train, targets, None), recipe, seed=seed, epoch=epoch)
        history.append(figures | {"seconds": time.monotonic() - started_s})
    return history


def embed(model: keras.Model, recipe: Recipe, seed: int) -> keras.Model:
    """A model from images to points float32 [N, 128] of length 1: the layers before the logits, and a dense layer.

    The dense layer serves only this loss. The features before it make a better classifier, as the paper found.
    """
    images = keras.Input(model.input_shape[1:], dtype="uint8")
    values = Augment(recipe.augmentation, seed)(images) if isinstance(recipe.augmentation, Augmentation) else images
    features = keras.Model(model.input, model.get_layer("logits").input)(values)
    points = layers.Dense(EMBEDDING_WIDTH, dtype="float32")(features)
    return keras.Model(images, layers.UnitNormalization(dtype="float32")(points))


def contrast(targets: Any, points: Any) -> Any:
    """The loss float32 [N] of points float32 [N, D] of length 1; `targets` are one-hot float32 [N, K].

    An image without another of its class in the batch has a loss of 0.
    """
    is_other = 1 - ops.eye(ops.shape(points)[0], dtype="float32")
    is_positive = _compare(targets) * is_other
    logits = _compare(points) / TEMPERATURE - 1e9 * (1 - is_other)
    logarithms = ops.log_softmax(logits, axis=1)
    return -ops.sum(is_positive * logarithms, axis=1) / ops.maximum(ops.sum(is_positive, axis=1), 1)


def accuracy(targets: Any, points: Any) -> Any:
    """Whether the nearest other point in the batch has the same class: float32 [N] of points float32 [N, D]."""
    itself = ops.eye(ops.shape(points)[0], dtype="float32")
    nearest = ops.argmax(_compare(points) - 3 * itself, axis=1)
    return ops.take_along_axis(_compare(targets), nearest[:, None], axis=1)[:, 0]


def _compare(rows: Any) -> Any:
    """The products of all pairs of rows [N, D], float32 [N, N]."""
    rows = ops.cast(rows, "float32")
    return rows @ ops.transpose(rows)


def write_start(model: keras.Model, train_count: int, recipe: Recipe, *, seed: int, checkpoint: Path) -> None:
    """Write the checkpoint of a run before its first epoch, with this model's weights, for `fit` to resume.

    Without it `fit` would prepare the first layer again, and undo a part of the pretraining.
    """
    trained = compile_for_training(model, recipe, seed, math.ceil(train_count / recipe.batch_size))
    trained.optimizer.build(trained.trainable_variables)
    save_checkpoint(checkpoint, trained, Progress(Settings(recipe, seed, find_precision(model))))
