"""`train.fitting.epochs.run`: the images, order, learning rate and figures of an epoch."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from train.data.datasets import Part, split
from train.fitting.augmentation.crop import Cropper
from train.fitting.epochs.run import draw_order, run_epoch
from train.fitting.fit import compile_for_training, fit, is_over
from train.nets.build import build
from train.recipes.recipe import Augmentation, Crop
from train.recipes.shipped import NOTEBOOK_AUGMENTATION, RECIPES

BASE = dataclasses.replace(RECIPES["mnist-mlp"], augmentation=None)
COUNT, SEED = 110, 5
CROP = Crop(shift_pixels=1, cutout_pixels=3)
SHORT = dataclasses.replace(BASE, epochs=2, batch_size=30, validation_count=10)


class Watch(keras.layers.Layer):
    """Passes images on, and keeps the batches of the training."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[np.ndarray] = []

    def call(self, images: Any, training: bool = False) -> Any:
        """Images uint8 [N, H, W, C] -> the same."""
        if not training:
            return images
        handed_on = tf.numpy_function(self._keep, [images], tf.uint8)
        handed_on.set_shape(images.shape)
        return handed_on

    def _keep(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(images.copy())
        return images


def draw_numbered() -> np.ndarray:
    """Images uint8 [N, 8, 8, 3]. Channel 0 is the image's number; the left half of channel 1 is bright."""
    images = np.zeros((COUNT, 8, 8, 3), np.uint8)
    images[..., 0] = np.arange(COUNT)[:, None, None]
    images[:, :, :4, 1] = 255
    return images


def draw_parts() -> tuple[Part, Part]:
    """Training and validation part. The label says whether an image's number is odd."""
    return split(Part.whole(draw_numbered(), np.arange(COUNT) % 2), SHORT.validation_count)


def read_numbers(images: np.ndarray) -> np.ndarray:
    """The numbers int [N] of images that may be moved, mirrored and cut."""
    return np.median(images[..., 0], axis=(1, 2)).astype(int)


def show(folder: Path, augmentation: Augmentation | Crop) -> list[np.ndarray]:
    """The batches that a net gets in a run of two epochs."""
    watch, images = Watch(), keras.Input((8, 8, 3), dtype="uint8")
    logits = keras.layers.Dense(2, name="logits")(
        keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(watch(images)))
    )
    model, recipe = keras.Model(images, logits), dataclasses.replace(SHORT, augmentation=augmentation)
    fit(model, *draw_parts(), recipe, seed=SEED, checkpoint=folder / "unfinished.npz")
    return watch.batches


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    return show(tmp_path_factory.mktemp("cropped"), CROP)


def test_a_run_shows_batches_of_the_recipes_size(cropped: list[np.ndarray]) -> None:
    assert [len(batch) for batch in cropped] == [30, 30, 30, 10] * 2


def test_each_epoch_shows_every_training_image_once(cropped: list[np.ndarray]) -> None:
    train, _ = draw_parts()
    for epoch in range(2):
        shown = read_numbers(np.concatenate(cropped[4 * epoch : 4 * epoch + 4]))
        np.testing.assert_array_equal(shown, train.places[draw_order(len(train), SEED, epoch)])


def test_cropped_images_are_moved_and_cut(cropped: list[np.ndarray]) -> None:
    images = np.concatenate(cropped)
    bright_columns = np.median((images[..., 1] == 255).sum(axis=2), axis=1)
    assert set(bright_columns) == {3, 4, 5}
    assert set((images[..., 2] == 128).sum(axis=(1, 2))) == {3 * 3}


def test_two_epochs_show_each_image_both_ways(cropped: list[np.ndarray]) -> None:
    images = np.concatenate(cropped)
    numbers, is_mirrored = read_numbers(images), images[:, :, -1, 1].mean(axis=1) > images[:, :, 0, 1].mean(axis=1)
    seen = set(zip(numbers, is_mirrored, strict=True))
    assert len(seen) == len(images) == 200


def test_the_crops_are_drawn_from_the_runs_seed_and_the_epochs_number(cropped: list[np.ndarray]) -> None:
    for epoch in range(2):
        cropper = Cropper(CROP, np.arange(COUNT), seed=SEED, epoch=epoch)
        for batch in cropped[4 * epoch : 4 * epoch + 4]:
            numbers = read_numbers(batch)
            np.testing.assert_array_equal(batch, cropper(draw_numbered()[numbers], numbers))


