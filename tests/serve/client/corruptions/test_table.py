"""`serve.client.corruptions`: each corruption against the published formula, by other means or in closed form."""

import argparse
import colorsys
import io

import numpy as np
import pytest
from PIL import Image

from serve.client.corruptions import blurs, digital, noise, weather
from serve.client.corruptions.filters import (
    NEAREST,
    REFLECT,
    SYMMETRIC,
    blur,
    blur_along,
    correlate,
    fold,
    make_disk,
    zoom,
    zoom_in,
)
from serve.client.corruptions.report import read_names, summarize_table
from serve.client.corruptions.table import ALL, MEASURED, SEVERITIES, corrupt, corrupt_file
from serve.errors import InklingError

ndimage = pytest.importorskip("scipy.ndimage", reason="needs SciPy, whose filters made the published images")


def draw_pixels(seed: int = 0) -> np.ndarray:
    """A smooth picture with edges, uint8 [32, 32, 3]."""
    random = np.random.default_rng(seed)
    waves = np.sin(np.linspace(0, 6, 32))[:, None, None] * np.cos(np.linspace(0, 4, 32))[None, :, None]
    pixels = 120 + 60 * waves + random.uniform(-40, 40, 3)
    pixels[10:20, 5:15] += 50
    return np.clip(pixels, 0, 255).astype(np.uint8)


def draw_values() -> np.ndarray:
    return draw_pixels() / 255


def seeded() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("name", ALL)
def test_a_corruption_gets_stronger_with_its_severity_and_is_repeatable(name: str) -> None:
    pixels = draw_pixels()
    changed = [corrupt(pixels, name, severity, 3) for severity in SEVERITIES]
    assert all((each.shape, each.dtype) == ((32, 32, 3), np.uint8) for each in changed)
    np.testing.assert_array_equal(changed[2], corrupt(pixels, name, 3, 3))
    distances = [np.abs(each.astype(int) - pixels).mean() for each in changed]
    assert distances[4] > distances[0] or name in ("saturate", "elastic_transform")
    assert distances[4] > 1


def test_chance_differs_by_image_severity_and_corruption() -> None:
    pixels = draw_pixels()
    noises = [corrupt(pixels, "gaussian_noise", 1, number).astype(int) - pixels for number in (1, 2)]
    assert (noises[0] != noises[1]).any()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noises_have_their_published_spread(severity: int) -> None:
    values = np.full((200, 200, 3), 0.5)
    gaussian, shot, speckle = (
        kind(values, severity, seeded()) for kind in (noise.gaussian_noise, noise.shot_noise, noise.speckle_noise)
    )
    assert gaussian.std() == pytest.approx((0.04, 0.06, 0.08, 0.09, 0.1)[severity - 1], rel=0.02)
    assert shot.var() == pytest.approx(0.5 / (500, 250, 100, 75, 50)[severity - 1], rel=0.03)
    assert speckle.std() == pytest.approx(0.5 * (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1], rel=0.02)
    impulse = noise.impulse_noise(values, severity, seeded())
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    assert [(impulse == each).mean() for each in (0, 1)] == pytest.approx([share / 2] * 2, rel=0.1)


@pytest.mark.parametrize(("border", "mode"), [(NEAREST, "nearest"), (SYMMETRIC, "reflect"), (REFLECT, "mirror")])
@pytest.mark.parametrize("deviation", [0.05, 0.4, 1.0, 1.92])
def test_a_blur_is_scipys(border: str, mode: str, deviation: float) -> None:
    expected = ndimage.gaussian_filter(draw_values(), (deviation, deviation, 0), mode=mode, truncate=3)
    np.testing.assert_allclose(blur(draw_values(), deviation, border, 3), expected, atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.13, 1.25, 1.75, 2.25])
def test_a_zoom_is_scipys(factor: float) -> None:
    expected = ndimage.zoom(draw_values(), (factor, factor, 1), order=1)
    np.testing.assert_allclose(zoom(draw_values(), factor), expected, atol=1e-9)
    assert zoom_in(draw_values(), factor).shape == (32, 32, 3)


