"""`train.fitting.fit`: trainings on a small problem, interrupted and resumed."""

import dataclasses
from contextlib import redirect_stdout
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support import Interrupting
from tests.train.data.test_datasets import draw_bars
from train.data.datasets import Part, split
from train.evaluation.calibration import calibrate
from train.fitting.augmentation.crop import move_often
from train.fitting.checkpoint import Progress, Settings
from train.fitting.fit import finish, fit
from train.nets.build import build, complete, predict_logits
from train.recipes.net import Flatten
from train.recipes.recipe import Adam, Crop, Distillation, Recipe
from train.recipes.shipped import NOTEBOOK_AUGMENTATION, RECIPES

Problem = tuple[Part, Part]
"""Training part and validation part."""

RECIPE = dataclasses.replace(
    RECIPES["mnist-cnn"],
    epochs=3,
    batch_size=50,
    validation_count=100,
    augmentation=NOTEBOOK_AUGMENTATION,
    optimizer=Adam(),  # the tests should not change with the recipe
)
SETTINGS = Settings(RECIPE, 7, "float32")


@pytest.fixture(scope="module")
def problem() -> Problem:
    """600 noisy images of 28 x 28 with a bright bar, whose row, of ten, is the label."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 600)
    images = random.integers(0, 60, (600, 28, 28, 1), np.uint8)
    images[draw_bars(labels) > 0] += 180
    return split(Part.whole(images, labels), RECIPE.validation_count)


@pytest.fixture(scope="module")
def chance(problem: Problem) -> Problem:
    """The same images with meaningless labels, so that no epoch stays the best for long."""
    random = np.random.default_rng(1)
    return tuple(dataclasses.replace(part, labels=random.permutation(part.labels)) for part in problem)


def run(problem: Problem, folder: Path, recipe: Recipe, resume: bool = False) -> tuple[keras.Model, Progress]:
    """Train a model from a fixed seed: model and progress."""
    keras.utils.set_random_seed(7)
    model = build(RECIPES["mnist-cnn"].net, (28, 28, 1), 10)
    return model, fit(model, *problem, recipe, seed=7, checkpoint=folder / "unfinished.npz", resume=resume)


def validation_accuracy(model: keras.Model, problem: Problem) -> float:
    _, validation = problem
    return float(np.mean(model.predict(validation.images, verbose=0).argmax(axis=1) == validation.labels))


def test_a_small_problem_is_learnt(problem: Problem, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=8, augmentation=None)
    model, progress = run(problem, tmp_path, recipe)
    assert validation_accuracy(model, problem) > 0.9
    assert [row["epoch"] for row in progress.history] == list(range(1, 9))
    assert progress.history[-1]["loss"] < progress.history[0]["loss"]


def test_the_weights_kept_are_those_of_the_best_epoch_not_the_last(chance: Problem, tmp_path: Path) -> None:
    model, progress = run(chance, tmp_path, dataclasses.replace(RECIPE, epochs=6, augmentation=None))
    by_epoch = [row["val_accuracy"] for row in progress.history]
    assert by_epoch[-1] < max(by_epoch)
    assert progress.best_epoch == 1 + int(np.argmax(by_epoch))
    assert validation_accuracy(model, chance) == pytest.approx(max(by_epoch))
    assert progress.final_accuracy == pytest.approx(max(by_epoch))


def test_a_recipe_can_keep_a_last_epoch_that_is_not_the_best(chance: Problem, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=6, augmentation=None, keeps_last=True)
    model, progress = run(chance, tmp_path, recipe)
    by_epoch = [row["val_accuracy"] for row in progress.history]
    assert by_epoch[-1] < max(by_epoch)
    assert progress.best_epoch == 6
    assert validation_accuracy(model, chance) == pytest.approx(by_epoch[-1])


def test_after_augmentation_the_classes_are_balanced(problem: Problem) -> None:
    """The net starts with nearly all answers of one class, so that a balance surely helps."""
    train, _ = problem
    model = build((Flatten(),), (28, 28, 1), 10)
    model.get_layer("logits").bias.assign(4 * np.eye(10, dtype=np.float32)[0])
    progress = Progress(SETTINGS, best_weights=model.get_weights())
    finish(model, *problem, RECIPE, progress)
    assert progress.is_balanced
    shares = np.bincount(train.labels, minlength=10) / len(train)
    np.testing.assert_allclose(model.predict(train.images, verbose=0).mean(axis=0), shares, atol=1e-4)
    assert progress.final_accuracy == validation_accuracy(model, problem)


def test_a_balance_that_costs_validation_accuracy_is_undone(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> None:
        model.get_layer("logits").bias.assign(1000 * np.eye(10, dtype=np.float32)[0])  # all answers become 0

    monkeypatch.setattr("train.fitting.fit.balance_classes", spoil)
    model, progress = run(problem, tmp_path, RECIPE)
    assert not progress.is_balanced
    assert progress.final_accuracy == validation_accuracy(model, problem) == pytest.approx(progress.best_accuracy)


def test_the_accuracy_of_a_mirroring_net_is_that_of_both_sides(
    problem: Problem,
) -> None:
    is_left = (np.arange(28) < 14)[:, None]  # so that the sides differ
    train, validation = (dataclasses.replace(part, images=part.images * is_left) for part in problem)
    recipe = dataclasses.replace(RECIPE, mirrors=True)
    model = build((Flatten(),), (28, 28, 1), 10)
    progress = Progress(SETTINGS, best_weights=model.get_weights())
    finish(model, train, validation, recipe, progress)
    assert progress.is_balanced
    answers = complete(model, mirrors=True).predict_on_batch(validation.images)
    assert progress.final_accuracy == np.mean(answers.argmax(axis=1) == validation.labels)


def test_a_calibration_needs_enough_validation_images(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(RECIPE, augmentation=None)
    before, progress = run(problem, tmp_path / "few", recipe)
    assert progress.calibration is None
    monkeypatch.setattr("train.fitting.fit.CALIBRATION_LEAST", recipe.validation_count)
    after, progress = run(problem, tmp_path / "enough", recipe)
    assert progress.calibration is not None
    assert progress.calibration.temperature != 1
    assert progress.calibration.smoothing == recipe.label_smoothing
    for old, new in zip(before.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_allclose(old, new, rtol=1e-4)  # `complete` adds the calibration only later


def test_a_net_trained_on_crops_is_calibrated_on_moved_images(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, validation = problem
    crop = Crop(shift_pixels=3)
    recipe = dataclasses.replace(RECIPE, augmentation=crop, mirrors=True)
    model = build((Flatten(),), (28, 28, 1), 10)
    moved, truth = move_often(validation.images, crop, 4), np.tile(validation.labels, 4)
    expected = calibrate(predict_logits(model, moved, mirrors=True), truth, recipe.label_smoothing)
    plain = calibrate(predict_logits(model, validation.images, mirrors=True), validation.labels, recipe.label_smoothing)
    monkeypatch.setattr("train.fitting.fit.CALIBRATION_LEAST", 1)
    progress = Progress(SETTINGS, best_weights=model.get_weights())
    finish(model, *problem, recipe, progress)
    assert progress.calibration == expected != plain


def test_the_smoothing_by_a_teacher_is_fitted(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    _, validation = problem
    recipe = dataclasses.replace(RECIPE, augmentation=None, label_smoothing=0.2, distillation=Distillation("file"))
    model = build((Flatten(),), (28, 28, 1), 10)
    logits = predict_logits(model, validation.images)
    assert calibrate(logits, validation.labels, None) != calibrate(logits, validation.labels, 0.2)
    monkeypatch.setattr("train.fitting.fit.CALIBRATION_LEAST", 1)
    progress = Progress(SETTINGS, best_weights=model.get_weights())
    finish(model, *problem, recipe, progress)
    assert progress.calibration == calibrate(logits, validation.labels, None)


def test_an_interrupted_and_resumed_run_ends_as_any_other(problem: Problem, tmp_path: Path) -> None:
    """Order, dropout, augmentation, Adam's moments, schedule and best epoch all continue."""
    whole, expected = run(problem, tmp_path / "whole", RECIPE)
    with redirect_stdout(Interrupting("epoch 2 of 3")), pytest.raises(KeyboardInterrupt):
        run(problem, tmp_path / "parts", RECIPE)
    parts, found = run(problem, tmp_path / "parts", RECIPE, resume=True)
    assert [row["epoch"] for row in found.history] == [1, 2, 3]
    assert found.best_epoch == expected.best_epoch
    for row, expected_row in zip(found.history, expected.history, strict=True):
        assert row["loss"] == pytest.approx(expected_row["loss"], rel=1e-4)
    for weight, expected_weight in zip(parts.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected_weight, atol=1e-4)


