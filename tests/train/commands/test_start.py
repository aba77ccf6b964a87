"""Runs that start from a file, learn from one, keep averages, and look twice where they are unsure: the whole way."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from serve.errors import ModelFileError
from tests.train.commands.test_default_recipe import CALIBRATION_LEAST, LABELS, RECIPE, draw_spots, make_flags
from train.commands.recipe import parse_flags, restore, train_recipe
from train.commands.start import read_initial, start_from, teach
from train.data.datasets import Dataset, Part, split
from train.export.onnx_file import read_model_file, run_onnx
from train.export.passes.second_view import remove_second_view
from train.recipes.net import Flatten
from train.recipes.recipe import Crop, Degradation, Distillation, Recipe, Tuning
from train.recipes.shipped import CANDIDATES, RECIPES

pytestmark = pytest.mark.slow  # these tests share a training

ROBUST = dataclasses.replace(
    RECIPE,
    epochs=1,
    mirrors=False,
    second_view_share=0.3,
    averaging=0.9,
    augmentation=Crop(1, 4, Degradation(share=0.3)),
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    training, test = draw_spots(CALIBRATION_LEAST + 500, seed=0), draw_spots(100, seed=1, brightness=150)
    parts = split(Part.whole(*training), RECIPE.validation_count)
    return Dataset("cifar10", *parts, Part.whole(*test), LABELS)


@pytest.fixture(scope="module")
def file(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run of two epochs."""
    out = tmp_path_factory.mktemp("runs")
    recipe = dataclasses.replace(ROBUST, epochs=2)
    return train_recipe(recipe, dataset, make_flags(out), out / "unfinished.npz").path.parents[1] / "1" / "model.onnx"


def test_a_run_may_start_from_a_file_and_learn_from_it(file: Path, dataset: Dataset, tmp_path: Path) -> None:
    recipe = start_from(ROBUST, file, file)
    train_recipe(recipe, dataset, make_flags(tmp_path), tmp_path / "unfinished.npz")
    data, spec = read_model_file(tmp_path / recipe.name / "1" / "model.onnx")
    assert (spec.recipe["initial"], spec.recipe["distillation"]["teacher"]) == (str(file), str(file))
    assert spec.recipe["second_view"]["share"] == pytest.approx(0.3, abs=0.02)
    assert remove_second_view(onnx.load_from_string(data))[1] == np.float32(spec.recipe["second_view"]["below"])
    assert spec.recipe["averaged"] in (True, False)
    card = (tmp_path / recipe.name / "1" / "README.md").read_text()
    assert "million multiply-adds. The mirror image is looked at" in card


def test_a_run_ends_with_its_tuning_and_from_a_file_is_that_alone(file: Path, dataset: Dataset, tmp_path: Path) -> None:
    tuned = dataclasses.replace(ROBUST, tuning=Tuning(1, 0.01, Crop(1, 2, Degradation(share=0.5))))
    for version, (recipe, epochs) in enumerate(((tuned, 2), (start_from(tuned, file, None), 1)), 1):
        train_recipe(recipe, dataset, make_flags(tmp_path), tmp_path / "unfinished.npz")
        folder = tmp_path / recipe.name / str(version)
        _, spec = read_model_file(folder / "model.onnx")
        assert len((folder / "history.csv").read_text().splitlines()) == 1 + epochs
        assert (spec.recipe["tuning"]["epochs"], spec.recipe["tuning"]["augmentation"]["cutout_pixels"]) == (1, 2)


def test_the_weights_of_a_file_give_its_answers_before_any_training(file: Path, dataset: Dataset) -> None:
    model = read_initial(dataclasses.replace(ROBUST, initial=str(file)), dataset)
    graph, _ = remove_second_view(onnx.load(file))
    expected = run_onnx(graph.SerializeToString(), dataset.test.images).argmax(axis=1)
    found = np.asarray(model(dataset.test.images)).argmax(axis=1)
    assert (found == expected).mean() > 0.98


def test_a_file_of_another_net_is_no_start(file: Path, dataset: Dataset) -> None:
    with pytest.raises(ModelFileError, match="is of another net"):
        read_initial(dataclasses.replace(ROBUST, net=(Flatten(),), initial=str(file)), dataset)


def test_a_teacher_of_other_classes_is_refused(file: Path, dataset: Dataset) -> None:
    other = dataclasses.replace(dataset, labels={"en": ("one", "two", "three")})
    with pytest.raises(ModelFileError, match="wanted a model of the classes"):
        teach(dataclasses.replace(ROBUST, distillation=Distillation(str(file))), other)


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_recipe_that_was_not_trained_yet_states_no_accuracy(name: str) -> None:
    recipe: Recipe = CANDIDATES[name]
    assert name not in RECIPES
    assert (recipe.name, recipe.measured_accuracy) == (name, 0.0)


def test_flags_name_both_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["cifar", "--initial", "one.onnx", "--teacher", "two.onnx"])
    flags = parse_flags("cifar", "cifar10")
    recipe = start_from(RECIPES["cifar10"], flags.initial, flags.teacher)
    assert (recipe.initial, recipe.distillation) == ("one.onnx", Distillation("two.onnx"))


def test_a_recipe_that_started_from_a_file_is_not_the_shipped_one() -> None:
    recipe = RECIPES["cifar10"]
    settings = {"epochs": recipe.epochs, "augmentation": {"kind": "crop"}, "tuning": {"epochs": 2}}
    assert restore(recipe, settings) == recipe
    assert restore(recipe, settings | {"initial": "one.onnx"}) != recipe
    assert restore(recipe, settings | {"distillation": {"teacher": "two.onnx"}}) != recipe