def test_a_correlation_is_scipys() -> None:
    kernel = np.arange(9.0).reshape(3, 3)
    expected = ndimage.correlate(draw_values(), kernel[..., None], mode="mirror")
    np.testing.assert_allclose(correlate(draw_values(), kernel), expected, atol=1e-9)


@pytest.mark.parametrize(("border", "mode"), [(SYMMETRIC, "symmetric"), (REFLECT, "reflect")])
def test_places_outside_are_folded_as_numpy_pads(border: str, mode: str) -> None:
    padded = np.pad(np.arange(9), 8, mode=mode)
    np.testing.assert_array_equal(fold(np.arange(-8, 17), 9, border), padded)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_lens_out_of_focus_spreads_a_point_over_its_disk(severity: int) -> None:
    point = np.zeros((32, 32, 3))
    point[16, 16] = 1
    radius, edge = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    spread = blurs.defocus_blur(point, severity, seeded())
    np.testing.assert_allclose(spread[8:25, 8:25, 0], make_disk(radius, edge), atol=1e-12)
    assert spread[..., 0].sum() == pytest.approx(1)
    if edge == 0.1:  # its blur is too narrow to reach the next pixel
        np.testing.assert_allclose(spread[15:18, 15:18, 0], 1 / 9, atol=1e-9)


def test_motion_spreads_a_point_to_one_side_with_gaussian_weights() -> None:
    point = np.zeros((32, 32))
    point[16, 16] = 1
    weights = np.exp(-0.5 * (np.arange(13) / 2) ** 2)
    spread = blur_along(point, 6, 2, 0)
    np.testing.assert_allclose(spread[16, 4:17], (weights / weights.sum())[::-1], atol=1e-12)
    diagonal = blur_along(point, 6, 2, 45)
    assert diagonal[16, 16] == pytest.approx(1 / weights.sum())
    assert diagonal[15, 15] > 0
    assert np.triu(diagonal, 1).sum() + np.tril(diagonal, -1).sum() == pytest.approx(0)


def test_glass_copies_pixels_from_near_by() -> None:
    values = np.broadcast_to(np.arange(32)[:, None, None] * 8 / 255, (32, 32, 3)).copy()
    changed = np.floor(blurs.glass_blur(values, 1, seeded()) * 255 + 0.5)
    moved = (changed - np.round(values * 255)) / 8
    assert set(np.unique(moved)) == {-1.0, 0.0}
    assert (moved[:2] == 0).all()


def test_zoom_blur_is_the_mean_over_its_factors() -> None:
    factors = np.arange(1, 1.16, 0.01)
    expected = (draw_values() + sum(zoom_in(draw_values(), factor) for factor in factors)) / (len(factors) + 1)
    np.testing.assert_allclose(blurs.zoom_blur(draw_values(), 3, seeded()), expected)


def test_a_cloud_is_scaled_to_0_and_1_and_rougher_with_a_smaller_divisor() -> None:
    clouds = [weather.draw_cloud(32, decay, seeded()) for decay in (3, 1.75)]
    assert all((cloud.min(), cloud.max()) == (0, 1) for cloud in clouds)
    steps = [np.abs(np.diff(cloud, axis=0)).mean() for cloud in clouds]
    assert steps[1] > 1.3 * steps[0]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_keeps_the_brightest_pixel_within_range(severity: int) -> None:
    strength, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    values, cloud = draw_values(), weather.draw_cloud(32, decay, seeded())
    expected = (values + strength * cloud[..., None]) * values.max() / (values.max() + strength)
    np.testing.assert_allclose(weather.fog(values, severity, seeded()), expected)


