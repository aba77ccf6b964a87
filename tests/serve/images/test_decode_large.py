"""serve.images.decode: an image that may take long to decode is known to be large before it is decoded."""

import io
import struct
import time
import zlib

import pytest
from PIL import Image

from serve.errors import UnreadableImage
from serve.images.decode import decode, is_large
from tests.serve.images.test_decode import LIMIT, PNG_SIGNATURE, chunk, draw, idat, ihdr
from tests.support import encode


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "BMP"])
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
def test_a_file_that_may_decompress_to_much_is_large(data: bytes) -> None:
    """Pillow fills a GIF's frame and decompresses the texts and profiles of a PNG when it opens the file."""
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
    ids=["after the pixels", "before the header", "with the name of pixels inside"],
)
def test_a_compressed_text_is_found_anywhere_in_a_png(chunks: bytes) -> None:
    assert is_large(PNG_SIGNATURE + chunks)


def test_pixels_that_spell_the_name_of_a_text_are_not_large() -> None:
    stored = zlib.compressobj(level=0)
    pixels = stored.compress(b"\0zTXt") + stored.flush()
    data = PNG_SIGNATURE + ihdr(4, 1) + chunk(b"IDAT", pixels) + END
    assert b"zTXt" in data
    assert decode(data, LIMIT).tobytes() == b"zTXt"
    assert not is_large(data)


def test_many_bytes_are_large_in_any_format() -> None:
    assert is_large(bytes(32 * 1024 + 1))
    assert not is_large(bytes(32 * 1024))


@pytest.mark.parametrize("data", [b"", b"text", b"RIF", b"II+\0"], ids=repr)
def test_bytes_without_a_signature_are_not_large(data: bytes) -> None:
    assert not is_large(data)


@pytest.mark.parametrize(
    "chunks",
    [ihdr(5, 5) + ihdr(600, 600), chunk(b"abCd", bytes(13)) + ihdr(600, 600)],
    ids=["second-header", "late-header"],
)
def test_a_png_cannot_hide_a_large_image_from_is_large(chunks: bytes) -> None:
    """Pillow takes the last IHDR chunk in any place. The specification allows only one, in the first place."""
    data = PNG_SIGNATURE + chunks + idat(600, 600) + chunk(b"IEND", b"")
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (600, 600)
    assert not is_large(data)
    with pytest.raises(UnreadableImage, match="IHDR"):
        decode(data, LIMIT)


def test_a_webp_of_any_size_is_large() -> None:
    assert is_large(encode(Image.new("L", (1, 1)), "WEBP"))


def run_length_bmp(width: int, height: int, runs: bytes, bits: int = 8) -> bytes:
    """A run-length encoded BMP of 8 or 4 bits a pixel with a grey palette."""
    palette = b"".join(bytes([level, level, level, 0]) for level in range(1 << bits))
    kind = {8: 1, 4: 2}[bits]
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, kind, len(runs), 0, 0, 1 << bits, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("width", "height"), [(2_000_000, 1), (1, 65_537), (257, -256), (4, 4)])
def test_a_bmp_with_run_lengths_is_refused_before_it_is_decoded(bits: int, width: int, height: int) -> None:
    """Pillow fills these pixels one by one in Python, although two bytes can mean that all are black."""
    with pytest.raises(UnreadableImage, match="wanted a BMP without run-length compression"):
        decode(run_length_bmp(width, height, b"\0\0\0\1", bits), 50_000_000)


def test_a_bmp_of_the_oldest_header_has_no_run_lengths() -> None:
    """Its header is shorter than the others, so pixels are in the place of their compression."""
    pixels = bytes(4) + (1).to_bytes(4, "little") + bytes(12 * 65_537)
    data = b"BM" + struct.pack("<IHHIIHHHH", 26 + len(pixels), 0, 0, 26, 12, 4, 65_535, 1, 24) + pixels
    assert int.from_bytes(data[30:34], "little") == 1
    assert decode(data, LIMIT).size == (4, 65_535)


