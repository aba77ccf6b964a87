"""serve.images.pixels: what was stored turned comes upright; a photo is cut and averaged, or kept if of the right size."""

import struct

import numpy as np
import pytest
from PIL import Image

from tests.serve.images.test_policies import DIGIT, PHOTO, SEVEN, draw_strokes, reopen

ORIENTATION = 0x0112
# How each EXIF orientation stores an upright picture: what turns it back, undone.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def draw_photo(width: int = 32, height: int = 32) -> Image.Image:
    """RGB noise: no two pixels are alike, so nothing that is moved or smoothed stays unnoticed."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def exif_of(orientation: int) -> Image.Exif:
    """EXIF data with an orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


@pytest.mark.parametrize("orientation", [None, 1])
def test_an_rgb_image_of_the_models_size_comes_out_bit_for_bit(orientation: int | None) -> None:
    options = {"exif": exif_of(orientation)} if orientation else {}
    np.testing.assert_array_equal(PHOTO(reopen(draw_photo(), **options)), np.asarray(draw_photo()))


def test_a_single_pixel_is_a_photo_of_its_colour() -> None:
    assert (PHOTO(Image.new("RGB", (1, 1), (10, 20, 30))) == (10, 20, 30)).all()


@pytest.mark.parametrize("size", [(96, 32), (960, 320), (32, 96), (60, 180)])
def test_the_centre_of_a_long_photo_is_kept_and_its_ends_are_cut(size: tuple[int, int]) -> None:
    width, height = size
    image = Image.new("RGB", size, (255, 0, 0))
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste((0, 200, 0), (left, top, left + side, top + side))
    found = PHOTO(image).astype(int)
    assert (found[2:-2, 2:-2] == (0, 200, 0)).all()
    assert np.abs(found - (0, 200, 0)).max() <= 25, "the filter reaches a little past the cut, and no further"


def test_fine_detail_is_averaged_not_sampled() -> None:
    """A chequered board of single pixels, scaled to a sixteenth, is an even grey."""
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(PHOTO(Image.fromarray(board)).astype(int) - 127.5).max() < 8


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format_name", ["PNG", "WEBP"])
def test_a_turned_photo_comes_out_upright(orientation: int, format_name: str) -> None:
    turn = STORED[orientation]
    stored = draw_photo() if turn is None else draw_photo().transpose(turn)
    options = {"lossless": True} if format_name == "WEBP" else {}
    image = reopen(stored, format_name, exif=exif_of(orientation), **options)
    np.testing.assert_array_equal(PHOTO(image), np.asarray(draw_photo()))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("side", [28, 200])
def test_a_turned_digit_comes_out_upright(orientation: int, side: int) -> None:
    """A nine that a telephone stored upside down is not a six."""
    upright = draw_strokes(SEVEN, at=(3, 2), side=side).point(lambda level: 255 - level)
    turn = STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    np.testing.assert_array_equal(DIGIT(reopen(stored, exif=exif_of(orientation))), DIGIT(upright))


def test_a_turned_jpeg_comes_out_upright() -> None:
    upright = Image.new("RGB", (60, 80), (200, 0, 0))
    upright.paste((0, 0, 200), (0, 40, 60, 80))
    image = reopen(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif_of(6))
    found = PHOTO(image).astype(int)
    assert np.abs(found[:13] - (200, 0, 0)).max() < 12
    assert np.abs(found[-13:] - (0, 0, 200)).max() < 12


def write_exif(*entries: tuple[int, int, int, int]) -> bytes:
    """Little-endian EXIF data of (tag, type, count, value) entries."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(16)


def test_a_tag_of_the_wrong_type_does_not_keep_a_photo_from_being_turned() -> None:
    """The camera's maker as a fraction: Pillow's own exif_transpose fails to write it anew."""
    exif = write_exif((ORIENTATION, 3, 1, 3), (0x010F, 5, 1, 38))
    image = reopen(draw_photo().transpose(Image.Transpose.ROTATE_180), exif=exif)
    np.testing.assert_array_equal(PHOTO(image), np.asarray(draw_photo()))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    np.testing.assert_array_equal(PHOTO(reopen(draw_photo(), exif=exif_of(orientation))), np.asarray(draw_photo()))


def test_exif_data_that_cannot_be_read_turn_nothing() -> None:
    np.testing.assert_array_equal(PHOTO(reopen(draw_photo(), exif=b"not EXIF data at all")), np.asarray(draw_photo()))
