"""`train.recipes.notebooks`: the rows equal those of the notebooks and of the page that lists them."""

import re

import keras
import pytest

from tests.support import ROOT
from train.nets.build import build
from train.recipes.net import spell
from train.recipes.notebooks import ALL, NOTEBOOKS
from train.recipes.recipe import Adam, Recipe
from train.recipes.shipped import CANDIDATES, DIGIT, NOTEBOOK_AUGMENTATION, PHOTO, QUICK, RECIPES

PAGE = ROOT / "docs/training/notebooks.md"
SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
SHIPPED_ROWS = ("mnist-mlp", "mnist-cnn", "cifar10-mlp", "cifar10-cnn")
BLOCKS = (27 + 1) * 16 + (9 * 16 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128
UNPADDED = (27 + 1) * 32 + (9 * 32 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 64


@pytest.fixture(params=list(NOTEBOOKS))
def row(request: pytest.FixtureRequest) -> Recipe:
    return NOTEBOOKS[request.param]


def make(recipe: Recipe) -> keras.Model:
    return build(recipe.net, SHAPES[recipe.dataset], 10, name=recipe.name)


@pytest.mark.parametrize(
    ("name", "epochs", "target_accuracy"),
    [
        ("mnist-cnn-unpooled", 12, 0.989),
        ("mnist-cnn-mean", 10, 0.0),
        ("mnist-cnn-flat", 10, 0.0),
        ("cifar10-mlp-5", 5, 0.3927),
        ("cifar10-cnn-753", 10, 0.0),
        ("cifar10-cnn-unpadded", 5, 0.573),
        ("cifar10-cnn-unpadded-drop15", 5, 0.5721),
        ("cifar10-cnn-5", 5, 0.606),
        ("cifar10-cnn-conv200", 5, 0.5457),
        ("cifar10-cnn-10", 10, 0.6575),
        ("cifar10-cnn-dense256", 10, 0.6527),
    ],
)
def test_the_epochs_and_the_figure_to_reach_are_the_notebooks(name: str, epochs: int, target_accuracy: float) -> None:
    assert (NOTEBOOKS[name].epochs, NOTEBOOKS[name].target_accuracy) == (epochs, target_accuracy)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "mnist-cnn-unpooled",
            "conv 32 3x3 unpadded, conv 64 3x3 unpadded, dropout 0.25, flatten, dense 128, dropout 0.5",
        ),
        ("mnist-cnn-mean", "conv 32 3x3, pool 2, conv 64 3x3, pool 2, dropout 0.5, mean"),
        ("mnist-cnn-flat", "conv 32 3x3, pool 2, conv 64 3x3, pool 2, dropout 0.5, flatten"),
        ("cifar10-mlp-5", "flatten, dense 128, dense 64, dense 32"),
        (
            "cifar10-cnn-753",
            (
                "conv 32 7x7, pool 2, conv 64 5x5, pool 2, conv 128 3x3, pool 2, dropout 0.25, "
                "flatten, dense 128, dropout 0.5"
            ),
        ),
        (
            "cifar10-cnn-unpadded",
            (
                "conv 32 3x3, conv 32 3x3 unpadded, pool 2, dropout 0.25, "
                "conv 64 3x3, conv 64 3x3 unpadded, pool 2, dropout 0.25, flatten, dense 512, dropout 0.5"
            ),
        ),
        (
            "cifar10-cnn-unpadded-drop15",
            (
                "conv 32 3x3, conv 32 3x3 unpadded, pool 2, dropout 0.15, "
                "conv 64 3x3, conv 64 3x3 unpadded, pool 2, dropout 0.15, flatten, dense 512, dropout 0.15"
            ),
        ),
        (
            "cifar10-cnn-conv200",
            (
                "conv 16 3x3, conv 32 3x3, pool 2, dropout 0.25, conv 64 3x3, conv 128 3x3, pool 2, dropout 0.25, "
                "conv 200 3x3, pool 2, flatten, dense 512, dropout 0.5"
            ),
        ),
        (
            "cifar10-cnn-dense256",
            (
                "conv 16 3x3, conv 32 3x3, pool 2, dropout 0.25, conv 64 3x3, conv 128 3x3, pool 2, dropout 0.25, "
                "flatten, dense 512, dense 256, dropout 0.5"
            ),
        ),
    ],
)
def test_a_net_is_the_notebooks_layer_by_layer(name: str, line: str) -> None:
    assert spell(NOTEBOOKS[name].net) == line


