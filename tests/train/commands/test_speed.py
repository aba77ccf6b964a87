"""`train.speed`: both ways train the same net, in turn, on as many images as they report."""

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from train.commands import speed
from train.nets.build import build, take_logits
from train.recipes.net import Conv, Drop, Flatten
from train.recipes.shipped import RECIPES

RECIPE = dataclasses.replace(RECIPES["cifar10-cnn"], net=(Conv(2), Flatten()), batch_size=8)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """32 images and one-hot labels of four classes."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (32, 16, 16, 3), np.uint8), keras.utils.to_categorical(np.arange(32) % 4)


def test_the_generator_has_the_recipes_ranges() -> None:
    generator = speed.make_generator(RECIPE)
    assert (generator.rotation_range, generator.width_shift_range, generator.height_shift_range) == (10, 0.1, 0.1)
    assert list(generator.zoom_range) == [0.8, 1.2]
    assert generator.horizontal_flip is True


def test_our_way_trains_on_as_many_images_as_it_says(data: tuple[np.ndarray, np.ndarray]) -> None:
    assert speed.make_our_step(RECIPE, *data, 2, "float32")() == 16
    assert speed.make_our_step(RECIPE, *data, 99, "float32")() == 32


def test_the_notebooks_way_trains_on_as_many_images_as_it_says(data: tuple[np.ndarray, np.ndarray]) -> None:
    step = speed.make_notebook_step(RECIPE, *data, 2)
    assert [step(), step()] == [16, 16]


def test_the_notebooks_way_convolves_and_drops_as_keras_does() -> None:
    model = take_logits(build((Conv(4), Drop(0.3), Flatten()), (8, 8, 3), 2))
    plain = speed.make_plain(model)
    kinds = [type(layer) for layer in plain.layers if "conv" in layer.name or "drop" in layer.name]
    assert kinds == [keras.layers.Conv2D, keras.layers.Dropout]
    assert plain.layers[-3].rate == 0.3
    assert (plain.count_params(), plain.output_shape) == (model.count_params(), model.output_shape)


def test_ways_are_measured_in_turn_and_the_first_round_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []
    ways = {name: lambda name=name: calls.append(name) or 10 for name in ("one", "other")}
    found = speed.measure_in_turn(ways, rounds=2)
    assert calls == ["one", "other"] * 3
    assert {name: len(rates) for name, rates in found.items()} == {"one": 2, "other": 2}
    assert capsys.readouterr().out.count("round ") == 4


def test_the_ratio_is_the_median_of_the_rounds_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    speed.report(RECIPE, "float32", {"ours": [10.0, 40.0, 30.0], "ImageDataGenerator": [10.0, 10.0, 10.0]})
    lines = capsys.readouterr().out.splitlines()
    assert "ratio 3.00 (from 1.00 to 4.00 in 3 rounds)" in lines
    assert json.loads(lines[-1])["ratio"] == 3.0


def test_without_scipy_the_command_says_what_to_install() -> None:
    program = "import sys; sys.modules['scipy'] = None; from train import speed; sys.exit(speed.main())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install scipy" in done.stderr


def test_a_recipe_without_affine_augmentation_is_bad_usage() -> None:
    command = [sys.executable, "-m", "train.speed", "--model", "mnist-cnn"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "invalid choice: 'mnist-cnn'" in done.stderr
