"""`train.fitting.epochs.strangers`: a tuning shows images of no class, and a net learns to be unsure of them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from serve.model_file.spec import InputSpec, PrepareSpec
from train.data.datasets import Part
from train.data.strangers import show_strangers
from train.fitting.checkpoint import CannotResume
from train.fitting.epochs.strangers import Shown, add_strangers, count_strangers
from train.fitting.fit import fit
from train.nets import build
from train.nets.build import predict_logits
from train.recipes.net import Conv, GlobalMax, Net
from train.recipes.recipe import Adam, Crop, Recipe, Tuning

TUNING = Tuning(epochs=4, peak_learning_rate=0.01, augmentation=Crop(shift_pixels=1), strangers=100)
NET: Net = (Conv(8), GlobalMax())
RECIPE = Recipe(
    name="tiny",
    net=NET,
    dataset="bands",
    epochs=4,
    batch_size=50,
    augmentation=Crop(shift_pixels=1),
    peak_learning_rate=0.03,
    warmup_epochs=0,
    optimizer=Adam(),
    label_smoothing=0.0,
    validation_count=50,
    keeps_last=True,
    tuning=TUNING,
    prepare=PrepareSpec("photo", 1, {}),
    target_accuracy=0.0,
    measured_accuracy=0.0,
)


def make_part(count: int, seed: int) -> Part:
    """Images of two classes, red and green."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    images = random.integers(0, 40, (count, 16, 16, 3), np.uint8)
    images[np.arange(count), ..., labels] += 180
    return Part.whole(images, labels)


def test_strangers_come_behind_the_images_with_the_same_share_for_each_class() -> None:
    part = make_part(30, 0)
    own = Shown(part, np.eye(2)[part.labels], part.images[:, ::-1])
    shown = add_strangers(own, RECIPE, seed=0)
    count = len(shown.part) - 30
    assert count == count_strangers(RECIPE) >= TUNING.strangers
    assert np.array_equal(shown.part.images[:30], part.images)
    assert np.array_equal(shown.targets, np.concatenate([own.targets, np.full((count, 2), 0.5)]))
    assert len(np.unique(shown.part.places)) == len(shown.part)
    assert shown.drawn is not None
    assert np.array_equal(shown.drawn[30:], shown.part.images[30:])


@pytest.mark.parametrize("tuning", [None, dataclasses.replace(TUNING, strangers=0)], ids=["no tuning", "none wanted"])
def test_a_recipe_without_strangers_shows_its_own_images(tuning: Tuning | None) -> None:
    part = make_part(30, 0)
    own = Shown(part, np.eye(2)[part.labels], None)
    recipe = dataclasses.replace(RECIPE, tuning=tuning)
    assert add_strangers(own, recipe, seed=0) is own
    assert count_strangers(recipe) == 0


def test_a_run_that_cannot_be_resumed_says_so_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, model = (make_part(200, 0), make_part(50, 1)), build.build(RECIPE.net, (16, 16, 3), 2)
    with pytest.raises(CannotResume, match="nothing to resume"):
        fit(model, *parts, RECIPE, seed=0, checkpoint=tmp_path / "checkpoint", resume=True)
    assert "images of no class" not in capsys.readouterr().out


def test_a_net_that_saw_strangers_is_less_sure_of_others_and_as_right_about_its_own(tmp_path: Path) -> None:
    train, validation = make_part(200, 0), make_part(50, 1)
    others = show_strangers(
        validation.images, InputSpec((16, 16, 3), "uint8", "rgb"), RECIPE.prepare, count=200, seed=9
    )

    def measure(recipe: Recipe) -> tuple[float, float]:
        model = build.build(recipe.net, (16, 16, 3), 2)
        progress = fit(model, train, validation, recipe, seed=0, checkpoint=tmp_path / "checkpoint")
        margins = np.abs(np.diff(predict_logits(model, others), axis=1))
        return progress.final_accuracy, float(margins.mean())

    without, sure = measure(dataclasses.replace(RECIPE, tuning=dataclasses.replace(TUNING, strangers=0)))
    accuracy, unsure = measure(RECIPE)
    assert unsure < 0.7 * sure
    assert accuracy >= without - 0.02
