"""`train.recipes.shipped`: the settings that the notebooks state, and what every recipe needs."""

import dataclasses
import json

import onnx
import pytest

from serve.images.policies.find import find_policy
from serve.model_file.spec import COLOUR_CHANNELS, InputSpec, from_metadata
from tests.support import ROOT
from train.data.datasets import SOURCES
from train.recipes.recipe import Augmentation, Recipe, describe
from train.recipes.shipped import NOTEBOOK_AUGMENTATION, RECIPES

MODELS = ROOT / "models"
SHAPES = {"mnist": ((28, 28, 1), "grey"), "cifar10": ((32, 32, 3), "rgb")}


@pytest.fixture(params=list(RECIPES))
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return RECIPES[request.param]


@pytest.mark.parametrize(
    ("name", "epochs", "batch_size", "augmentation"),
    [
        ("mnist-mlp", 10, 128, None),
        ("mnist-cnn", 10, 128, None),
        ("cifar10-mlp", 20, 1000, NOTEBOOK_AUGMENTATION),
        ("cifar10-cnn", 20, 1000, NOTEBOOK_AUGMENTATION),
    ],
)
def test_epochs_batch_size_and_augmentation_are_the_notebooks(
    name: str, epochs: int, batch_size: int, augmentation: Augmentation | None
) -> None:
    found = RECIPES[name]
    assert (found.epochs, found.batch_size, found.augmentation) == (epochs, batch_size, augmentation)


def test_the_notebooks_augmentation_has_the_stated_ranges() -> None:
    assert Augmentation(rotation_degrees=10, shift=0.1, zoom=0.2, horizontal_flip=True) == NOTEBOOK_AUGMENTATION


def test_a_recipe_names_a_known_dataset_and_itself(recipe: Recipe) -> None:
    assert recipe.dataset in SOURCES
    assert RECIPES[recipe.name] is recipe


def test_the_server_knows_the_recipes_preparation(recipe: Recipe) -> None:
    shape, colour = SHAPES[recipe.dataset]
    assert COLOUR_CHANNELS[colour] == shape[2]
    assert callable(find_policy(recipe.prepare, InputSpec(shape, "uint8", colour)))


def test_the_measured_accuracy_is_that_of_the_shipped_file(recipe: Recipe) -> None:
    metadata = onnx.load(MODELS / recipe.name / "1" / "model.onnx").metadata_props
    spec = from_metadata({entry.key: entry.value for entry in metadata})
    assert recipe.measured_accuracy == spec.test_accuracy


def test_the_shipped_file_reaches_its_recipes_target(recipe: Recipe) -> None:
    assert recipe.measured_accuracy >= recipe.target_accuracy


def test_a_recipe_can_be_written_as_json(recipe: Recipe) -> None:
    assert json.loads(json.dumps(describe(recipe)))["epochs"] == recipe.epochs


def test_a_recipe_cannot_be_changed_in_place(recipe: Recipe) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 1  # type: ignore[misc]
