"""`train.fitting.degradation`: every kind changes images as its formula says, and a seed repeats it."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from train.fitting.augmentation.crop import Cropper
from train.fitting.degradation.apply import degrade, list_kinds
from train.fitting.degradation.files import HIGHEST_QUALITY, QUALITY_STEP, compress, lose_pixels, reduce_palette
from train.fitting.degradation.grids import filter_each, find_sources, interpolate, make_kernels, turn_and_scale
from train.fitting.degradation.tones import LUMA, add_noise, change_light, take_colours
from train.recipes.recipe import Crop, Degradation

SETTINGS = Degradation()
CIFAR_10_C_QUALITIES = {80, 65, 58, 50, 40}


def draw_images(count: int = 60, channels: int = 3) -> np.ndarray:
    """Smooth images uint8 [N, 16, 16, C] with an edge."""
    random = np.random.default_rng(0)
    images = np.linspace(60, 180, 16)[None, :, None, None] + random.uniform(-30, 30, (count, 1, 1, channels))
    images = np.repeat(images, 16, axis=2)
    images[:, :, 8:] += 20
    return images.astype(np.uint8)


def draw_values(count: int = 60) -> np.ndarray:
    return draw_images(count).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_keep_shape_and_type_and_a_seed_repeats_them(channels: int) -> None:
    images = draw_images(channels=channels)
    first, again, other = (degrade(images, SETTINGS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first.shape, first.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_about_the_share_of_the_images_is_changed(share: float) -> None:
    images = draw_images(400)
    changed = degrade(images, dataclasses.replace(SETTINGS, share=share), np.random.default_rng(0)) != images
    assert changed.any(axis=(1, 2, 3)).mean() == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_changes_most_images_and_keeps_their_shape(channels: int) -> None:
    values = draw_images(channels=channels).astype(np.float32)
    for kind in list_kinds(SETTINGS, channels):
        changed = kind(values, np.random.default_rng(0))
        assert changed.shape == values.shape
        assert (changed != values).any(axis=(1, 2, 3)).mean() > 0.8


def test_the_crops_of_an_epoch_are_degraded_before_their_squares_are_made() -> None:
    images, places = draw_images(), np.arange(60)
    plain, degraded = (
        Cropper(Crop(0, cutout, degradation), places, seed=0, epoch=0)(images, places)
        for cutout, degradation in ((0, None), (6, SETTINGS))
    )
    assert ((degraded == 128).all(axis=3).sum(axis=(1, 2)) >= 36).all()
    assert (plain != degraded).mean() > 0.3


def test_noise_is_at_most_as_strong_as_the_limit() -> None:
    values = np.full((3000, 8, 8, 1), 128, np.float32)
    noise = add_noise(values, 20, np.random.default_rng(0)) - values
    is_gaussian = np.abs(noise).max(axis=(1, 2, 3)) < 120
    deviations = noise[is_gaussian].std(axis=(1, 2, 3))
    assert 17 < np.percentile(deviations, 97) < 21
    assert set(np.unique(noise[~is_gaussian])) <= {-128.0, 0.0, 127.0} | set(np.unique(noise[is_gaussian]))


def test_a_blur_of_a_point_is_its_kernel_and_keeps_the_sum() -> None:
    point = np.zeros((2, 15, 15, 1), np.float32)
    point[:, 7, 7] = 1
    kernels = make_kernels(np.array([0.5, 1.2]), np.array([0.5, 0.3]), np.array([0.0, 0.7]))
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, rtol=1e-5)
    blurred = filter_each(point, kernels)[..., 0]
    np.testing.assert_allclose(blurred[:, 4:11, 4:11], kernels, atol=1e-6)
    ratio = kernels[0, 3, 4] / kernels[0, 3, 3]
    assert ratio == pytest.approx(np.exp(-0.5 / 0.5**2), rel=1e-4)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_quarter_turn_is_exact(quarters: int) -> None:
    values = np.random.default_rng(0).uniform(0, 255, (1, 9, 9, 3)).astype(np.float32)
    down, right = find_sources(np.array([quarters * np.pi / 2]), np.array([1.0]), (9, 9))
    np.testing.assert_allclose(interpolate(values, down, right)[0], np.rot90(values[0], -quarters), atol=1e-2)


def test_a_smaller_scale_leaves_a_margin_of_one_colour_or_the_border() -> None:
    values = np.full((200, 15, 15, 3), 100, np.float32)
    small = turn_and_scale(values, 0, 0.5, np.random.default_rng(0))
    np.testing.assert_allclose(small[:, 7, 7], 100, rtol=1e-5)
    corners = small[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, np.repeat(corners[:, :1], 4, axis=1), rtol=1e-5)
    has_margin = (np.abs(corners[:, 0] - 100) > 0.5).any(axis=1)
    assert 0.2 < has_margin.mean() < 0.6


def test_grey_images_have_the_luma_of_their_colours() -> None:
    values = draw_values(3)
    np.testing.assert_allclose(take_colours(values), np.repeat((values @ LUMA)[..., None], 3, axis=3), rtol=1e-5)


def test_light_keeps_the_order_of_an_images_grey_values() -> None:
    greys = np.repeat(np.arange(0, 256, 2, dtype=np.float32), 2).reshape(1, 16, 16, 1).repeat(20, axis=0)
    lit = change_light(greys, 0.2, np.random.default_rng(0))
    assert (np.diff(lit.reshape(20, -1), axis=1) >= -1e-3).all()
    assert (lit != greys).any(axis=(1, 2, 3)).all()


def test_qualities_of_jpeg_are_none_that_the_benchmark_measures() -> None:
    qualities = range(SETTINGS.jpeg_quality, HIGHEST_QUALITY + 1, QUALITY_STEP)
    assert not CIFAR_10_C_QUALITIES & set(qualities)
    images = draw_images(1)
    possible = []
    for quality in qualities:
        for subsampling in (0, 2):
            buffer = io.BytesIO()
            Image.fromarray(images[0]).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
            possible.append(np.asarray(Image.open(buffer)))
    found = compress(images.astype(np.float32), SETTINGS.jpeg_quality, np.random.default_rng(4))[0]
    assert any((found == each).all() for each in possible)


def test_a_palette_has_few_levels_or_the_colours_of_the_web() -> None:
    reduced = reduce_palette(draw_values(), np.random.default_rng(0))
    web = {0, 51, 102, 153, 204, 255}
    for image in reduced:
        assert len(np.unique(image[..., 0])) <= 8 or set(np.unique(image)) <= web


def test_lost_pixels_cannot_be_had_back() -> None:
    values = np.random.default_rng(0).uniform(0, 255, (40, 16, 16, 3)).astype(np.float32)
    assert lose_pixels(values, np.random.default_rng(0)).var() < 0.8 * values.var()
