"""serve.images.policies.photo_1: a photo is cropped and averaged; one of the model's size and colours is unchanged."""

from itertools import product

import numpy as np
import pytest
from PIL import Image

from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from tests.serve.images.test_pixels import draw_noise, exif_of
from tests.support import reopen

RGB_32 = InputSpec((32, 32, 3), "uint8", "rgb")
PHOTO = find_policy(PrepareSpec("photo", 1, {}), RGB_32)
WHITE = 255


@pytest.mark.parametrize("orientation", [None, 1])
def test_an_rgb_image_of_the_models_size_is_unchanged(orientation: int | None) -> None:
    options = {"exif": exif_of(orientation)} if orientation else {}
    np.testing.assert_array_equal(PHOTO(reopen(draw_noise(), **options)), np.asarray(draw_noise()))


def test_a_single_pixel_is_a_photo_of_its_colour() -> None:
    assert (PHOTO(Image.new("RGB", (1, 1), (10, 20, 30))) == (10, 20, 30)).all()


@pytest.mark.parametrize("size", [(96, 32), (960, 320), (32, 96), (60, 180)])
def test_the_centre_of_a_long_photo_is_kept_and_its_ends_are_cropped(size: tuple[int, int]) -> None:
    width, height = size
    image = Image.new("RGB", size, (255, 0, 0))
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste((0, 200, 0), (left, top, left + side, top + side))
    found = PHOTO(image).astype(int)
    assert (found[2:-2, 2:-2] == (0, 200, 0)).all()
    assert np.abs(found - (0, 200, 0)).max() <= 25, "the filter reaches more than a little past the crop"


def test_fine_detail_is_averaged_not_sampled() -> None:
    """A checkerboard of single pixels, scaled to a sixteenth, is an even grey."""
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(PHOTO(Image.fromarray(board)).astype(int) - 127.5).max() < 8


def test_a_rotated_jpeg_is_turned_upright() -> None:
    photo = Image.new("RGB", (60, 80), (200, 0, 0))
    photo.paste((0, 0, 200), (0, 40, 60, 80))
    image = reopen(photo.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif_of(6))
    found = PHOTO(image).astype(int)
    assert np.abs(found[:13] - (200, 0, 0)).max() < 12
    assert np.abs(found[-13:] - (0, 0, 200)).max() < 12


def test_the_transparent_part_of_a_photo_is_white() -> None:
    half = Image.new("RGBA", (64, 64), (200, 0, 0, 255))
    half.paste((200, 0, 0, 0), (0, 0, 32, 64))
    found = PHOTO(reopen(half))
    assert (found[:, :14] == WHITE).all()
    assert (found[:, -14:] == (200, 0, 0)).all()


@pytest.mark.parametrize(
    ("mode", "level"),
    [
        *product(["L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"], [0, 96, 255]),
        ("1", 0),
        ("1", 255),
    ],
)
def test_every_mode_gives_the_brightness_that_it_shows(mode: str, level: int) -> None:
    grey = Image.new("L", (40, 50), level)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert("RGB").convert(mode) if mode in {"CMYK", "YCbCr"} else grey.convert(mode)
    assert image.mode == mode
    found = PHOTO(image)
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - level).max() <= 1
