"""serve.images.decode: every supported format is decoded to its pixels; all other bytes raise an ImageError."""

import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from PIL import GifImagePlugin, Image

from serve.errors import EmptyImage, ImageError, ImageTooLarge, TruncatedImage, UnreadableImage
from serve.images.decode import FORMAT_NAMES, decode, is_large
from tests.support import encode

LIMIT = 1_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBPVP8 ", b"GIF89a", b"BM")
PNG_SIGNATURE = SIGNATURES[0]
ORIENTATION = 0x0112


def draw() -> Image.Image:
    """A picture of 30 x 24 in 8 flat colours, which all lossless formats and a palette can store."""
    y, x = np.mgrid[:24, :30]
    pixels = np.stack([x // 15 * 200, y // 12 * 200, (x + y) // 27 * 200], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def draw_noise() -> Image.Image:
    """A picture of 14 x 12 that no format compresses much, so that most of a file is pixels."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 14, 3), np.uint8))


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)


def ihdr(width: int, height: int) -> bytes:
    """The header chunk of an 8-bit grey PNG."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


def idat(width: int, height: int) -> bytes:
    """Black rows for an 8-bit grey PNG."""
    return chunk(b"IDAT", zlib.compress(bytes((width + 1) * height), 9))


def pixels_of(image: Image.Image) -> npt.NDArray[np.uint8]:
    """RGB pixels, uint8 [H, W, 3]."""
    return np.asarray(image.convert("RGB"))


def try_decode(data: bytes) -> Image.Image | None:
    """The image, or None for an ImageError. Any other exception fails the test."""
    try:
        return decode(data, LIMIT)
    except ImageError:
        return None


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_lossless_file_is_decoded_to_the_encoded_pixels(format_name: str) -> None:
    np.testing.assert_array_equal(pixels_of(decode(encode(draw(), format_name), LIMIT)), pixels_of(draw()))


def test_a_jpeg_is_decoded_to_nearly_the_encoded_pixels() -> None:
    found = pixels_of(decode(encode(draw(), "JPEG", quality=95, subsampling=0), LIMIT))
    assert np.abs(found.astype(int) - pixels_of(draw())).mean() < 5


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "GIF"])
def test_an_animation_gives_its_first_frame(format_name: str) -> None:
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    data = encode(red, format_name, save_all=True, append_images=[blue, blue], duration=100)
    assert pixels_of(decode(data, LIMIT)).tolist() == [[[255, 0, 0]] * 8] * 8


def test_a_cmyk_jpeg_is_decoded_with_its_colours() -> None:
    image = decode(encode(Image.new("RGB", (16, 16), (250, 60, 20)).convert("CMYK"), "JPEG", quality=95), LIMIT)
    assert image.mode == "CMYK"
    assert np.abs(pixels_of(image).astype(int) - (250, 60, 20)).max() <= 4


def test_a_16_bit_grey_png_keeps_its_16_bits() -> None:
    levels = np.linspace(0, 65_535, 30 * 24).astype(np.uint16).reshape(24, 30)
    image = decode(encode(Image.fromarray(levels), "PNG"), LIMIT)
    np.testing.assert_array_equal(np.asarray(image), levels)


@pytest.mark.parametrize("format_name", ["PNG", "GIF"])
def test_a_palette_keeps_its_transparency(format_name: str) -> None:
    image = draw().convert("P")
    corner = image.getpixel((0, 0))
    found = decode(encode(image, format_name, transparency=corner), LIMIT).convert("RGBA")
    opaque = np.asarray(image) != corner
    assert not opaque.all()
    np.testing.assert_array_equal(np.asarray(found)[..., 3] > 0, opaque)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP"])
def test_the_orientation_is_kept_and_not_applied(format_name: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = decode(encode(draw(), format_name, exif=exif), LIMIT)
    assert image.size == draw().size
    assert image.getexif()[ORIENTATION] == 6


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_prefix_of_a_file_is_an_image_or_an_image_error(format_name: str) -> None:
    data = encode(draw_noise(), format_name)
    decoded = [length for length in range(len(data) + 1) if try_decode(data[:length])]
    assert decoded[-1] == len(data)
    assert decoded[0] > 0.9 * len(data), "an image that lacks pixels was decoded"


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_file_that_ends_in_its_pixels_is_called_truncated(format_name: str) -> None:
    data = encode(draw_noise(), format_name)
    with pytest.raises(TruncatedImage, match="wanted a whole image file, got one that ends too early"):
        decode(data[: len(data) * 3 // 4], LIMIT)


def test_a_complete_webp_with_invalid_data_is_not_called_truncated() -> None:
    data = bytearray(encode(draw_noise(), "WEBP"))
    data[20:40] = bytes(20)  # the start of the pixels
    with pytest.raises(UnreadableImage, match="got one with invalid data"):
        decode(bytes(data), LIMIT)


@pytest.mark.parametrize("signature", SIGNATURES)
def test_random_bytes_after_a_signature_give_an_image_error(signature: bytes) -> None:
    generator = np.random.default_rng(1)
    for length in range(150):
        data = signature + generator.bytes(length)
        assert is_large(data) in {True, False}
        with pytest.raises(ImageError):
            decode(data, LIMIT)


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_damaged_file_gives_an_image_or_an_image_error(format_name: str) -> None:
    """Bytes change near the start, where the headers are. The checksums of a PNG are corrected."""
    generator = np.random.default_rng(2)
    whole = encode(draw(), format_name)
    for _ in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        places = generator.integers(0, min(len(data), 150), generator.integers(1, 5))
        data[places] = generator.integers(0, 256, len(places))
        damaged = fix_checksums(data.tobytes()) if format_name == "PNG" else data.tobytes()
        assert is_large(damaged) in {True, False}
        try_decode(damaged)


def fix_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the right checksums, so that a decoder continues."""
    start, chunks = 8, []
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 4])
        chunks.append(chunk(data[start + 4 : start + 8], data[start + 8 : start + 8 + length]))
        start += 12 + length
    return data[:8] + b"".join(chunks)


def test_zero_bytes_are_an_empty_image() -> None:
    with pytest.raises(EmptyImage, match=f"wanted the bytes of a {FORMAT_NAMES} file, got 0 bytes"):
        decode(b"", LIMIT)


def test_a_text_file_is_refused_with_the_formats_and_its_beginning() -> None:
    with pytest.raises(UnreadableImage, match=f"wanted a {FORMAT_NAMES} file, got text that begins 'hello, world'"):
        decode(b"hello, world", LIMIT)


@pytest.mark.parametrize("format_name", ["PPM", "ICO", "TGA", "PCX", "JPEG2000"])
def test_an_unsupported_format_that_pillow_reads_is_refused(format_name: str) -> None:
    with pytest.raises(UnreadableImage):
        decode(encode(draw().resize((32, 32)), format_name), LIMIT)


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_image_at_the_limit_is_decoded_and_one_row_more_is_refused(format_name: str) -> None:
    decode(encode(Image.new("RGB", (50, 20)), format_name), 1_000)
    with pytest.raises(ImageTooLarge, match="wanted an image of at most 1,000 pixels and 65,535 a side, got 50 x 21"):
        decode(encode(Image.new("RGB", (50, 21)), format_name), 1_000)


@pytest.mark.parametrize("step", ["__init__", "load"])
def test_memory_that_runs_out_is_not_called_a_fault_of_the_image(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def run_out(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(GifImagePlugin.GifImageFile, step, run_out)
    with pytest.raises(MemoryError):
        decode(encode(draw(), "GIF"), LIMIT)