@pytest.mark.parametrize("name", ["cifar10-cnn-5", "cifar10-cnn-10"])
def test_the_shorter_runs_are_of_the_net_that_ships(name: str) -> None:
    assert NOTEBOOKS[name].net == RECIPES["cifar10-cnn"].net


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mnist-cnn-unpooled", 320 + (9 * 32 + 1) * 64 + (24 * 24 * 64 + 1) * 128 + (128 + 1) * 10),
        ("mnist-cnn-mean", 320 + (9 * 32 + 1) * 64 + (64 + 1) * 10),
        ("mnist-cnn-flat", 320 + (9 * 32 + 1) * 64 + (7 * 7 * 64 + 1) * 10),
        ("cifar10-mlp-5", (3072 + 1) * 128 + (128 + 1) * 64 + (64 + 1) * 32 + (32 + 1) * 10),
        (
            "cifar10-cnn-753",
            (49 * 3 + 1) * 32 + (25 * 32 + 1) * 64 + (9 * 64 + 1) * 128 + (4 * 4 * 128 + 1) * 128 + (128 + 1) * 10,
        ),
        ("cifar10-cnn-unpadded", UNPADDED + (6 * 6 * 64 + 1) * 512 + (512 + 1) * 10),
        ("cifar10-cnn-unpadded-drop15", UNPADDED + (6 * 6 * 64 + 1) * 512 + (512 + 1) * 10),
        ("cifar10-cnn-5", BLOCKS + (8 * 8 * 128 + 1) * 512 + (512 + 1) * 10),
        ("cifar10-cnn-conv200", BLOCKS + (9 * 128 + 1) * 200 + (4 * 4 * 200 + 1) * 512 + (512 + 1) * 10),
        ("cifar10-cnn-10", BLOCKS + (8 * 8 * 128 + 1) * 512 + (512 + 1) * 10),
        ("cifar10-cnn-dense256", BLOCKS + (8 * 8 * 128 + 1) * 512 + (512 + 1) * 256 + (256 + 1) * 10),
    ],
)
def test_a_net_has_the_parameters_of_its_layers_counted_by_hand(name: str, count: int) -> None:
    assert make(NOTEBOOKS[name]).count_params() == count


def test_batch_augmentation_and_preparation_are_those_of_the_dataset(row: Recipe) -> None:
    wanted = {"mnist": (128, None, DIGIT), "cifar10": (1000, NOTEBOOK_AUGMENTATION, PHOTO)}
    assert (row.batch_size, row.augmentation, row.prepare) == wanted[row.dataset]


def test_optimizer_rate_and_smoothing_are_those_of_the_shipped_siblings(row: Recipe) -> None:
    sibling = RECIPES[f"{row.dataset}-mlp"]
    rates = {"mnist": 2e-3, "cifar10": 3e-3}
    assert (row.optimizer, row.peak_learning_rate) == (Adam(), rates[row.dataset])
    assert (row.label_smoothing, row.warmup_epochs) == (sibling.label_smoothing, sibling.warmup_epochs)


def test_the_best_of_all_epochs_is_kept(row: Recipe) -> None:
    assert (row.keeps_last, row.mirrors, row.patience) == (False, False, None)


def test_every_recipe_has_a_name_of_its_own() -> None:
    assert not RECIPES.keys() & NOTEBOOKS.keys()
    assert list(ALL) == [*RECIPES, *QUICK, *CANDIDATES, *NOTEBOOKS]
    assert all(recipe.name == name for name, recipe in ALL.items())


def read_page() -> dict[str, list[str]]:
    """Model name -> the cells of its row in the page's table. The name ends the command."""
    lines = re.findall(r"^\| (.*) \| `(python -m train\.\w+ --model (\S+))` \|$", PAGE.read_text(), re.MULTILINE)
    return {name: [*cells.split(" | "), command] for cells, command, name in lines}


def test_the_page_has_every_row_with_its_command() -> None:
    page = read_page()
    assert sorted(page) == sorted([*SHIPPED_ROWS, *NOTEBOOKS])
    for name, (*_, command) in page.items():
        assert command.split()[2] == {"mnist": "train.mnist", "cifar10": "train.cifar"}[ALL[name].dataset]


@pytest.mark.parametrize("name", [*SHIPPED_ROWS, *NOTEBOOKS])
def test_the_pages_parameters_and_epochs_are_the_recipes(name: str) -> None:
    experiment, _, _, parameters, *_ = read_page()[name]
    assert parameters == f"{make(ALL[name]).count_params():,}"
    assert experiment.endswith(f", {ALL[name].epochs} epochs")


def test_the_pages_figures_are_the_recipes(row: Recipe) -> None:
    _, notebook, ours, *_ = read_page()[row.name]
    assert notebook == (f"{row.target_accuracy:.4f}" if row.target_accuracy else "none")
    assert ours == f"{row.measured_accuracy:.4f}"


@pytest.mark.parametrize("name", SHIPPED_ROWS)
def test_the_pages_figures_of_shipped_models_are_those_of_their_files(name: str) -> None:
    assert read_page()[name][2] == f"{RECIPES[name].measured_accuracy:.4f}"
