"""`train.fitting.augmentation.augment`: images move as by NumPy, within the recipe's ranges."""

import dataclasses

import keras
import numpy as np
import pytest

from train.fitting.augmentation.augment import Augment, draw_strokes, draw_transforms, redraw_strokes, transform_images
from train.recipes.recipe import Augmentation
from train.recipes.shipped import NOTEBOOK_AUGMENTATION

NOTHING = Augmentation(rotation_degrees=0, shift=0, zoom=0, horizontal_flip=False)


def sample(image: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Float64 [H, W, C]: each pixel is read bilinearly from where the transform points; borders repeat."""
    height, width, _ = image.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    xx, xy, x0, yx, yy, y0 = transform[:6].astype(np.float64)
    x, y = xx * x + xy * y + x0, yx * x + yy * y + y0
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right_part, lower_part = (x - left)[..., None], (y - top)[..., None]

    def pixel(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return image[row.clip(0, height - 1), column.clip(0, width - 1)].astype(np.float64)

    upper = pixel(top, left) * (1 - right_part) + pixel(top, left + 1) * right_part
    lower = pixel(top + 1, left) * (1 - right_part) + pixel(top + 1, left + 1) * right_part
    return upper * (1 - lower_part) + lower * lower_part


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (64, 32, 32, 3), np.uint8)


def draw(augmentation: Augmentation, count: int, seed: int = 0) -> np.ndarray:
    """Transforms float32 [count, 8] for images of 32 rows and 40 columns."""
    transforms = draw_transforms(augmentation, (count, 32, 40, 3), keras.random.SeedGenerator(seed))
    return np.asarray(keras.ops.convert_to_numpy(transforms))


def linear_parts(transforms: np.ndarray) -> np.ndarray:
    """Float32 [N, 2, 2]: rotation times zoom times flip."""
    return transforms[:, [[0, 1], [3, 4]]]


def test_outside_training_images_are_not_changed(images: np.ndarray) -> None:
    layer = Augment(NOTEBOOK_AUGMENTATION, seed=0)
    np.testing.assert_array_equal(layer(images, training=False), images)


def test_in_training_images_keep_shape_and_dtype_and_change(images: np.ndarray) -> None:
    moved = np.asarray(Augment(NOTEBOOK_AUGMENTATION, seed=0)(images, training=True))
    assert (moved.shape, moved.dtype) == (images.shape, np.uint8)
    assert (moved != images).mean() > 0.9


def test_ranges_of_0_leave_the_images_as_they_are(images: np.ndarray) -> None:
    np.testing.assert_array_equal(Augment(NOTHING, seed=0)(images, training=True), images)


def test_one_bilinear_interpolation_with_the_border_repeated(images: np.ndarray) -> None:
    seeds = keras.random.SeedGenerator(5)
    transforms = np.asarray(draw_transforms(NOTEBOOK_AUGMENTATION, images.shape, seeds))
    expected = np.array([sample(image, row) for image, row in zip(images, transforms, strict=True)])
    found = np.asarray(transform_images(images, transforms)).astype(np.float64)
    assert np.abs(found - expected).max() <= 0.51, "more than rounding to whole levels"


def test_a_flip_mirrors_about_half_of_the_images_and_nothing_else(images: np.ndarray) -> None:
    flip = Augmentation(rotation_degrees=0, shift=0, zoom=0, horizontal_flip=True)
    moved = np.asarray(Augment(flip, seed=1)(images, training=True))
    same = (moved == images).all(axis=(1, 2, 3))
    mirrored = (moved == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 20 <= mirrored.sum() <= 44


def test_rotation_is_uniform_over_its_range_and_keeps_lengths() -> None:
    parts = linear_parts(draw(Augmentation(rotation_degrees=10, shift=0, zoom=0, horizontal_flip=False), 4000))
    angles = np.degrees(np.arctan2(parts[:, 1, 0], parts[:, 0, 0]))
    np.testing.assert_allclose(np.linalg.norm(parts, axis=1), 1, rtol=1e-5)
    assert np.abs(angles).max() <= 10.001
    np.testing.assert_allclose(np.quantile(angles, [0, 0.25, 0.5, 0.75, 1]), [-10, -5, 0, 5, 10], atol=0.6)


def test_shifts_are_fractions_of_each_side_with_their_own_draws() -> None:
    transforms = draw(Augmentation(rotation_degrees=0, shift=0.1, zoom=0, horizontal_flip=False), 4000)
    x, y = transforms[:, 2], transforms[:, 5]
    np.testing.assert_allclose([x.min(), x.max(), y.min(), y.max()], [-4, 4, -3.2, 3.2], rtol=0.02)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


def test_zooms_of_the_two_axes_have_their_own_draws() -> None:
    parts = linear_parts(draw(Augmentation(rotation_degrees=0, shift=0, zoom=0.2, horizontal_flip=False), 4000))
    x, y = parts[:, 0, 0], parts[:, 1, 1]
    np.testing.assert_allclose([x.min(), x.max(), y.min(), y.max()], [0.8, 1.2, 0.8, 1.2], atol=0.003)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


def test_without_shifts_the_centre_stays_in_its_place() -> None:
    transforms = draw(Augmentation(rotation_degrees=10, shift=0, zoom=0.2, horizontal_flip=True), 100)
    centre = np.array([19.5, 15.5])
    moved = linear_parts(transforms) @ centre + transforms[:, [2, 5]]
    np.testing.assert_allclose(moved, np.tile(centre, (100, 1)), atol=1e-4)


def test_a_seed_gives_the_same_transforms_and_another_seed_others() -> None:
    np.testing.assert_array_equal(draw(NOTEBOOK_AUGMENTATION, 5), draw(NOTEBOOK_AUGMENTATION, 5))
    assert (draw(NOTEBOOK_AUGMENTATION, 5) != draw(NOTEBOOK_AUGMENTATION, 5, seed=1)).any()


def test_a_shear_moves_each_row_by_its_distance_from_the_centre() -> None:
    parts = linear_parts(draw(dataclasses.replace(NOTHING, shear=0.2), 4000))
    assert (parts[:, 0, 0] == 1).all()
    assert (parts[:, 1] == [0, 1]).all()
    np.testing.assert_allclose(np.quantile(parts[:, 0, 1], [0, 0.5, 1]), [-0.2, 0, 0.2], atol=0.02)


@pytest.mark.parametrize(
    ("stroke", "expected"), [(1, [0, 200, 200, 200, 0]), (-1, [0, 0, 0, 0, 0]), (0.5, [0, 100, 200, 100, 0])]
)
def test_a_stroke_grows_or_shrinks_by_a_pixel(stroke: float, expected: list[int]) -> None:
    line = np.zeros((1, 5, 5, 1), np.uint8)
    line[:, :, 2] = 200
    redrawn = np.asarray(redraw_strokes(line, np.float32(stroke), np.float32(0)))
    assert redrawn[0, 2, :, 0].tolist() == expected


def test_a_blur_mixes_in_the_mean_of_3_x_3_pixels() -> None:
    dot = np.zeros((1, 5, 5, 1), np.uint8)
    dot[:, 2, 2] = 180
    redrawn = np.asarray(redraw_strokes(dot, np.float32(0), np.float32(0.5)))
    assert redrawn[0, 1:4, 1:4, 0].tolist() == [[10, 10, 10], [10, 100, 10], [10, 10, 10]]


def test_strokes_and_blurs_are_uniform_over_their_ranges() -> None:
    settings = dataclasses.replace(NOTHING, stroke=0.6, blur=0.4)
    stroke, blur = (np.asarray(each).ravel() for each in draw_strokes(settings, 4000, keras.random.SeedGenerator(0)))
    np.testing.assert_allclose(np.quantile(stroke, [0, 0.5, 1]), [-0.6, 0, 0.6], atol=0.03)
    np.testing.assert_allclose(np.quantile(blur, [0, 0.5, 1]), [0, 0.2, 0.4], atol=0.02)


def test_with_strokes_and_blur_training_images_keep_shape_and_dtype(images: np.ndarray) -> None:
    redrawn = np.asarray(Augment(dataclasses.replace(NOTHING, stroke=0.5, blur=0.5), seed=0)(images, training=True))
    assert (redrawn.shape, redrawn.dtype) == (images.shape, np.uint8)
    assert (redrawn != images).any()
