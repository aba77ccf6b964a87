"""serve.images.pixels: transparency is white, and a colour is what it shows in whatever mode and depth it is stored."""

import struct
import zlib
from itertools import product

import numpy as np
import pytest
from PIL import Image

from serve.errors import UnreadableImage
from serve.images.decode import decode
from serve.images.pixels import Policy
from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from tests.serve.images.test_policies import DIGIT, PHOTO, SEVEN, WHITE, draw_strokes, reopen


def test_a_digit_on_transparent_ground_is_a_digit_on_white_paper() -> None:
    ink = draw_strokes(SEVEN).point([WHITE - level for level in range(256)])
    black = Image.new("L", ink.size, 0)
    for mode in ("LA", "RGBA"):
        layered = Image.merge(mode, [*[black] * (len(mode) - 1), ink])
        np.testing.assert_array_equal(DIGIT(reopen(layered)), DIGIT(draw_strokes(SEVEN)))


def test_what_is_transparent_in_a_photo_is_white() -> None:
    half = Image.new("RGBA", (64, 64), (200, 0, 0, 255))
    half.paste((200, 0, 0, 0), (0, 0, 32, 64))
    found = PHOTO(reopen(half))
    assert (found[:, :14] == WHITE).all()
    assert (found[:, -14:] == (200, 0, 0)).all()


def test_a_half_transparent_colour_is_mixed_with_white() -> None:
    found = PHOTO(Image.new("RGBA", (32, 32), (100, 0, 50, 128)))
    assert np.abs(found.astype(int) - (177, 127, 152)).max() <= 1


@pytest.mark.parametrize("size", [(1, 250_001), (300_000, 2), (701, 1000)])
def test_a_large_image_is_mixed_in_strips_as_it_would_be_at_once(size: tuple[int, int]) -> None:
    """Pillow would keep the interpreter's lock for as long as the whole takes."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image, paper = Image.fromarray(pixels), Image.new("RGBA", size, (WHITE,) * 4)
    policy = find_policy(PrepareSpec("photo", 1, {}), InputSpec((size[1], size[0], 3), "uint8", "rgb"))
    np.testing.assert_array_equal(policy(image), np.asarray(Image.alpha_composite(paper, image))[..., :3])


@pytest.mark.parametrize("format_name", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_is_white(format_name: str) -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 9, 99, 199])
    image.paste(0, (0, 0, 32, 16))
    found = PHOTO(reopen(image, format_name, transparency=0))
    assert (found[:16] == WHITE).all()
    assert (found[16:] == (9, 99, 199)).all()


def test_the_transparent_level_of_16_bit_grey_is_white_and_its_neighbours_are_not() -> None:
    levels = np.full((32, 32), 20_000, np.uint16)
    levels[:16] = 20_001
    image = Image.fromarray(levels)
    image.info["transparency"] = 20_000
    found = PHOTO(image)
    assert (found[:16] == 20_001 >> 8).all()
    assert (found[16:] == WHITE).all()


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


def test_a_16_bit_digit_is_the_digit_of_8_bits() -> None:
    image = draw_strokes(SEVEN)
    deep = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    np.testing.assert_array_equal(DIGIT(reopen(deep)), DIGIT(image))


def write_palette_png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A 4 x 4 PNG of palette indices 0, with the chunks that describe its palette."""
    header = (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0))
    pixels = (b"IDAT", zlib.compress(bytes(5 * 4)))
    parts = [
        len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
        for name, data in (header, *chunks, pixels, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("policy", [DIGIT, PHOTO], ids=["digit", "photo"])
@pytest.mark.parametrize("chunks", [[], [(b"PLTE", bytes(6)), (b"tRNS", bytes(300))]], ids=["missing", "outgrown"])
def test_a_palette_that_does_not_fit_is_named_as_the_fault(policy: Policy, chunks: list[tuple[bytes, bytes]]) -> None:
    image = decode(write_palette_png(*chunks), 1_000)
    with pytest.raises(UnreadableImage, match="wanted a palette that fits its image"):
        policy(image)