def test_snow_adds_flakes_to_a_whitened_image() -> None:
    values = draw_values()
    kept = (0.95, 0.9, 0.9, 0.85, 0.8)
    grey = (values @ np.array([0.299, 0.587, 0.114]))[..., None]
    for severity in SEVERITIES:
        share = kept[severity - 1]
        white = share * values + (1 - share) * np.maximum(values, grey * 1.5 + 0.5)
        flakes = weather.snow(values, severity, seeded()) - white
        assert flakes.min() > -1e-9
        np.testing.assert_allclose(flakes[..., :1], np.rot90(flakes, 2)[..., :1], atol=1e-9)
        assert flakes.max() > 0.1


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturation_are_those_of_hsv(severity: int) -> None:
    values = np.concatenate([draw_values().reshape(-1, 3), [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]])[None]
    brighter, stronger = (
        np.clip(kind(values, severity, seeded()), 0, 1) for kind in (weather.brightness, digital.saturate)
    )
    factor, added = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    light = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    for at in (0, 333, 700, -1, -2, -3):
        hue, saturation, value = colorsys.rgb_to_hsv(*values[0, at])
        lit = colorsys.hsv_to_rgb(hue, saturation, min(1, value + light))
        np.testing.assert_allclose(brighter[0, at], lit, atol=1e-9)
        coloured = colorsys.hsv_to_rgb(hue, np.clip(saturation * factor + added, 0, 1), value)
        np.testing.assert_allclose(stronger[0, at], coloured, atol=1e-9)


def test_contrast_is_the_distance_from_the_mean_of_a_channel() -> None:
    values = draw_values()
    lower = digital.contrast(values, 2, seeded())
    np.testing.assert_allclose(lower.mean(axis=(0, 1)), values.mean(axis=(0, 1)))
    np.testing.assert_allclose(lower.std(axis=(0, 1)), values.std(axis=(0, 1)) / 2)


@pytest.mark.parametrize(("severity", "quality", "side"), [(1, 80, 30), (3, 58, 27), (5, 40, 20)])
def test_jpeg_and_pixels_are_pillows(severity: int, quality: int, side: int) -> None:
    buffer, image = io.BytesIO(), Image.fromarray(draw_pixels())
    image.save(buffer, "JPEG", quality=quality)
    small = image.resize((side, side), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
    np.testing.assert_array_equal(
        corrupt(draw_pixels(), "jpeg_compression", severity, 0), np.asarray(Image.open(buffer))
    )
    np.testing.assert_array_equal(corrupt(draw_pixels(), "pixelate", severity, 0), np.asarray(small))


def test_an_elastic_transform_of_severity_1_is_an_affine_one() -> None:
    """Its waves have no strength. So the rows of a grid of coordinates stay straight inside the image."""
    grid = np.stack(np.mgrid[:32, :32], axis=-1) / 31.0
    moved = digital.elastic_transform(grid, 1, seeded())[12:20, 12:20]
    np.testing.assert_allclose(np.diff(moved, 2, axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.diff(moved, 2, axis=1), 0, atol=1e-9)
    waved = digital.elastic_transform(grid, 4, seeded())[12:20, 12:20]
    assert np.abs(np.diff(waved, 2, axis=0)).max() > 1e-3


def test_the_mean_is_over_the_benchmarks_corruptions_without_frost() -> None:
    assert len(MEASURED) == 14
    assert "frost" not in ALL
    rows = {name: [0.5] * 5 for name in MEASURED} | {"saturate": [1.0] * 5}
    assert summarize_table(rows)["mean"] == 0.5
    assert read_names("") == list(MEASURED)
    assert read_names("fog, snow") == ["fog", "snow"]
    with pytest.raises(argparse.ArgumentTypeError, match="got frost"):
        read_names("frost")


def test_an_image_of_another_size_is_refused_with_both_sizes() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG")
    with pytest.raises(InklingError, match="32 x 32 pixels to corrupt, got one of 40 x 30"):
        corrupt_file(buffer.getvalue(), "fog", 1, 0)
    with pytest.raises(InklingError, match="Pillow can read"):
        corrupt_file(b"no image", "fog", 1, 0)
