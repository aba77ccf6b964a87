"""serve.images.png: many plain PNGs of one shape are decoded as if each were alone, and what else is there is left out."""

import io
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serve.images.png import decode_alike
from tests.serve.images.test_decode import chunk
from tests.serve.images.test_png import HEADER_BYTES, encode, rebuild

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]))


def draw(count: int, shape: tuple[int, int, int], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Images uint8 [N, H, W, C] of noise on a gradient, so that an encoder finds use for every filter."""
    pixels = np.random.default_rng(seed).integers(0, 9, (count, *shape), np.uint8)
    return pixels + (20 * np.arange(shape[0]))[:, None, None].astype(np.uint8)


def replace_rows(png: bytes, rows: bytes) -> bytes:
    """A PNG with the header of another, and filtered rows of its own."""
    return rebuild(png, chunk(b"IDAT", zlib.compress(rows)))


@given(st.integers(1, 5), SHAPES, st.integers(0, 9))
def test_the_pixels_are_those_that_went_in(count: int, shape: tuple[int, int, int], level: int) -> None:
    pixels = draw(count, shape)
    places, found = decode_alike([encode(each, compress_level=level) for each in pixels], shape)
    assert places == list(range(count))
    np.testing.assert_array_equal(found, pixels)


@given(st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=6))
def test_no_filter_reaches_over_to_the_image_above(filters: list[list[int]]) -> None:
    """Rows of random bytes, each under any filter: those of the first row look at the row above."""
    random = np.random.default_rng(len(filters))
    files = []
    for of_rows in filters:
        rows = random.integers(0, 256, (6, 1 + 7), np.uint8)
        rows[:, 0] = of_rows
        files.append(replace_rows(encode(np.zeros((6, 7, 1), np.uint8)), rows.tobytes()))
    places, found = decode_alike(files, (6, 7, 1))
    assert places == list(range(len(files)))
    for file, pixels in zip(files, found, strict=True):
        np.testing.assert_array_equal(pixels[..., 0], np.asarray(Image.open(io.BytesIO(file))))


@given(st.data())
def test_a_damaged_file_is_left_out_or_is_what_pillow_makes_of_it(data: st.DataObject) -> None:
    """Bytes changed anywhere, with the checksums left or mended; its neighbours are as they were."""
    pixels = draw(3, (9, 8, 3))
    files = [encode(each, compress_level=data.draw(st.sampled_from([0, 6]))) for each in pixels]
    png = bytearray(files[1])
    for _ in range(data.draw(st.integers(1, 3))):
        png[data.draw(st.integers(0, len(png) - 1))] = data.draw(st.integers(0, 255))
    files[1] = bytes(png)
    if data.draw(st.booleans()):
        files[1] = files[0][:HEADER_BYTES] + chunk(b"IDAT", files[1][HEADER_BYTES + 8 : -16]) + files[0][-12:]
    places, found = decode_alike(files, (9, 8, 3))
    assert places in ([0, 2], [0, 1, 2])
    np.testing.assert_array_equal(found[[0, -1]], pixels[[0, 2]])
    if 1 in places:
        np.testing.assert_array_equal(found[1], np.asarray(Image.open(io.BytesIO(files[1]))))


ROWS = bytes([1, *[5] * 8]) * 6


@pytest.mark.parametrize(
    "rows",
    [b"", ROWS[:-1], ROWS[:-9], ROWS + b"\0", ROWS + ROWS, b"\5" + ROWS[1:], ROWS[:-9] + b"\xff" + ROWS[-8:]],
    ids=["none", "a byte less", "a row less", "a byte more", "twice as many", "first filter", "last filter"],
)
def test_rows_that_are_not_those_of_the_shape_are_left_out(rows: bytes) -> None:
    png = encode(np.zeros((6, 8, 1), np.uint8))
    assert decode_alike([replace_rows(png, ROWS)], (6, 8, 1))[0] == [0]
    assert decode_alike([replace_rows(png, rows)], (6, 8, 1))[0] == []


@pytest.mark.parametrize(
    "change", [lambda packed: packed[:-1], lambda packed: packed[:-4] + bytes(4)], ids=["cut", "sum"]
)
def test_a_stream_that_does_not_end_as_it_should_is_left_out(change: Callable[[bytes], bytes]) -> None:
    png = encode(np.zeros((6, 8, 1), np.uint8))
    assert decode_alike([rebuild(png, chunk(b"IDAT", change(zlib.compress(ROWS))))], (6, 8, 1))[0] == []


def test_bytes_behind_the_stream_say_nothing_as_with_pillow() -> None:
    png = rebuild(encode(np.zeros((6, 8, 1), np.uint8)), chunk(b"IDAT", zlib.compress(ROWS) + b"more"))
    np.testing.assert_array_equal(decode_alike([png], (6, 8, 1))[1][0, ..., 0], np.asarray(Image.open(io.BytesIO(png))))


@pytest.mark.parametrize("count", [1, 4, 12, 20])
def test_a_file_that_ends_early_is_left_out(count: int) -> None:
    png = encode(np.zeros((6, 8, 1), np.uint8))
    assert decode_alike([png[:-count], png, png[:-count] + bytes(count)], (6, 8, 1))[0] == [1]


@pytest.mark.parametrize("shape", [(8, 6, 1), (6, 8, 3), (6, 9, 1), (5, 8, 1)])
def test_images_of_other_shapes_are_left_out(shape: tuple[int, int, int]) -> None:
    png = encode(draw(1, (6, 8, 1))[0])
    places, found = decode_alike([encode(draw(1, shape)[0]), png, b"", b"no image"], (6, 8, 1))
    assert places == [1]
    assert decode_alike([png], shape)[0] == []
    assert found.shape == (1, 6, 8, 1)


def test_a_palette_and_transparency_are_left_out() -> None:
    grey = Image.fromarray(draw(1, (6, 8, 1))[0, ..., 0])
    for mode in ("P", "1", "LA"):
        buffer = io.BytesIO()
        grey.convert(mode).save(buffer, "PNG")
        assert decode_alike([buffer.getvalue()], (6, 8, 1))[0] == []
    png = encode(np.zeros((6, 8, 1), np.uint8))
    pixels = chunk(b"IDAT", zlib.compress(ROWS))
    assert decode_alike([rebuild(png, chunk(b"tRNS", bytes(2)), pixels)], (6, 8, 1))[0] == []


def test_what_unfolds_to_far_more_is_never_unfolded() -> None:
    bomb = replace_rows(encode(np.zeros((6, 8, 1), np.uint8)), bytes(32 * 2**20))
    tracemalloc.start()
    try:
        assert decode_alike([bomb] * 8, (6, 8, 1))[0] == []
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_of_no_files_there_are_no_pixels() -> None:
    places, found = decode_alike([], (6, 8, 1))
    assert places == []
    assert found.shape == (0, 6, 8, 1)
