"""serve.decode: what may take long to decode is known to be large before anything of it is decoded."""

import io
import zlib

import pytest
from PIL import Image
from test_decode import FORMATS, LIMIT, PNG_SIGNATURE, SIGNATURES, chunk, encode, idat, ihdr

from serve.decode import decode, is_large
from serve.errors import UnreadableImage


@pytest.mark.parametrize("format_name", [name for name in FORMATS if name != "GIF"])
@pytest.mark.parametrize(("size", "large"), [((128, 128), False), ((129, 128), True), ((1, 1), False)])
def test_is_large_agrees_with_the_size_of_the_image(format_name: str, size: tuple[int, int], large: bool) -> None:
    data = encode(Image.new("1" if format_name == "BMP" else "L", size), format_name)
    width, height = decode(data, LIMIT).size
    assert (width, height) == size
    assert is_large(data) is large


@pytest.mark.parametrize(
    "data",
    [
        encode(Image.new("L", (1, 1)), "GIF"),
        PNG_SIGNATURE + ihdr(1, 1) + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(999_999))) + idat(1, 1),
        encode(Image.new("L", (1, 1)), "PNG", icc_profile=bytes(999_999)),
    ],
    ids=["GIF", "text", "profile"],
)
def test_what_may_unfold_however_small_it_is_is_large(data: bytes) -> None:
    """A GIF's frame is filled when it is opened; texts and profiles of a PNG are decompressed."""
    assert len(data) < 2_000
    assert is_large(data)


BOMB = b"a\0\0" + zlib.compress(bytes(999_999))
END = chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "chunks",
    [
        ihdr(1, 1) + idat(1, 1) + chunk(b"zTXt", BOMB) + END,
        chunk(b"zTXt", BOMB.ljust(2_000, b"\0")) + ihdr(1, 1) + idat(1, 1) + END,
        chunk(b"zTXt", b"a\0\0" + bytes(14) + (1_951).to_bytes(4) + b"IDAT" + BOMB.ljust(1_951, b"\0")) + END,
    ],
    ids=["behind the pixels", "before the header", "with the mark of pixels inside"],
)
def test_a_text_is_found_wherever_it_stands(chunks: bytes) -> None:
    assert is_large(PNG_SIGNATURE + chunks)


def test_pixels_that_spell_the_name_of_a_text_are_not_large() -> None:
    stored = zlib.compressobj(level=0)
    pixels = stored.compress(b"\0zTXt") + stored.flush()
    data = PNG_SIGNATURE + ihdr(4, 1) + chunk(b"IDAT", pixels) + END
    assert b"zTXt" in data
    assert decode(data, LIMIT).tobytes() == b"zTXt"
    assert not is_large(data)


def test_many_bytes_are_large_whatever_they_are() -> None:
    assert is_large(bytes(32 * 1024 + 1))
    assert not is_large(bytes(32 * 1024))


@pytest.mark.parametrize("data", [b"", b"text", *(each for each in SIGNATURES if each != b"GIF89a")], ids=repr)
def test_bytes_that_are_no_image_are_not_large(data: bytes) -> None:
    assert not is_large(data)


@pytest.mark.parametrize(
    "chunks",
    [ihdr(5, 5) + ihdr(600, 600), chunk(b"abCd", bytes(13)) + ihdr(600, 600)],
    ids=["second-header", "late-header"],
)
def test_a_png_cannot_hide_a_large_image_from_is_large(chunks: bytes) -> None:
    """Pillow goes by the last IHDR chunk wherever it stands; the specification wants one, and first."""
    data = PNG_SIGNATURE + chunks + idat(600, 600) + chunk(b"IEND", b"")
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (600, 600)
    assert not is_large(data)
    with pytest.raises(UnreadableImage, match="IHDR"):
        decode(data, LIMIT)