def test_a_run_that_stops_early_keeps_its_best_weights_and_stays_stopped(chance: Problem, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=20, augmentation=None, patience=2)
    model, progress = run(chance, tmp_path, recipe)
    by_epoch = [row["val_accuracy"] for row in progress.history]
    assert 2 < len(by_epoch) < 20
    assert 1 + int(np.argmax(by_epoch)) == len(by_epoch) - 2
    assert validation_accuracy(model, chance) == pytest.approx(max(by_epoch))
    again, resumed = run(chance, tmp_path, recipe, resume=True)
    assert resumed.history == progress.history
    for weight, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_patience_does_not_change_the_epochs_before_the_end(problem: Problem, tmp_path: Path) -> None:
    """The schedule is that of all epochs, so that both runs can be compared."""
    _, patient = run(problem, tmp_path / "patient", dataclasses.replace(RECIPE, patience=2))
    _, whole = run(problem, tmp_path / "whole", RECIPE)
    for row, expected in zip(patient.history, whole.history, strict=False):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def test_a_validation_part_of_another_size_is_refused(problem: Problem, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wanted 99 images for validation, found 100"):
        run(problem, tmp_path, dataclasses.replace(RECIPE, validation_count=99))


def test_a_finished_fit_can_be_resumed_to_export_again(problem: Problem, tmp_path: Path) -> None:
    """An interruption before the export costs no training: the best weights come back."""
    model, progress = run(problem, tmp_path, dataclasses.replace(RECIPE, epochs=2))
    again, resumed = run(problem, tmp_path, dataclasses.replace(RECIPE, epochs=2), resume=True)
    assert resumed.history == progress.history
    for weight, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_fit_leaves_one_file_and_no_temporary_ones(problem: Problem, tmp_path: Path) -> None:
    run(problem, tmp_path, dataclasses.replace(RECIPE, epochs=1))
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished.npz"]


def test_training_in_bfloat16_learns_too(problem: Problem, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = build(RECIPES["mnist-mlp"].net, (28, 28, 1), 10, "mixed_bfloat16")
    recipe = dataclasses.replace(RECIPE, augmentation=None)
    progress = fit(model, *problem, recipe, seed=0, checkpoint=tmp_path / "unfinished.npz")
    assert progress.best_accuracy > 0.8
    assert progress.settings == Settings(recipe, 0, "bfloat16")


def test_the_settings_have_the_precision_of_the_model(problem: Problem, tmp_path: Path) -> None:
    """`auto` may choose another precision on the machine that resumes the run."""
    _, progress = run(problem, tmp_path, RECIPE)
    assert progress.settings == Settings(RECIPE, 7, "float32")
