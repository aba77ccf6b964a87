"""serve.images.pixels: images are turned upright, laid over white and scaled to 8 bits; pixels become PNGs."""

import struct

import numpy as np
import pytest
from PIL import Image

from serve.errors import UnreadableImage
from serve.images.decode import decode
from serve.images.pixels import eight_bits_of_range, over_white, to_png, upright
from tests.serve.images.test_decode import PNG_SIGNATURE, chunk, idat
from tests.support import reopen

ORIENTATION = 0x0112
WHITE = 255
# What transposes an upright picture to the way in which each EXIF orientation stores it.
ORIENTATION_TRANSPOSES = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def draw_noise(width: int = 32, height: int = 32) -> Image.Image:
    """RGB noise: all pixels differ, so a test notices any that moves or is smoothed."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def exif_of(orientation: int) -> Image.Exif:
    """EXIF data with an orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def write_exif(*entries: tuple[int, int, int, int]) -> bytes:
    """Little-endian EXIF data of (tag, type, count, value) entries."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(16)


@pytest.mark.parametrize("orientation", ORIENTATION_TRANSPOSES)
@pytest.mark.parametrize("format_name", ["PNG", "WEBP"])
def test_an_image_is_turned_as_its_exif_orientation_says(orientation: int, format_name: str) -> None:
    transpose = ORIENTATION_TRANSPOSES[orientation]
    stored = draw_noise(30, 20) if transpose is None else draw_noise(30, 20).transpose(transpose)
    image = upright(reopen(stored, format_name, exif=exif_of(orientation)))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(draw_noise(30, 20)))


def test_a_tag_of_the_wrong_type_does_not_keep_an_image_from_being_turned() -> None:
    """The camera's maker is a fraction here, which Pillow's own exif_transpose fails to write again."""
    exif = write_exif((ORIENTATION, 3, 1, 3), (0x010F, 5, 1, 38))
    image = upright(reopen(draw_noise().transpose(Image.Transpose.ROTATE_180), exif=exif))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(draw_noise()))


@pytest.mark.parametrize(
    "exif", [exif_of(0), exif_of(9), exif_of(77), b"not EXIF data at all"], ids=["0", "9", "77", "unreadable"]
)
def test_an_unknown_orientation_turns_nothing(exif: Image.Exif | bytes) -> None:
    np.testing.assert_array_equal(np.asarray(upright(reopen(draw_noise(), exif=exif))), np.asarray(draw_noise()))


def test_a_half_transparent_colour_is_mixed_with_white() -> None:
    found = np.asarray(over_white(Image.new("RGBA", (32, 32), (100, 0, 50, 128))))
    assert np.abs(found.astype(int) - (177, 127, 152)).max() <= 1


@pytest.mark.parametrize("size", [(1, 250_001), (300_000, 2), (701, 1000)])
def test_a_large_image_is_mixed_in_strips_as_it_would_be_at_once(size: tuple[int, int]) -> None:
    """Pillow holds the interpreter's lock while it mixes one strip."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image, paper = Image.fromarray(pixels), Image.new("RGBA", size, (WHITE,) * 4)
    expected = np.asarray(Image.alpha_composite(paper, image))[..., :3]
    np.testing.assert_array_equal(np.asarray(over_white(image)), expected)


@pytest.mark.parametrize("format_name", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_is_white(format_name: str) -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 9, 99, 199])
    image.paste(0, (0, 0, 32, 16))
    found = np.asarray(over_white(reopen(image, format_name, transparency=0)))
    assert (found[:16] == WHITE).all()
    assert (found[16:] == (9, 99, 199)).all()


def test_only_the_transparent_level_of_16_bit_grey_is_white() -> None:
    levels = np.full((32, 32), 20_000, np.uint16)
    levels[:16] = 20_001
    image = Image.fromarray(levels)
    image.info["transparency"] = 20_000
    found = np.asarray(over_white(image))
    assert (found[:16] == 20_001 >> 8).all()
    assert (found[16:] == WHITE).all()


@pytest.mark.parametrize(
    "chunks", [b"", chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", bytes(300))], ids=["missing", "too many alphas"]
)
def test_a_palette_that_does_not_fit_is_named_as_the_fault(chunks: bytes) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0))
    image = decode(PNG_SIGNATURE + header + chunks + idat(4, 4) + chunk(b"IEND", b""), 1_000)
    with pytest.raises(UnreadableImage, match="wanted a palette that fits its image"):
        over_white(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_of_prepared_pixels_has_these_pixels(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, channels), np.uint8)
    image = decode(to_png(pixels), 1_000)
    np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize(
    ("levels", "found"),
    [([0, 0.5, 1], [0, 127, 255]), ([0, 128, 255], [0, 128, 255]), ([0, 500, 1000], [0, 127, 255])],
)
def test_levels_with_fractions_are_scaled_by_their_range(levels: list[float], found: list[int]) -> None:
    """What is no number is black."""
    rows = np.array([levels, [float("nan"), float("inf"), -1]], np.float32)
    assert np.asarray(over_white(Image.fromarray(rows))).tolist() == [found, [0, 0, 0]]


@pytest.mark.parametrize("level", [-1, -300, -(2**31)])
def test_a_level_below_black_is_black(level: int) -> None:
    """A TIFF of signed levels may have some."""
    levels = np.array([[level, 0, 60_000]], np.int32)
    for scale in (over_white, eight_bits_of_range):
        assert np.asarray(scale(Image.fromarray(levels))).tolist() == [[0, 0, 60_000 >> 8]]
