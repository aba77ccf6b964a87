"""`train.studies.catalogue`: each study changes only what its name says."""

import dataclasses
from typing import Any

import pytest

from train.data.sources import SOURCES
from train.nets.build import build
from train.recipes.net import Conv, Dense, Drop, Flatten, Pool
from train.recipes.recipe import Recipe
from train.studies.catalogue import BASES, STUDIES, Study, spell_value

SHAPES = {"cifar10": (32, 32, 3), "mnist": (28, 28, 1)}
CHANGED = {
    "width": {"net"},
    "depth": {"net"},
    "dropout": {"net"},
    "epochs": {"epochs"},
    "kernel": {"net"},
    "augmentation": {"augmentation"},
    "dense": {"net"},
    "metric": {"epochs"},
}


@pytest.fixture(params=list(STUDIES))
def study(request: pytest.FixtureRequest) -> Study:
    return STUDIES[request.param]


@pytest.fixture(params=list(BASES))
def base(request: pytest.FixtureRequest) -> Recipe:
    return BASES[request.param]


def find_fields(recipe: Recipe) -> dict[str, Any]:
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}


def count_parameters(recipe: Recipe) -> int:
    return int(build(recipe.net, SHAPES[recipe.dataset], 10).count_params())


def test_the_recipes_of_a_study_differ_only_in_the_named_thing(study: Study, base: Recipe) -> None:
    recipes = [find_fields(study.vary(base, value).recipe) for value in study.values]
    different = {name for name in recipes[0] if any(recipe[name] != recipes[0][name] for recipe in recipes)}
    assert different == CHANGED[study.name]


def test_values_are_different_trials_and_read_back_as_written(study: Study, base: Recipe) -> None:
    trials = [study.vary(base, value) for value in study.values]
    assert all(trial not in trials[:place] for place, trial in enumerate(trials))
    assert tuple(study.read(spell_value(value)) for value in study.values) == study.values


def test_a_base_has_no_measured_figure(base: Recipe) -> None:
    assert BASES[base.dataset] is base
    assert base.dataset in SOURCES
    assert (base.measured_accuracy, base.target_accuracy) == (0, 0)


def test_a_width_of_2_doubles_only_filters_and_dense_layers() -> None:
    trial = STUDIES["width"].vary(BASES["mnist"], 2.0)
    assert trial.recipe.net == (Conv(64, padding="valid"), Pool(), Drop(0.25), Flatten(), Dense(256), Drop(0.5))


def test_a_depth_of_2_doubles_only_the_convolutions() -> None:
    trial = STUDIES["depth"].vary(BASES["mnist"], 2.0)
    assert trial.recipe.net == (Conv(32, padding="valid"), Conv(32), *BASES["mnist"].net[1:])
    growth = count_parameters(trial.recipe) - count_parameters(BASES["mnist"])
    assert growth == 3 * 3 * 32 * 32 + 32


def test_dropout_and_kernel_reach_every_layer_of_their_kind() -> None:
    dropped, widened = (
        STUDIES[name].vary(BASES["cifar10"], value) for name, value in (("dropout", 0.4), ("kernel", 5))
    )
    assert {part.rate for part in dropped.recipe.net if isinstance(part, Drop)} == {0.4}
    assert {part.kernel for part in widened.recipe.net if isinstance(part, Conv)} == {5}


def test_the_value_that_is_the_bases_own_changes_nothing(base: Recipe) -> None:
    same = {"width": 1.0, "depth": 1.0, "kernel": 3.0, "dense": "convolution", "metric": "none", "epochs": base.epochs}
    assert all(STUDIES[name].vary(base, value).recipe == base for name, value in same.items())


def test_the_dense_net_has_about_as_many_parameters(base: Recipe) -> None:
    counts = [count_parameters(STUDIES["dense"].vary(base, value).recipe) for value in ("dense", "convolution")]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)
    assert not any(isinstance(part, Conv) for part in STUDIES["dense"].vary(base, "dense").recipe.net)


@pytest.mark.parametrize("epochs", [2, 7, 20])
def test_both_sides_of_metric_learning_have_the_same_epochs(epochs: int) -> None:
    base = dataclasses.replace(BASES["cifar10"], epochs=epochs)
    none, metric = (STUDIES["metric"].vary(base, value) for value in ("none", "metric"))
    assert (none.recipe.epochs, none.pretraining_epochs) == (epochs, 0)
    assert (metric.recipe.epochs + metric.pretraining_epochs, metric.pretraining_epochs) == (epochs, epochs // 2)


def test_digits_are_never_mirrored() -> None:
    flips = {name: STUDIES["augmentation"].vary(base, "on").recipe.augmentation for name, base in BASES.items()}
    assert {name: flip.horizontal_flip for name, flip in flips.items()} == {"cifar10": True, "mnist": False}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("width", text) for text in ("0", "-1", "17", "wide", "", "nan")),
        *(("depth", text) for text in ("0", "1.5", "9")),
        *(("dropout", text) for text in ("1", "-0.1")),
        *(("epochs", text) for text in ("0", "2.5", "inf")),
        *(("kernel", text) for text in ("2", "13")),
        *(("augmentation", "yes"), ("dense", "mlp"), ("metric", "On")),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_what_was_wanted(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"wanted .*; got '{text}'"):
        STUDIES[name].read(text)