MAX_CPU_S = 0.0005
"""CPU time of is_large on any machine. It takes microseconds, and Pillow takes milliseconds to open each of these."""


def jpeg_with(segments: bytes, before: bytes = b"\xff\xe0") -> bytes:
    """A JPEG with more segments before the first marker `before`."""
    whole = encode(draw(), "JPEG")
    return whole.replace(before, segments + before, 1)


def segment(code: int, contents: bytes) -> bytes:
    """One segment of a JPEG."""
    return b"\xff" + bytes([code]) + (len(contents) + 2).to_bytes(2) + contents


def tags(count: int) -> bytes:
    """EXIF data of many tags, each a number."""
    entries = b"".join(struct.pack("<HHII", 1_000 + index, 3, 1, 0) for index in range(count))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(4)


def many_coloured_bmp() -> bytes:
    """A BMP that announces a palette of 65,536 colours."""
    data = bytearray(encode(draw().convert("L"), "BMP"))
    data[46:50] = (65_536).to_bytes(4, "little")
    return bytes(data)


def animated_webp(inside: bytes) -> bytes:
    """An animation with EXIF data inside its first frame, after the pixels."""
    data = bytearray(encode(draw(), "WEBP", save_all=True, append_images=[draw().rotate(180)]))
    part = b"EXIF" + len(inside).to_bytes(4, "little") + inside
    frame = data.index(b"ANMF")
    length = int.from_bytes(data[frame + 4 : frame + 8], "little")
    data[frame + 8 + length : frame + 8 + length] = part
    data[frame + 4 : frame + 8] = (length + len(part)).to_bytes(4, "little")
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    data[20] |= 8  # the flag for EXIF data
    return bytes(data)


HOSTILE = {
    "segments of a JPEG": jpeg_with(b"\xff\xe2\0\2" * 7_500),
    "segments after the size of a JPEG": jpeg_with(b"\xff\xe2\0\2" * 7_500, before=b"\xff\xda"),
    "bytes between the segments of a JPEG": jpeg_with(bytes(30_000), before=b"\xff\xdb"),
    "fill bytes in a JPEG": jpeg_with(b"\xff" * 30_000),
    "tags of a JPEG": jpeg_with(segment(0xE1, tags(2_500))),
    "resources of a JPEG": jpeg_with(segment(0xED, b"Photoshop 3.0\0" + (b"8BIM" + bytes(8)) * 2_500)),
    "tables of a JPEG": jpeg_with(segment(0xDB, (b"\0" + b"\1" * 64) * 450)),
    "chunks of a PNG": PNG_SIGNATURE + ihdr(4, 1) + chunk(b"prVt", b"") * 2_600 + idat(4, 1) + END,
    "chunks after the pixels of a PNG": PNG_SIGNATURE + ihdr(4, 1) + idat(4, 1) + chunk(b"prVt", b"") * 2_600 + END,
    "empty pixel chunks of a PNG": PNG_SIGNATURE + ihdr(4, 1) + chunk(b"IDAT", b"") * 2_600 + idat(4, 1) + END,
    "tags of a PNG": PNG_SIGNATURE + ihdr(4, 1) + chunk(b"eXIf", tags(2_500)[6:]) + idat(4, 1) + END,
    "tags of a WebP": encode(draw(), "WEBP", exif=tags(2_500)),
    "tags inside a frame of a WebP": animated_webp(tags(2_500)),
    "colours of a BMP": many_coloured_bmp(),
    "run lengths of a BMP": run_length_bmp(128, 128, b"\1\5" * 15_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_that_is_slow_to_open_is_large_without_opening_it(name: str) -> None:
    """Each file has thousands of parts, or pixels that Pillow decodes in Python. The best of five times counts."""
    data, taken_s = HOSTILE[name], []
    assert len(data) < 32 * 1024
    for _ in range(5):
        begun_s = time.thread_time()
        assert is_large(data)
        taken_s.append(time.thread_time() - begun_s)
    assert min(taken_s) < MAX_CPU_S
