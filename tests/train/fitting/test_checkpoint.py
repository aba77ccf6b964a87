"""`train.fitting.checkpoint`: a run continues from its file, which is replaced as a whole or not at all."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from train.fitting.checkpoint import CannotResume, Progress, Settings, load_checkpoint, record, save_checkpoint
from train.fitting.fit import compile_for_training
from train.nets.build import build
from train.recipes.net import Dense, Drop, Flatten
from train.recipes.recipe import Tuning
from train.recipes.shipped import NOTEBOOK_AUGMENTATION, RECIPES

RECIPE = dataclasses.replace(
    RECIPES["mnist-mlp"], net=(Flatten(), Dense(5), Drop(0.2)), augmentation=NOTEBOOK_AUGMENTATION
)
SETTINGS = Settings(RECIPE, 7, "float32")


def make_trained(seed: int, steps: int = 0) -> keras.Model:
    """A tiny model, compiled as `fit` does, after steps that change moments and random seeds."""
    keras.utils.set_random_seed(seed)
    trained = compile_for_training(build(RECIPE.net, (6, 6, 1), 3), RECIPE, seed, steps_per_epoch=4)
    random = np.random.default_rng(seed)
    for _ in range(steps):
        images, targets = random.integers(0, 256, (8, 6, 6, 1), np.uint8), np.eye(3)[random.integers(0, 3, 8)]
        trained.train_on_batch(images, targets)
    return trained


def make_progress(trained: keras.Model, **changes: Any) -> Progress:
    """Two epochs, of which the first is the best, with other weights than the model."""
    progress = Progress(SETTINGS)
    before = [weight + 1 for weight in trained.get_weights()]
    record(progress, trained, RECIPE, {"loss": 1 / 3, "val_accuracy": 0.75, "seconds": 0.1})
    progress.best_weights = before
    record(progress, trained, RECIPE, {"loss": 0.2, "val_accuracy": 0.5, "seconds": 0.2})
    return dataclasses.replace(progress, **changes)


def read_variables(trained: keras.Model) -> list[np.ndarray]:
    """Weights, random seeds, the step of the schedule, and the optimizer's moments."""
    return [keras.ops.convert_to_numpy(each) for each in [*trained.variables, *trained.optimizer.variables]]


def assert_equal(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_a_loaded_run_equals_the_saved_one(tmp_path: Path) -> None:
    trained, path = make_trained(1, steps=3), tmp_path / "new" / "unfinished.npz"
    saved = make_progress(trained, untuned_weights=[weight + 2 for weight in trained.get_weights()])
    save_checkpoint(path, trained, saved)
    fresh, loaded = make_trained(2), Progress(SETTINGS)
    load_checkpoint(path, fresh, loaded)
    assert_equal(read_variables(fresh), read_variables(trained))
    assert_equal(loaded.best_weights, saved.best_weights)
    assert_equal(loaded.untuned_weights, saved.untuned_weights)
    without: dict[str, Any] = {"best_weights": [], "untuned_weights": []}
    assert dataclasses.replace(loaded, **without) == dataclasses.replace(saved, **without)


def test_a_tuning_does_not_continue_without_the_weights_before_it(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=1, tuning=Tuning(4, 0.01, NOTEBOOK_AUGMENTATION, share=0.5))
    trained, path = make_trained(1), tmp_path / "unfinished.npz"
    progress = make_progress(trained, settings=dataclasses.replace(SETTINGS, recipe=recipe))
    save_checkpoint(path, trained, progress)
    with pytest.raises(CannotResume, match=r"in a tuning as many of before it, found .* 0 that"):
        load_checkpoint(path, trained, Progress(progress.settings))


def test_a_loaded_run_takes_the_next_step_as_the_saved_one_does(tmp_path: Path) -> None:
    trained = make_trained(1, steps=3)
    save_checkpoint(tmp_path / "unfinished.npz", trained, make_progress(trained))
    fresh = make_trained(2)
    load_checkpoint(tmp_path / "unfinished.npz", fresh, Progress(SETTINGS))
    images, targets = np.random.default_rng(5).integers(0, 256, (8, 6, 6, 1), np.uint8), np.eye(3)[[0, 1, 2, 0] * 2]
    for each in (trained, fresh):
        each.train_on_batch(images, targets)
    for found, wanted in zip(read_variables(fresh), read_variables(trained), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "other",
    [{"recipe": dataclasses.replace(RECIPE, epochs=4)}, {"seed": 8}, {"precision": "bfloat16"}],
    ids=["recipe", "seed", "precision"],
)
def test_resuming_under_other_settings_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    wanted = dataclasses.replace(SETTINGS, **other)
    trained = make_trained(1)
    save_checkpoint(tmp_path / "unfinished.npz", trained, make_progress(trained))
    before = read_variables(trained)
    with pytest.raises(CannotResume, match="of other settings: wanted ") as caught:
        load_checkpoint(tmp_path / "unfinished.npz", trained, Progress(wanted))
    assert f"wanted {wanted.describe()}, found {SETTINGS.describe()}" in str(caught.value)
    assert_equal(read_variables(trained), before)


def test_resuming_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotResume, match=r"nothing to resume: .*unfinished\.npz"):
        load_checkpoint(tmp_path / "unfinished.npz", make_trained(1), Progress(SETTINGS))


