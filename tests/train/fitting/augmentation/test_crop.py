"""`train.fitting.augmentation.crop`: shifts, mirroring and cutouts, which a seed repeats."""

import numpy as np
import pytest

from train.fitting.augmentation.crop import Cropper, cut_out, move_often, shift_images
from train.recipes.recipe import Crop

INDICES = np.arange(40)


@pytest.fixture
def images() -> np.ndarray:
    """40 images of 8 x 6 whose pixels differ within each row."""
    columns = np.arange(6, dtype=np.uint8) * 40
    return np.broadcast_to(columns[None, None, :, None], (40, 8, 6, 3)).copy()


def make_cropper(crop: Crop, epoch: int = 0, seed: int = 0) -> Cropper:
    return Cropper(crop, INDICES, seed=seed, epoch=epoch)


def test_two_epochs_show_each_image_both_ways(images: np.ndarray) -> None:
    first, second = (make_cropper(Crop(0), epoch)(images, INDICES) for epoch in (0, 1))
    np.testing.assert_array_equal(first, second[:, :, ::-1])
    mirrored = (first != images).any(axis=(1, 2, 3))
    assert 0 < mirrored.sum() < 40


def test_whether_an_image_is_mirrored_depends_on_its_index(images: np.ndarray) -> None:
    order = np.random.default_rng(3).permutation(40)
    shuffled = make_cropper(Crop(0))(images[order], order)
    np.testing.assert_array_equal(shuffled[np.argsort(order)], make_cropper(Crop(0))(images, INDICES))


def test_whether_an_image_is_mirrored_does_not_depend_on_the_split(images: np.ndarray) -> None:
    places = np.array([3, 7, 20, 31])
    part = Cropper(Crop(0), places, seed=0, epoch=0)(images[places], np.arange(4))
    np.testing.assert_array_equal(part, make_cropper(Crop(0))(images, INDICES)[places])


def test_repeated_images_are_moved_differently_and_not_cut_out(images: np.ndarray) -> None:
    crop = Crop(shift_pixels=2, cutout_pixels=3)
    moved = move_often(images, crop, 3)
    views = moved.reshape(3, 40, 8, 6, 3)
    assert not (moved == 128).any()
    assert all((views[one] != views[other]).any() for one, other in [(0, 1), (0, 2), (1, 2)])
    shifts = [np.array([[0, right]]) for right in range(-2, 3)]  # moving down would have no effect
    possible = [shift_images(images[:1], shift)[0] for shift in shifts]
    assert all(any((view == other).all() for other in possible) for view in moved)
    np.testing.assert_array_equal(moved, move_often(images, crop, 3))


def test_an_image_moves_down_and_right_by_its_shift_with_a_mirrored_border() -> None:
    image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1)
    moved = shift_images(image, np.array([[1, -1]]))[0, :, :, 0]
    assert moved.tolist() == [[4, 5, 4], [1, 2, 1], [4, 5, 4]]


def test_shifts_cover_their_range_and_no_more() -> None:
    dots = np.zeros((2000, 9, 9, 1), np.uint8)
    dots[:, 4, 4] = 255
    moved = Cropper(Crop(2), np.arange(2000), seed=0, epoch=0)(dots, np.arange(2000))
    places = {tuple(place) for place in np.argwhere(moved[:, :, :, 0])[:, 1:]}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}


def test_cutout_makes_one_square_of_each_image_grey() -> None:
    images = np.zeros((50, 10, 10, 3), np.uint8)
    cut_out(images, 4, np.random.default_rng(0))
    assert (images == 128).sum(axis=(1, 2, 3)).tolist() == [4 * 4 * 3] * 50
    assert len({image.tobytes() for image in images}) > 10


def test_a_seed_repeats_an_epoch_and_another_does_not(images: np.ndarray) -> None:
    crop = Crop(2, cutout_pixels=2)
    first, again, other = (make_cropper(crop, seed=seed)(images, INDICES) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_images_of_the_caller_are_not_changed(images: np.ndarray) -> None:
    before = images.copy()
    make_cropper(Crop(2, cutout_pixels=2))(images, INDICES)
    np.testing.assert_array_equal(images, before)
