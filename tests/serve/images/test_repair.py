"""serve.images.decode: a file that lacks nothing of its pixels is read; one that lacks some is refused."""

import numpy as np
import pytest
from PIL import Image

from serve.errors import ImageError, ImageTooLarge, TruncatedImage, UnreadableImage
from serve.images.containers.avif import announced_avif, is_avif
from serve.images.containers.tiff import announced_tiff, is_tiff
from serve.images.decode import decode, estimate_cost, find_detail, is_large
from tests.serve.images.test_decode import LIMIT, PNG_SIGNATURE, chunk, draw, draw_noise, idat, ihdr, pixels_of
from tests.support import ROOT, encode

CAT = ROOT / "tests/reported/files/cat-without-end-marker.jpg"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(progressive: bool, lost: int) -> None:
    data = encode(draw_noise(), "JPEG", progressive=progressive)
    np.testing.assert_array_equal(pixels_of(decode(data[:-lost], LIMIT)), pixels_of(decode(data, LIMIT)))


@pytest.mark.parametrize("lost", [4, 5, 8, 20, 100])
def test_a_jpeg_that_lacks_pixels_is_refused(lost: int) -> None:
    data = encode(draw_noise(), "JPEG", quality=90)
    with pytest.raises(TruncatedImage):
        decode(data[:-lost], LIMIT)


def test_the_reported_jpeg_without_an_end_marker_is_read() -> None:
    assert decode(CAT.read_bytes(), LIMIT).size == (120, 80)
    with pytest.raises(TruncatedImage):
        decode(CAT.read_bytes()[:-40], LIMIT)


def test_a_jpeg_without_an_end_marker_counts_for_each_time_that_it_is_decoded() -> None:
    data = encode(draw(), "JPEG")
    assert estimate_cost(data[:-2], LIMIT) == 3 * estimate_cost(data, LIMIT)


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"iCCP", b"pHYs", b"tIME", b"gAMA"])
@pytest.mark.parametrize("is_intact", [False, True])
def test_a_png_with_a_broken_ancillary_chunk_is_read(name: bytes, is_intact: bool) -> None:
    """Its checksum is wrong, or what it holds is."""
    broken = chunk(name, b"\xff" * 9)
    broken = broken if is_intact else broken[:-1] + bytes([broken[-1] ^ 1])
    data = encode(draw())
    found = decode(data[:33] + broken + data[33:], LIMIT)
    np.testing.assert_array_equal(pixels_of(found), pixels_of(draw()))


def test_a_png_with_a_broken_critical_chunk_is_refused() -> None:
    data = bytearray(encode(draw()))
    data[-17] ^= 1  # the checksum of IDAT
    with pytest.raises(ImageError):
        decode(bytes(data), LIMIT)


def test_a_png_whose_text_hides_another_header_is_refused() -> None:
    hidden = chunk(b"tEXt", b"\xff")[:-1] + b"\0"
    with pytest.raises(UnreadableImage):
        decode(PNG_SIGNATURE + hidden + ihdr(1, 1) + idat(1, 1) + chunk(b"IEND", b""), LIMIT)


def test_a_large_jpeg_is_decoded_at_a_reduced_scale_with_enough_detail() -> None:
    data = encode(Image.linear_gradient("L").resize((2_000, 1_200)).convert("RGB"), "JPEG")
    assert decode(data, 10_000_000).size == (500, 300)
    assert decode(encode(Image.new("RGB", (2_000, 1_200)), "WEBP"), 10_000_000).size == (500, 300)
    assert decode(data, 10_000_000, detail=601).size == (2_000, 1_200)
    assert find_detail((32, 32, 3)) == 256
    assert find_detail((224, 200, 3)) == 448
    with pytest.raises(ImageTooLarge):
        decode(data, 2_000_000)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_the_first_page_of_a_tiff_is_read(compression: str | None) -> None:
    other = Image.new("RGB", (9, 9))
    data = encode(draw(), "TIFF", save_all=True, append_images=[other] * 3, compression=compression)
    np.testing.assert_array_equal(pixels_of(decode(data, LIMIT)), pixels_of(draw()))
    assert is_tiff(data)
    assert announced_tiff(data) == draw().size
    assert is_large(data)


def test_a_tiff_that_announces_a_huge_image_or_tile_is_refused() -> None:
    data = bytearray(encode(draw(), "TIFF"))
    at = int.from_bytes(data[4:8], "little") + 2
    tags = {int.from_bytes(data[at + 12 * n : at + 12 * n + 2], "little"): at + 12 * n for n in range(data[at - 2])}
    wide, tiled = bytearray(data), bytearray(data)
    wide[tags[256] + 2 : tags[256] + 12] = b"\4\0\1\0\0\0" + (60_000).to_bytes(4, "little")
    wide[tags[257] + 2 : tags[257] + 12] = b"\4\0\1\0\0\0" + (60_000).to_bytes(4, "little")
    with pytest.raises(ImageTooLarge, match="60000 x 60000"):
        decode(bytes(wide), LIMIT)
    assert estimate_cost(bytes(wide), LIMIT) == 0
    for tag, name in ((322, 277), (323, 278)):
        tiled[tags[name] : tags[name] + 12] = (
            tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + (60_000).to_bytes(4, "little")
        )
    with pytest.raises(ImageTooLarge):
        decode(bytes(tiled), LIMIT)


@pytest.mark.parametrize("format_name", ["TIFF", "AVIF"])
def test_every_mode_of_a_new_format_has_the_brightness_that_it_shows(format_name: str) -> None:
    for mode in ("L", "RGB", "RGBA", "LA"):
        found = decode(encode(Image.new("L", (40, 30), 96).convert(mode), format_name), LIMIT)
        assert np.abs(pixels_of(found).astype(int) - 96).max() <= 3


def test_an_avif_is_read_and_its_size_is_known_before() -> None:
    data = encode(draw(), "AVIF", quality=95)
    assert is_avif(data)
    assert announced_avif(data) == draw().size
    assert np.abs(pixels_of(decode(data, LIMIT)).astype(int) - pixels_of(draw())).mean() < 8
    with pytest.raises(ImageTooLarge):
        decode(data, 100)