@pytest.mark.parametrize("share", [0, 0.5, 0.99], ids=["empty", "half", "all but its end"])
def test_resuming_from_a_damaged_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    path, trained = tmp_path / "unfinished.npz", make_trained(1)
    save_checkpoint(path, trained, make_progress(trained))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CannotResume, match=r"unfinished\.npz is damaged: .*; leave out --resume"):
        load_checkpoint(path, trained, Progress(SETTINGS))


def test_resuming_with_variables_of_other_shapes_is_refused(tmp_path: Path) -> None:
    """After a change of the program, the same settings may build another model."""
    path, trained = tmp_path / "unfinished.npz", make_trained(1, steps=1)
    save_checkpoint(path, trained, make_progress(trained))
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["variable_0"] = arrays["variable_0"][..., :1]
    np.savez(path, **arrays)
    before = read_variables(trained)
    with pytest.raises(CannotResume, match="lacks parts, or is of another version of this program"):
        load_checkpoint(path, trained, Progress(SETTINGS))
    assert_equal(read_variables(trained), before)


@pytest.mark.parametrize(
    ("accuracies", "keeps_last", "best_epoch"),
    [
        ([0.0], False, 1),
        ([0.5, 0.6, 0.4], False, 2),
        ([0.5, 0.6, 0.6], False, 3),
        ([0.6, 0.5, 0.6, 0.5], False, 3),
        ([0.5, 0.6, 0.4], True, 3),
    ],
)
def test_the_best_epoch_is_the_later_of_equals_or_the_last_one(
    accuracies: list[float], keeps_last: bool, best_epoch: int
) -> None:
    trained, progress = make_trained(1), Progress(SETTINGS)
    recipe = dataclasses.replace(RECIPE, keeps_last=keeps_last)
    start = trained.get_weights()
    for epoch, accuracy in enumerate(accuracies, 1):
        trained.set_weights([weight + epoch for weight in start])
        record(progress, trained, recipe, {"val_accuracy": accuracy})
    assert [row["epoch"] for row in progress.history] == list(range(1, len(accuracies) + 1))
    assert (progress.best_epoch, progress.best_accuracy) == (best_epoch, accuracies[best_epoch - 1])
    assert_equal(progress.best_weights, [weight + best_epoch for weight in start])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"history": [{"loss": object()}]}, TypeError),
        ({"best_weights": [np.array([object()])]}, ValueError),
    ],
    ids=["before the first array", "amid the arrays"],
)
def test_a_failed_save_leaves_the_old_checkpoint_and_nothing_else(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    path, trained = tmp_path / "unfinished.npz", make_trained(1)
    save_checkpoint(path, trained, make_progress(trained))
    before = path.read_bytes()
    with pytest.raises(error):
        save_checkpoint(path, trained, make_progress(trained, **changes))
    assert [each.name for each in tmp_path.iterdir()] == ["unfinished.npz"]
    assert path.read_bytes() == before
