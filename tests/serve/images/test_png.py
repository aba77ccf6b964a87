"""serve.images.png: a plain PNG is decoded as by Pillow's plugin, and all other files are left to that plugin."""

import io
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from serve.images.png import decode_plain_png
from tests.serve.images.test_decode import chunk

LIMIT = 1_000_000
HEADER_BYTES = 33
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4]))


def encode(pixels: npt.NDArray[np.uint8], **options: object) -> bytes:
    """A PNG of uint8 [H, W, C] with 1, 3 or 4 channels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def draw(seed: int = 0, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Noise and a gradient, so that an encoder uses every filter."""
    pixels = np.random.default_rng(seed).integers(0, 9, (24, 30, channels), np.uint8)
    pixels += np.add.outer(np.arange(24), 3 * np.arange(30))[..., None].astype(np.uint8)
    return pixels


def rebuild(png: bytes, *chunks: bytes) -> bytes:
    """The header of a PNG, other chunks, and the end."""
    return png[:HEADER_BYTES] + b"".join(chunks) + chunk(b"IEND", b"")


def pixels_of(png: bytes) -> bytes:
    """The contents of the only IDAT in a PNG by Pillow."""
    return png[HEADER_BYTES + 8 : -16]


@given(arrays.arrays(np.uint8, SHAPES), st.integers(0, 9))
def test_the_pixels_are_the_encoded_ones(pixels: npt.NDArray[np.uint8], level: int) -> None:
    image = decode_plain_png(encode(pixels, compress_level=level), LIMIT)
    assert image is not None
    assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("filter_type", range(5))
def test_every_filter_of_a_row_is_undone(filter_type: int) -> None:
    """Random bytes under one filter are always a valid image, and Pillow's plugin says which."""
    rows = np.random.default_rng(1).integers(0, 256, (24, 91), np.uint8)
    rows[:, 0] = filter_type
    png = rebuild(encode(draw()), chunk(b"IDAT", zlib.compress(rows.tobytes())))
    image = decode_plain_png(png, LIMIT)
    assert image is not None
    assert image.tobytes() == Image.open(io.BytesIO(png)).tobytes()


def test_pixels_in_many_chunks_are_joined() -> None:
    png = encode(draw())
    data = pixels_of(png)
    parts = [chunk(b"IDAT", data[at : at + 7]) for at in range(0, len(data), 7)]
    image = decode_plain_png(rebuild(png, *parts), LIMIT)
    assert image is not None
    np.testing.assert_array_equal(np.asarray(image), draw())


@given(st.data())
def test_a_damaged_file_gives_nothing_or_what_pillow_makes_of_it(data: st.DataObject) -> None:
    """Bytes change anywhere; the checksums are left or corrected."""
    png = bytearray(encode(draw(), compress_level=data.draw(st.sampled_from([0, 6]))))
    for _ in range(data.draw(st.integers(1, 3))):
        png[data.draw(st.integers(0, len(png) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(png)
    if data.draw(st.booleans()):
        damaged = damaged[:12] + chunk(damaged[12:16], damaged[16:29])[4:] + chunk(b"IDAT", damaged[41:-16]) + png[-12:]
    image = decode_plain_png(damaged, LIMIT)
    if image is not None:
        opened = Image.open(io.BytesIO(damaged))
        assert (image.mode, image.size, image.tobytes()) == (opened.mode, opened.size, opened.tobytes())


@pytest.mark.parametrize("count", [0, 1, 40, 100])
def test_a_file_that_ends_early_is_left_to_pillow(count: int) -> None:
    assert decode_plain_png(encode(draw())[:-count] if count else b"", LIMIT) is None


@pytest.mark.parametrize("rows", [1, 23, 30])
def test_too_few_or_too_many_rows_are_decoded_as_by_pillow(rows: int) -> None:
    png = rebuild(encode(draw()), chunk(b"IDAT", zlib.compress(bytes([1, *[5] * 90]) * rows)))
    image = decode_plain_png(png, LIMIT)
    assert image is not None
    assert image.tobytes() == Image.open(io.BytesIO(png)).tobytes()


@pytest.mark.parametrize("data", [b"", zlib.compress(b""), zlib.compress(bytes(91 * 24))[:-9]], ids=len)
def test_missing_pixels_are_left_to_pillow(data: bytes) -> None:
    png = encode(draw())
    assert decode_plain_png(rebuild(png), LIMIT) is None
    assert decode_plain_png(rebuild(png, chunk(b"IDAT", data)), LIMIT) is None


def test_a_wrong_checksum_is_left_to_pillow() -> None:
    png = encode(draw())
    for at in (HEADER_BYTES - 1, len(png) - 13):
        assert decode_plain_png(png[:at] + bytes([png[at] ^ 1]) + png[at + 1 :], LIMIT) is None


@pytest.mark.parametrize("mode", ["1", "P", "LA", "I;16"])
def test_other_kinds_of_pixels_are_left_to_pillow(mode: str) -> None:
    image = Image.fromarray(draw(channels=1)[..., 0])
    buffer = io.BytesIO()
    (image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)).save(buffer, "PNG")
    assert decode_plain_png(buffer.getvalue(), LIMIT) is None


def test_chunks_that_may_affect_the_pixels_are_left_to_pillow() -> None:
    """Transparency, an orientation and texts must not be lost."""
    png = encode(draw())
    assert decode_plain_png(png, LIMIT) is not None
    for extra in (chunk(b"tRNS", bytes(6)), chunk(b"eXIf", b"MM"), chunk(b"tEXt", b"Author\0me")):
        assert decode_plain_png(rebuild(png, extra, chunk(b"IDAT", pixels_of(png))), LIMIT) is None
        assert decode_plain_png(rebuild(png, chunk(b"IDAT", pixels_of(png)), extra), LIMIT) is None


def test_an_interlaced_file_is_left_to_pillow() -> None:
    png = encode(draw())
    header = chunk(b"IHDR", png[16:28] + b"\1")
    assert decode_plain_png(png[:8] + header + png[HEADER_BYTES:], LIMIT) is None


@pytest.mark.parametrize(("limit", "fits"), [(720, True), (719, False)])
def test_more_pixels_than_allowed_are_left_to_pillow(limit: int, fits: bool) -> None:
    assert (decode_plain_png(encode(draw()), limit) is not None) == fits