def test_augmented_images_reach_the_net_turned(tmp_path: Path) -> None:
    """They are moved by fractions of pixels, so that their edges are blurred."""
    for batch in show(tmp_path, NOTEBOOK_AUGMENTATION):
        is_between = (batch[..., 1] > 0) & (batch[..., 1] < 255)
        assert is_between.any(axis=(1, 2)).all()


def test_the_loss_is_that_of_smoothed_labels() -> None:
    images, targets = draw_problem()
    recipe = dataclasses.replace(BASE, label_smoothing=0.3)
    trained = compile_for_training(build(recipe.net, (28, 28, 1), 10), recipe, seed=0, steps_per_epoch=1)
    logs = np.log(np.asarray(keras.ops.softmax(trained(images))))
    expected = -((0.7 * targets + 0.03) * logs).sum(axis=1).mean()
    assert trained.test_on_batch(images, targets, return_dict=True)["loss"] == pytest.approx(expected, rel=1e-5)


def draw_problem() -> tuple[np.ndarray, np.ndarray]:
    """250 images of noise and their targets float [N, 10]."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (250, 28, 28, 1), np.uint8)
    return images, keras.utils.to_categorical(random.integers(0, 10, 250), 10)


def test_every_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    orders = [tuple(draw_order(10, seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) == 6
    assert tuple(draw_order(10, 1, 2)) == orders[-1]


def test_the_learning_rate_is_0_after_the_last_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch has 100 images in batches of 30. The fourth batch, of ten images, is a step too."""
    compiled: list[keras.Model] = []

    def keep(*arguments: Any) -> keras.Model:
        compiled.append(compile_for_training(*arguments))
        return compiled[0]

    monkeypatch.setattr("train.fitting.fit.compile_for_training", keep)
    model = build(BASE.net, (8, 8, 3), 2)
    fit(model, *draw_parts(), SHORT, seed=SEED, checkpoint=tmp_path / "unfinished.npz")
    optimizer = compiled[0].optimizer
    assert int(optimizer.iterations) == 8
    assert float(optimizer.learning_rate) == pytest.approx(0, abs=1e-9)
    optimizer.iterations.assign(7)
    assert float(optimizer.learning_rate) > 1e-6


@pytest.mark.parametrize("step_name", ["test_on_batch", "train_on_batch"])
def test_an_epochs_figures_are_means_over_all_of_its_images(step_name: str) -> None:
    """Three batches, the last one smaller, against a single one. The learning rate is 0."""
    images, targets = draw_problem()
    keras.utils.set_random_seed(0)
    recipe = dataclasses.replace(BASE, augmentation=None, peak_learning_rate=0.0, warmup_epochs=0)
    trained = compile_for_training(build(RECIPES["mnist-mlp"].net, (28, 28, 1), 10), recipe, seed=0, steps_per_epoch=1)
    step = getattr(trained, step_name)
    whole = run_epoch(step, images, targets, np.arange(250), batch_size=250)
    assert run_epoch(step, images, targets, np.arange(250), batch_size=120) == pytest.approx(whole, rel=1e-5)


def test_an_epochs_figures_are_not_those_of_the_last_batch() -> None:
    def step(images: np.ndarray, targets: np.ndarray, return_dict: bool) -> dict[str, float]:
        return {"loss": float(images.mean()), "accuracy": float(targets.mean())}

    images, targets = np.arange(10, dtype=np.uint8), np.arange(10.0)
    assert run_epoch(step, images, targets, np.arange(10), 4) == pytest.approx({"loss": 4.5, "accuracy": 4.5})


@pytest.mark.parametrize(
    ("accuracies", "patience", "is_the_end"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.4], 1, True),
        ([0.5, 0.5], 1, True),  # equal is not better
        ([0.5, 0.4, 0.6], 1, False),
        ([0.5, 0.4], 2, False),
        ([0.5, 0.4, 0.5], 2, True),
        ([0.5, 0.4, 0.3, 0.2], None, False),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 2, True),
        ([0.1, 0.2, 0.3, 0.4, 0.5], None, True),
    ],
)
def test_a_run_is_over_after_its_epochs_or_its_patience(
    accuracies: list[float], patience: int | None, is_the_end: bool
) -> None:
    recipe = dataclasses.replace(BASE, epochs=5, patience=patience)
    assert is_over([{"val_accuracy": accuracy} for accuracy in accuracies], recipe) == is_the_end
