"""serve.images.decode: each refusal in its words, and the sizes at which an image counts as large or is made small."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from serve.errors import EmptyImage, ImageError, ImageTooLarge, TruncatedImage, UnreadableImage
from serve.images.decode import decode, estimate_cost, is_large
from tests.serve.images.test_decode import LIMIT, PNG_SIGNATURE, chunk, draw_noise, idat, ihdr
from tests.serve.images.test_decode_bombs import huge_webp, rescanned_jpeg
from tests.serve.images.test_decode_large import run_length_bmp
from tests.support import encode

FORMATS = "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"
TOO_EARLY = "wanted a whole image file, got one that ends too early"
INVALID = f"wanted a {FORMATS} file that can be decoded, got one with invalid data"


def many_scans(side: int) -> bytes:
    """A JPEG that announces `side` x `side` pixels in 16 scans."""
    data = rescanned_jpeg(16)
    frame = data.index(b"\xff\xc2")
    return data[: frame + 5] + struct.pack(">HH", side, side) + data[frame + 9 :]


def many_chunks() -> bytes:
    """A PNG of 10,001 chunks and more."""
    return PNG_SIGNATURE + ihdr(4, 1) + chunk(b"teSt", b"") * 10_000 + idat(4, 1) + chunk(b"IEND", b"")


def spoil_webp() -> bytes:
    """A WebP as long as its header says, whose pixels are none."""
    data = bytearray(encode(draw_noise(), "WEBP"))
    data[20:40] = bytes(20)
    return bytes(data)


def cut_webp(by: int) -> bytes:
    return encode(draw_noise(), "WEBP")[:-by]


REFUSALS: dict[str, tuple[Callable[[], bytes], type[ImageError], str]] = {
    "nothing": (lambda: b"", EmptyImage, f"wanted the bytes of a {FORMATS} file, got 0 bytes"),
    "text": (lambda: b"hello", UnreadableImage, f"wanted a {FORMATS} file, got text that begins 'hello'"),
    "large": (
        lambda: encode(Image.new("1", (65_536, 1))),
        ImageTooLarge,
        "wanted an image of at most 1,000,000 pixels and 65,535 a side, got 65536 x 1",
    ),
    "scans": (
        lambda: rescanned_jpeg(101),
        UnreadableImage,
        "wanted a JPEG of at most 100 scans, got one of 101",
    ),
    "parts": (
        many_chunks,
        UnreadableImage,
        "wanted a file of at most 10,000 segments, chunks or blocks, got one of more",
    ),
    "run lengths": (
        lambda: run_length_bmp(4, 4, b"\0\0\0\1"),
        UnreadableImage,
        "wanted a BMP without run-length compression, got one with it",
    ),
    "late header": (
        lambda: PNG_SIGNATURE + chunk(b"abCd", bytes(13)) + ihdr(6, 6) + idat(6, 6) + chunk(b"IEND", b""),
        UnreadableImage,
        "wanted a PNG that begins with its one IHDR chunk, got one that does not",
    ),
    "cut png": (lambda: encode(draw_noise())[:-100], TruncatedImage, TOO_EARLY),
    "cut webp": (lambda: cut_webp(1), TruncatedImage, TOO_EARLY),
    "cut gif": (lambda: encode(draw_noise(), "GIF")[:-10], TruncatedImage, TOO_EARLY),
    "spoilt webp": (spoil_webp, UnreadableImage, INVALID),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_what_was_wanted_and_what_came(name: str) -> None:
    make, kind, sentence = REFUSALS[name]
    with pytest.raises(ImageError) as caught:
        decode(make(), LIMIT)
    assert (type(caught.value), str(caught.value)) == (kind, sentence)


def test_a_jpeg_of_many_pixels_in_many_scans_is_refused_with_both() -> None:
    with pytest.raises(UnreadableImage) as caught:
        decode(many_scans(7_071), 50_000_000)
    wanted = "wanted a JPEG whose pixels times its scans are at most 750,000,000, got 7071 x 7071 in 16 scans"
    assert str(caught.value) == wanted


def test_an_image_beyond_pillows_own_limit_is_called_too_large() -> None:
    with pytest.raises(ImageTooLarge) as caught:
        decode(huge_webp(16_383), 10**9)
    assert str(caught.value) == "wanted an image of fewer pixels, got one whose header announces far too many"


def test_an_image_is_large_for_a_model_of_a_large_input() -> None:
    small = encode(Image.new("L", (1, 1)))
    assert not is_large(small, 128 * 128)
    assert is_large(small, 128 * 128 + 1)


@pytest.mark.parametrize(
    ("size", "found"), [((519, 300), (519, 300)), ((600, 512), (300, 256)), ((1_600, 767), (800, 384))]
)
@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "JPEG"])
def test_a_picture_is_made_small_as_long_as_its_shorter_side_keeps_its_detail(
    format_name: str, size: tuple[int, int], found: tuple[int, int]
) -> None:
    assert decode(encode(Image.new("RGB", size), format_name), LIMIT * 2).size == found
    assert decode(encode(Image.new("RGB", size), format_name), LIMIT * 2, detail=10_000).size == size


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_grey_keeps_its_size_and_its_levels(kind: type[np.generic]) -> None:
    levels = np.linspace(0, 65_535, 64 * 64).astype(kind).reshape(64, 64)
    image = decode(encode(Image.fromarray(levels), "TIFF"), LIMIT, detail=16)
    np.testing.assert_array_equal(np.asarray(image), levels)


@pytest.mark.parametrize(
    ("size", "cost"), [((500, 200), 100_000), ((500, 201), 0), ((65_535, 1), 65_535), ((65_536, 1), 0)]
)
def test_a_tiff_costs_its_pixels_or_nothing_if_it_will_be_refused(size: tuple[int, int], cost: int) -> None:
    assert estimate_cost(encode(Image.new("1", size), "TIFF"), 100_000) == cost


def test_a_tiff_of_the_other_byte_order_is_known_by_its_header() -> None:
    data = encode(Image.new("I;16B", (50, 20)), "TIFF")
    assert data.startswith(b"MM")
    assert estimate_cost(data, 100_000) == 1_000
    assert is_large(data)
    assert decode(data, LIMIT).size == (50, 20)


def test_an_avif_counts_twice_and_is_large() -> None:
    data = encode(Image.new("RGB", (50, 20)), "AVIF")
    assert estimate_cost(data, 100_000) == 2_000
    assert is_large(data)


def test_a_picture_of_other_colours_is_refused_by_their_name() -> None:
    with pytest.raises(UnreadableImage) as caught:
        decode(encode(Image.new("LAB", (9, 9)), "TIFF"), LIMIT)
    wanted = "wanted grey, a palette, RGB, CMYK or YCbCr, with or without alpha, got LAB"
    assert str(caught.value) == wanted


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_a_picture_is_read_in_every_mode_that_becomes_rgb(mode: str) -> None:
    found = decode(encode(Image.new("RGB", (9, 9), "white").convert(mode), "TIFF"), LIMIT)
    assert found.mode == mode
    assert found.convert("RGB").getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("format_name", ["BMP", "TIFF"])
def test_pixels_that_spell_the_marker_of_a_scan_are_no_scans(format_name: str) -> None:
    image = Image.frombytes("L", (24, 24), b"\xff\xda" * 288)
    data = encode(image, format_name)
    assert data.count(b"\xff\xda") > 100
    assert decode(data, LIMIT).tobytes() == image.tobytes()
    assert estimate_cost(data, LIMIT) == 24 * 24
