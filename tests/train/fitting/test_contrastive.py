"""`train.fitting.contrastive`: the loss of the paper, pretraining, and how `fit` continues."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

from train.data.datasets import Part, split
from train.fitting.contrastive import TEMPERATURE, accuracy, contrast, pretrain, write_start
from train.fitting.fit import fit
from train.nets.build import build
from train.recipes.net import Conv, Dense, Flatten, Pool
from train.recipes.recipe import Crop, Recipe
from train.recipes.shipped import NOTEBOOK_AUGMENTATION, RECIPES

RECIPE = dataclasses.replace(
    RECIPES["mnist-cnn"],
    net=(Conv(4), Pool(4), Flatten(), Dense(16)),
    epochs=2,
    batch_size=50,
    validation_count=50,
)


@pytest.fixture(scope="module")
def problem() -> tuple[Part, Part]:
    """300 noisy images of 12 x 12 with a bright bar, whose row, of three, is the label."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    images = random.integers(0, 120, (300, 12, 12, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4] += 60
    return split(Part.whole(images, labels), RECIPE.validation_count)


def make_model(recipe: Recipe = RECIPE) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build(recipe.net, (12, 12, 1), 3)


def draw_points(count: int) -> np.ndarray:
    """Random points float32 [count, 5] on the unit sphere."""
    points = np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_the_loss_is_the_papers_written_out_pair_by_pair() -> None:
    points, labels = draw_points(8), np.array([0, 1, 0, 2, 1, 0, 2, 2])
    powers = np.exp(points @ points.T / TEMPERATURE)
    wanted = [
        -np.mean([
            np.log(powers[one, other] / sum(powers[one, third] for third in range(8) if third != one))
            for other in range(8)
            if other != one and labels[other] == labels[one]
        ])
        for one in range(8)
    ]  # fmt: skip
    np.testing.assert_allclose(contrast(np.eye(3, dtype=np.float32)[labels], points), wanted, rtol=1e-4)


def test_an_image_without_another_of_its_class_has_no_loss() -> None:
    losses = np.asarray(contrast(np.eye(3, dtype=np.float32)[[0, 1, 1]], draw_points(3)))
    assert losses[0] == 0
    assert (losses[1:] > 0).all()


def test_accuracy_is_that_of_the_nearest_other_image() -> None:
    angles = np.array([0, 0.1, 1.0, 1.3])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert np.asarray(accuracy(np.eye(2)[[0, 0, 0, 1]], points)).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("augmentation", [None, NOTEBOOK_AUGMENTATION, Crop(1)])
def test_pretraining_brings_images_of_a_class_together(problem: tuple, augmentation: object) -> None:
    recipe = dataclasses.replace(RECIPE, augmentation=augmentation)
    history = pretrain(make_model(), problem[0], recipe, epochs=6, seed=1)
    assert len(history) == 6
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["accuracy"] > 0.5
    assert history[-1]["seconds"] > 0


def test_fit_continues_from_all_pretrained_weights(problem: tuple, tmp_path: Path) -> None:
    """At a learning rate of 0, `fit` returns the weights that it starts with."""
    still = dataclasses.replace(RECIPE, peak_learning_rate=0.0)
    model, path = make_model(), tmp_path / "new" / "unfinished.npz"
    before = model.get_weights()
    pretrain(model, problem[0], RECIPE, epochs=1, seed=1)
    pretrained = model.get_weights()
    write_start(model, len(problem[0]), still, seed=1, checkpoint=path)
    progress = fit(make_model(), *problem, still, seed=1, checkpoint=path, resume=True)
    assert [row["epoch"] for row in progress.history] == [1, 2]
    for found, wanted in zip(progress.best_weights, pretrained, strict=True):
        np.testing.assert_array_equal(found, wanted)
    changed = [not np.array_equal(one, other) for one, other in zip(before, pretrained, strict=True)]
    assert changed == [True] * 4 + [False] * 2  # `fit` trains the logits
