"""serve.images.header: the size of an ordinary file is read from its header; a size is never wrong."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import GifImagePlugin, Image, ImageCms

from serve.images.decode import decode, is_large
from serve.images.header import read_gif_size, read_size
from tests.serve.images.test_decode import (
    FORMATS,
    LIMIT,
    PNG_SIGNATURE,
    chunk,
    draw,
    fix_checksums,
    try_decode,
)
from tests.support import encode

SIZE = draw().size
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def camera_tags() -> Image.Exif:
    """The EXIF tags of a camera, without its maker note."""
    exif = Image.Exif()
    exif.update({0x010F: "Maker", 0x0110: "Model", 0x0112: 6, 0x011A: 72.0, 0x011B: 72.0, 0x0128: 2})
    exif.update({0x0131: "Firmware 1.0", 0x0132: "2026:01:02 03:04:05", 0x0213: 1})
    return exif


def split_png() -> bytes:
    """A PNG as libpng writes it from a small buffer: pixels in several chunks, and other chunks before them."""
    whole = encode(draw(), "PNG", dpi=(72, 72))
    start = whole.index(b"IDAT") - 4
    pixels = whole[start + 8 : -16]
    parts = b"".join(chunk(b"IDAT", pixels[at : at + 16]) for at in range(0, len(pixels), 16))
    return whole[:start] + chunk(b"gAMA", (45_455).to_bytes(4)) + chunk(b"tEXt", b"Software\0ours") + parts + END


def bmp_of(header: bytes, bytes_per_pixel: int = 3) -> bytes:
    """A black BMP of 30 x 24 with a given header."""
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + header + bytes((30 * bytes_per_pixel + 3) // 4 * 4 * 24)


END = chunk(b"IEND", b"")
TOP_DOWN_BMP = bmp_of(struct.pack("<IiiHHIIiiII", 40, 30, -24, 1, 24, 0, 0, 0, 0, 0, 0))
OLD_BMP = bmp_of(struct.pack("<IHHHH", 12, 30, 24, 1, 24))
ORDINARY = {
    "png": encode(draw(), "PNG"),
    "png-grey": encode(draw().convert("L"), "PNG"),
    "png-palette": encode(draw().convert("P"), "PNG", transparency=0),
    "png-tags": encode(draw(), "PNG", exif=camera_tags(), dpi=(72, 72)),
    "png-parts": split_png(),
    "jpeg": encode(draw(), "JPEG"),
    "jpeg-grey": encode(draw().convert("L"), "JPEG"),
    "jpeg-cmyk": encode(draw().convert("CMYK"), "JPEG"),
    "jpeg-progressive": encode(draw(), "JPEG", progressive=True, optimize=True),
    "jpeg-restarts": encode(draw(), "JPEG", restart_marker_blocks=1, quality=95, subsampling=0),
    "jpeg-tags": encode(draw(), "JPEG", exif=camera_tags(), icc_profile=PROFILE, dpi=(72, 72), comment="a picture"),
    "jpeg-large-profile": encode(draw(), "JPEG", exif=camera_tags(), icc_profile=bytes(3_144)),
    "bmp": encode(draw(), "BMP"),
    "bmp-bits": encode(draw().convert("1"), "BMP"),
    "bmp-grey": encode(draw().convert("L"), "BMP"),
    "bmp-palette": encode(draw().convert("P"), "BMP"),
    "bmp-alpha": encode(draw().convert("RGBA"), "BMP"),
    "bmp-top-down": TOP_DOWN_BMP,
    "bmp-old": OLD_BMP,
}


@pytest.mark.parametrize("name", ORDINARY)
def test_the_size_of_an_ordinary_file_is_read(name: str) -> None:
    assert decode(ORDINARY[name], LIMIT).size == SIZE
    assert read_size(ORDINARY[name]) == SIZE
    assert not is_large(ORDINARY[name])


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "BMP"])
@pytest.mark.parametrize("size", [(1, 1), (255, 256), (257, 1), (1, 4_000)])
def test_width_and_height_are_read_in_full_and_in_order(format_name: str, size: tuple[int, int]) -> None:
    for options in ({}, {"lossless": True}, {"exif": camera_tags()}):
        assert read_size(encode(Image.new("RGB", size), format_name, **options)) == size


@pytest.mark.parametrize("name", [name for name in ORDINARY if not name.startswith("png")])
def test_a_size_read_from_a_damaged_file_is_the_one_that_pillow_finds(name: str) -> None:
    """Otherwise a small size could hide a large image. For a PNG, decode() compares the sizes."""
    generator = np.random.default_rng(3)
    agreed = 0
    for _ in range(200):
        data = np.frombuffer(ORDINARY[name], np.uint8).copy()
        places = generator.integers(0, min(len(data), 200), generator.integers(1, 4))
        data[places] = generator.choice([0, 1, 2, 0xC0, 0xC2, 0xDA, 0xE1, 0xFF, *range(256)], len(places))
        size, image = read_size(data.tobytes()), try_decode(data.tobytes())
        if size and image:
            assert image.size == size
            agreed += 1
    assert agreed


def test_a_damaged_png_is_decoded_in_no_other_size_than_was_read() -> None:
    generator = np.random.default_rng(4)
    for name in ("png", "png-parts", "png-tags"):
        for _ in range(200):
            data = np.frombuffer(ORDINARY[name], np.uint8).copy()
            data[generator.integers(8, len(data), 2)] = generator.integers(0, 256, 2)
            fixed = fix_checksums(data.tobytes())
            size, image = read_size(fixed), try_decode(fixed)
            assert not (size and image) or image.size == size


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_file_that_ends_anywhere_raises_nothing(format_name: str) -> None:
    """Its first ten bytes give no size."""
    data = encode(draw(), format_name)
    sizes = [read_size(data[:length]) for length in range(len(data))]
    assert set(sizes[:10]) == {None}


@pytest.mark.parametrize(
    "data",
    [
        encode(draw(), "JPEG").replace(b"\xff\xda", encode(draw(), "JPEG")[2:] + b"\xff\xda", 1),
        encode(draw(), "JPEG").replace(b"\xff\xdb", b"\xff\xd8\xff\xdb", 1),
        encode(draw(), "JPEG").replace(b"\xff\xdb", b"\xff\xe2\0\0\xff\xdb", 1),
        encode(draw(), "JPEG")[:100],
    ],
    ids=["two frames", "a marker alone", "no length", "no scan"],
)
def test_a_jpeg_that_can_be_read_in_two_ways_has_no_size(data: bytes) -> None:
    """Pillow takes the size of the last frame, and libjpeg that of the first. They also skip markers differently."""
    assert read_size(data) is None


@pytest.mark.parametrize("count", [28, 29])
def test_a_png_of_32_chunks_is_ordinary_and_of_33_is_not(count: int) -> None:
    """The count includes IHDR, two chunks of pixels and IEND."""
    header, pixels = encode(Image.new("L", (1, 1)), "PNG")[8:33], zlib.compress(bytes(2))
    parts = chunk(b"IDAT", pixels[:1]) + chunk(b"IDAT", pixels[1:])
    data = PNG_SIGNATURE + header + chunk(b"prVt", b"") * count + parts + END
    assert (read_size(data) == (1, 1)) == (count == 28)


@pytest.mark.parametrize("format_name", ["GIF", "TIFF", "PPM"])
def test_other_formats_have_no_size(format_name: str) -> None:
    assert read_size(encode(draw(), format_name)) is None


CONTROL, LOOP, EMPTY = b"!\xf9\4\0\0\0\0\0", b"!\xff\x0bNETSCAPE2.0", b"," + bytes(44) + b"\0"
EXTENSIONS = st.sampled_from(
    [
        *(b"!\xfe\3abc\0", b"!\xfe\1,\1;\0", b"!\xfe\0", CONTROL, b"\0", b"x"),
        *(b"!\xf9\0\0", b"!\1\0" + EMPTY, b"!\xff\0" + EMPTY, LOOP + b"\3\1\0\0\0", LOOP + b"\0" + EMPTY),
    ]
)


@given(st.tuples(*[st.integers(1, 60)] * 2), st.tuples(*[st.integers(0, 60)] * 4), st.booleans(), st.lists(EXTENSIONS))
def test_a_gif_has_the_size_that_pillow_finds(
    screen: tuple[int, int], frame: tuple[int, int, int, int], has_palette: bool, extensions: list[bytes]
) -> None:
    """The first frame (left, top, width, height) may reach over the edge of the screen."""
    palette = (b"\x80\0\0" + bytes(6)) if has_palette else bytes(3)
    start = b"GIF89a" + struct.pack("<2H", *screen) + palette + b"".join(extensions)
    data = start + b"," + struct.pack("<4H", *frame) + b"\0\2\0;"
    assert read_gif_size(data) == GifImagePlugin.GifImageFile(io.BytesIO(data)).size
    for length in range(10, len(data)):
        assert read_gif_size(data[:length]) in (screen, read_gif_size(data))
