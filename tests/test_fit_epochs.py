"""`train.fit`: the order of an epoch's images, its learning rate, and what its figures are."""

import dataclasses

import keras
import numpy as np
import pytest

from train.fit import compile_for_training, draw_order, run_epoch, schedule_learning_rate
from train.models import build
from train.recipes import RECIPES

BASE = dataclasses.replace(RECIPES["mnist-mlp"], augmentation=None)


def draw_problem() -> tuple[np.ndarray, np.ndarray]:
    """250 images of noise and their targets, float [N, 10]."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (250, 28, 28, 1), np.uint8)
    return images, keras.utils.to_categorical(random.integers(0, 10, 250), 10)


def test_every_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    orders = [tuple(draw_order(10, seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) == 6
    assert tuple(draw_order(10, 1, 2)) == orders[-1]


def test_the_learning_rate_rises_in_a_line_and_falls_to_nothing() -> None:
    recipe = dataclasses.replace(BASE, epochs=10, warmup_epochs=2, peak_learning_rate=1e-3)
    schedule = schedule_learning_rate(recipe, steps_per_epoch=50)
    rates = [float(schedule(step)) for step in (0, 50, 100, 300, 500)]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 5e-4, 0], abs=1e-9)


def test_a_single_epoch_begins_at_the_peak() -> None:
    schedule = schedule_learning_rate(dataclasses.replace(BASE, epochs=1, warmup_epochs=2), steps_per_epoch=50)
    assert [float(schedule(step)) for step in (0, 50)] == pytest.approx([BASE.peak_learning_rate, 0], abs=1e-9)


@pytest.mark.parametrize("step_name", ["test_on_batch", "train_on_batch"])
def test_an_epochs_figures_are_means_over_all_of_its_images(step_name: str) -> None:
    """Three batches, the last one smaller, against one batch of everything; a learning rate of 0 changes nothing."""
    images, targets = draw_problem()
    keras.utils.set_random_seed(0)
    recipe = dataclasses.replace(BASE, augmentation=None, peak_learning_rate=0.0, warmup_epochs=0)
    trained = compile_for_training(build(RECIPES["mnist-mlp"].net, (28, 28, 1), 10), recipe, seed=0, steps_per_epoch=1)
    step = getattr(trained, step_name)
    whole = run_epoch(step, images, targets, np.arange(250), batch_size=250)
    assert run_epoch(step, images, targets, np.arange(250), batch_size=120) == pytest.approx(whole, rel=1e-5)


def test_an_epochs_figures_are_of_all_its_images_not_of_the_last_batch() -> None:
    def step(images: np.ndarray, targets: np.ndarray, return_dict: bool) -> dict[str, float]:
        return {"loss": float(images.mean()), "accuracy": float(targets.mean())}

    images, targets = np.arange(10, dtype=np.uint8), np.arange(10.0)
    assert run_epoch(step, images, targets, np.arange(10), 4) == pytest.approx({"loss": 4.5, "accuracy": 4.5})
