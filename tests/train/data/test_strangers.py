"""`train.data.strangers`: made strangers are inputs of the model, and the same for a seed."""

import numpy as np
import pytest

from serve.model_file.spec import InputSpec, PrepareSpec
from train.data.strangers import blend, exchange_parts, make_strangers, scatter_waves, show_strangers

GREY = InputSpec((28, 28, 1), "uint8", "grey"), PrepareSpec("digit", 1, {"box": 20})
RGB = InputSpec((32, 32, 3), "uint8", "rgb"), PrepareSpec("photo", 1, {})


@pytest.mark.parametrize(("target", "prepare"), [GREY, RGB], ids=["grey", "rgb"])
def test_strangers_are_inputs_and_the_same_for_a_seed(target: InputSpec, prepare: PrepareSpec) -> None:
    held_out = np.random.default_rng(0).integers(0, 256, (9, *target.shape), np.uint8)
    made = make_strangers(held_out, target, prepare, count=6)
    again, other = (make_strangers(held_out, target, prepare, count=6, seed=seed) for seed in (0, 1))
    for kind, images in made.items():
        assert (images.shape, images.dtype) == ((6, *target.shape), np.uint8)
        assert np.array_equal(images, again[kind])
        assert not np.array_equal(images, other[kind]) or kind == "empty pages"


def test_a_blend_is_the_mean() -> None:
    images = np.array([[[[0]], [[255]], [[3]]]], np.uint8)
    assert blend(images, np.full_like(images, 255)).ravel().tolist() == [128, 255, 129]


def test_exchanged_parts_are_the_same_parts_elsewhere() -> None:
    images = np.arange(2 * 18 * 18, dtype=np.uint16).astype(np.uint8).reshape(2, 18, 18, 1)
    moved = exchange_parts(images, np.random.default_rng(0))
    assert (moved != images).any()
    assert np.array_equal(np.sort(moved, axis=None), np.sort(images, axis=None))
    assert np.array_equal(moved[:, 16:], images[:, 16:])


def test_scattered_waves_keep_the_mean_and_the_strengths_of_all_waves_but_show_something_else() -> None:
    images = np.random.default_rng(0).integers(100, 156, (2, 16, 16, 3), np.uint8)
    scattered = scatter_waves(images, np.random.default_rng(1))
    before, after = (np.abs(np.fft.fft2(each.astype(float), axes=(1, 2))) for each in (images, scattered))
    assert np.abs(images.astype(int) - scattered).mean() > 10
    assert after == pytest.approx(before, rel=0.02, abs=16)  # rounded to whole levels


def test_a_training_gets_as_many_strangers_of_each_kind_and_none_that_a_choice_is_made_by() -> None:
    held_out = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    shown = show_strangers(held_out, *RGB, count=10, seed=0)
    made = make_strangers(held_out, *RGB, count=2)
    assert len(shown) == 2 * (len(made) - 1)  # all kinds but blends
    seen = {image.tobytes() for image in shown}
    assert len(seen) == len(shown)
    assert not any(image.tobytes() in seen for images in made.values() for image in images)
