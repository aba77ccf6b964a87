"""`train.recipes.net` and `train.recipes.recipe`: a net as a line of text, and a recipe as JSON."""

import dataclasses
import json

from train.recipes.net import (
    Conv,
    Dense,
    Drop,
    Flatten,
    GlobalAverage,
    GlobalMax,
    NormConv,
    Pool,
    Residual,
    Whitening,
    spell,
)
from train.recipes.recipe import Crop, Muon, describe
from train.recipes.shipped import RECIPES


def test_a_net_is_written_part_by_part() -> None:
    net = (Whitening(), NormConv(64, pooled=True), NormConv(64), Conv(32, 5, "valid"), Conv(8), Pool(3), Drop(0.25))
    assert spell((*net, Residual(8), GlobalAverage(), GlobalMax(), Flatten(), Dense(9))) == (
        "whitening 2x2, conv 64 3x3 pool 2 norm gelu, conv 64 3x3 norm gelu, conv 32 5x5 unpadded, conv 8 3x3, "
        "pool 3, dropout 0.25, residual 8 3x3 3x3 norm gelu, mean, max, flatten, dense 9"
    )


def test_a_described_recipe_tells_optimizers_and_augmentations_apart() -> None:
    recipe = dataclasses.replace(RECIPES["cifar10-cnn"], optimizer=Muon(), augmentation=Crop(2))
    described = describe(recipe)
    assert described["optimizer"] == {"kind": "muon", **dataclasses.asdict(Muon())}
    assert described["augmentation"] == {
        "kind": "crop",
        "shift_pixels": 2,
        "cutout_pixels": 0,
        "degradation": None,
    }
    assert described["net"] == spell(recipe.net)


def test_a_description_is_json_and_the_same_after_it() -> None:
    for recipe in RECIPES.values():
        assert json.loads(json.dumps(describe(recipe))) == describe(recipe)


def test_no_augmentation_is_described_as_none() -> None:
    assert describe(RECIPES["mnist-cnn"])["augmentation"] is None
