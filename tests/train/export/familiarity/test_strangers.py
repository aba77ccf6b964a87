"""`train.export.familiarity.strangers`: made strangers are inputs of the model, and the same for a seed."""

import numpy as np
import pytest

from serve.model_file.spec import InputSpec, PrepareSpec
from train.export.familiarity.strangers import blend, exchange_parts, make_strangers

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
