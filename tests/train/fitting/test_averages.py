"""`train.fitting.averages`: the moving average of the weights, when it is kept, and the mean around a tuning."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

from train.data.datasets import Part, split
from train.fitting.averages import mix_weights, take_averages
from train.fitting.fit import compile_for_training, fit
from train.nets.build import build
from train.recipes.net import GlobalMax, NormConv
from train.recipes.recipe import Adam, Crop, Muon, Recipe, Tuning
from train.recipes.shipped import RECIPES

RECIPE = dataclasses.replace(
    RECIPES["cifar10"],
    net=(NormConv(8), GlobalMax()),
    epochs=2,
    batch_size=20,
    validation_count=40,
    averaging=0.8,
    tuning=None,
    mirrors=False,
    augmentation=Crop(1),
)


def draw_part() -> Part:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 160)
    images = random.integers(0, 80, (160, 8, 8, 3), np.uint8)
    images[np.arange(160), :, :, labels] += 90
    return Part.whole(images, labels)


def train(optimizer: Adam | Muon) -> tuple[keras.Model, Part]:
    part = draw_part()
    keras.utils.set_random_seed(0)
    model = build(RECIPE.net, (8, 8, 3), 3)
    trained = compile_for_training(model, dataclasses.replace(RECIPE, optimizer=optimizer), 0, 8)
    for _ in range(6):
        trained.train_on_batch(part.images, np.eye(3)[part.labels])
    return trained, part


@pytest.mark.parametrize("optimizer", [Adam(), Muon()], ids=["adam", "muon"])
@pytest.mark.parametrize("after", [0.2, 0.9], ids=["worse", "better"])
def test_averages_replace_the_weights_if_they_are_no_worse(optimizer: Adam | Muon, after: float) -> None:
    trained, part = train(optimizer)
    before = trained.get_weights()
    accuracies = iter([0.5, after])
    is_kept = take_averages(trained, lambda batch: batch.images, part, 20, lambda: next(accuracies))
    assert is_kept == (after > 0.5)
    same = [np.array_equal(old, new) for old, new in zip(before, trained.get_weights(), strict=True)]
    assert not any(same) if is_kept else all(same)


def test_the_average_follows_the_formula_of_its_decay() -> None:
    trained, part = train(Adam())
    kernels = []
    targets = np.eye(3)[part.labels]
    bias = trained.trainable_variables[-1]
    average = np.asarray(trained.optimizer._model_variables_moving_average[-1])  # Keras has no public name
    for _ in range(4):
        trained.train_on_batch(part.images, targets)
        kernels.append(np.asarray(bias))
        average = 0.8 * average + 0.2 * kernels[-1]
    trained.optimizer.finalize_variable_values(trained.trainable_variables)
    np.testing.assert_allclose(np.asarray(bias), average, rtol=1e-4, atol=1e-6)


def test_a_fitted_model_says_whether_its_weights_are_averages(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = build(RECIPE.net, (8, 8, 3), 3)
    parts = split(draw_part(), RECIPE.validation_count)
    recipe: Recipe = dataclasses.replace(RECIPE, second_view_share=0.3)
    progress = fit(model, *parts, recipe, seed=0, checkpoint=tmp_path / "unfinished.npz")
    assert progress.second_view is not None
    assert progress.second_view.share == pytest.approx(0.3, abs=0.03)
    assert progress.final_accuracy == progress.second_view.accuracy
    kept, last = progress.best_weights[0], np.asarray(model.get_weights()[0])
    np.testing.assert_array_equal(kept, last)
    assert progress.is_averaged in (True, False)


def tune(share: float, folder: Path, resumed_after: int | None = None) -> list[np.ndarray]:
    """The weights of an epoch and a tuning of two, broken off after some of the three if one says so."""
    recipe = dataclasses.replace(
        RECIPE, epochs=1, averaging=0.0, keeps_last=True, tuning=Tuning(2, 0.05, Crop(2), share=share)
    )
    parts, path = split(draw_part(), RECIPE.validation_count), folder / "unfinished.npz"
    if resumed_after is not None:
        with pytest.MonkeyPatch.context() as context:
            context.setattr("train.fitting.fit.is_over", lambda history, _: len(history) >= resumed_after)
            fit(make_net(), *parts, recipe, seed=0, checkpoint=path)
    model = make_net()
    fit(model, *parts, recipe, seed=0, checkpoint=path, resume=resumed_after is not None)
    return model.get_weights()


def make_net() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build(RECIPE.net, (8, 8, 3), 3)


@pytest.mark.slow
def test_a_tuning_ends_with_the_mean_of_the_weights_around_it_also_when_resumed(tmp_path: Path) -> None:
    before, after = tune(0.0, tmp_path), tune(1.0, tmp_path)
    wanted = [0.75 * old + 0.25 * new for old, new in zip(before, after, strict=True)]
    for found in (tune(0.25, tmp_path), tune(0.25, tmp_path, resumed_after=2)):
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert not np.allclose(before[0], after[0])


def test_mixed_weights_keep_their_dtype() -> None:
    (mixed,) = mix_weights([np.zeros(3, np.float32)], [np.full(3, 4, np.float32)], 0.25)
    assert mixed.dtype == np.float32
    np.testing.assert_array_equal(mixed, [1, 1, 1])
