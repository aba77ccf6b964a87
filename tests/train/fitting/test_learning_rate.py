"""`train.fitting.learning_rate`: the rate of each step, and a tuning's own after them."""

import dataclasses

import keras
import pytest

from train.fitting.learning_rate import schedule_learning_rate
from train.recipes.recipe import Crop, Tuning
from train.recipes.shipped import RECIPES

BASE = dataclasses.replace(RECIPES["mnist-mlp"], augmentation=None)
TUNING = Tuning(epochs=2, peak_learning_rate=1e-4, augmentation=Crop(1))


def test_the_learning_rate_rises_linearly_and_falls_to_0() -> None:
    recipe = dataclasses.replace(BASE, epochs=10, warmup_epochs=2, peak_learning_rate=1e-3)
    schedule = schedule_learning_rate(recipe, steps_per_epoch=50)
    rates = [float(schedule(step)) for step in (0, 50, 100, 300, 500)]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 5e-4, 0], abs=1e-9)


def test_a_single_epoch_begins_at_the_peak() -> None:
    schedule = schedule_learning_rate(dataclasses.replace(BASE, epochs=1, warmup_epochs=2), steps_per_epoch=50)
    assert [float(schedule(step)) for step in (0, 50)] == pytest.approx([BASE.peak_learning_rate, 0], abs=1e-9)


@pytest.mark.parametrize("epochs", [10, 0])
def test_a_tuning_begins_at_its_own_peak_after_all_epochs_and_falls_to_0(epochs: int) -> None:
    recipe = dataclasses.replace(BASE, epochs=epochs, tuning=TUNING)
    schedule, start = schedule_learning_rate(recipe, steps_per_epoch=50), epochs * 50
    assert [float(schedule(start + step)) for step in (0, 50, 100)] == pytest.approx([1e-4, 5e-5, 0], abs=1e-9)
    if epochs:
        assert float(schedule(0)) == float(schedule_learning_rate(BASE, 50)(0))
        assert float(schedule(start - 1)) < 1e-5


def test_a_schedule_with_a_tuning_is_saved_with_a_model() -> None:
    schedule = schedule_learning_rate(dataclasses.replace(BASE, tuning=TUNING), steps_per_epoch=50)
    saved = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(saved)
    assert [float(again(step)) for step in (0, 50, 520)] == [float(schedule(step)) for step in (0, 50, 520)]
