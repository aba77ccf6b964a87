"""Image bytes -> a decoded Pillow image, with every limit on what a caller may send.

Enters: the bytes of one image file. Leaves: a `PIL.Image.Image` whose pixels are loaded, as the file has them.
Does not know: models, shapes, batches, gRPC.
"""

from io import BytesIO

from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from serve.errors import EmptyImage, ImageError, ImageTooLarge, TruncatedImage, UnreadableImage
from serve.images.header import (
    BMP,
    GIF,
    JPEG,
    PNG,
    RIFF,
    count_parts,
    is_run_length_bmp,
    read_gif_size,
    read_png_size,
    read_size,
)
from serve.images.png import decode_plain_png

FORMAT_NAMES = "PNG, JPEG, WebP, GIF or BMP"

# The plugins are called by signature instead of Image.open: nothing else that Pillow can read is ever tried.
_PLUGINS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (PNG, PngImagePlugin.PngImageFile),
    (JPEG, JpegImagePlugin.JpegImageFile),
    (RIFF, WebPImagePlugin.WebPImageFile),
    (GIF, GifImagePlugin.GifImageFile),
    (BMP, BmpImagePlugin.BmpImageFile),
)
_SIGNATURES = tuple(signature for signature, _ in _PLUGINS)
# Past these an image is decoded beside the batch, so that it holds up nobody else's.
_LARGE_BYTES = 32 * 1024
_LARGE_PIXELS = 128 * 128
_JPEG_SCAN = b"\xff\xda"
_MOST_JPEG_SCANS = 100
"""Of a progressive JPEG, which encoders write with ten or so. Each goes over all pixels again, for 75 bytes: a message
full of them would take an hour."""
_MOST_PARTS = 10_000
"""Segments of a JPEG before its scan, chunks of a PNG, blocks of a GIF before its frame: Pillow takes a microsecond for
each, or for a byte between two, and a message of 16 MiB would have room for 13 s of them. A PNG of 16 MiB in chunks of
4 KiB has 4,000."""


def decode(image_bytes: bytes, max_pixels: int) -> Image.Image:
    """Decode one image; of an animation, the first frame.

    Raises EmptyImage, UnreadableImage, TruncatedImage, and ImageTooLarge before any pixel is decoded.
    """
    if plain := decode_plain_png(image_bytes, max_pixels):
        return plain
    _check_before_opening(image_bytes, max_pixels)
    image = _open(image_bytes)
    width, height = image.size
    if width * height > max_pixels:
        raise _too_large(max_pixels, width, height)
    try:
        image.load()
    except Exception as error:  # a decoder may fail in any way on hostile bytes, and all of them mean the same
        raise _undecodable(error, image_bytes) from error
    return image


def is_large(image_bytes: bytes) -> bool:
    """Whether decoding may take long enough to hold up a batch: many bytes, or more than 128 x 128 pixels, or unknown.

    Cheap enough for an event loop: the header of a small file is read, and nothing is opened. A file whose header does
    not tell counts as large, so every WebP and every GIF does. Bytes that are no image do not.
    """
    if len(image_bytes) > _LARGE_BYTES:
        return True
    if not image_bytes.startswith(_SIGNATURES):
        return False
    size = read_size(image_bytes)
    return size is None or size[0] * size[1] > _LARGE_PIXELS


def _check_before_opening(image_bytes: bytes, max_pixels: int) -> None:
    """Raise ImageError for what Pillow would spend much on before it says a size, or although the size is small."""
    if image_bytes.startswith(JPEG) and (scans := image_bytes.count(_JPEG_SCAN)) > _MOST_JPEG_SCANS:
        raise UnreadableImage(f"wanted a JPEG of at most {_MOST_JPEG_SCANS} scans, got one of {scans}")
    # Of fewer bytes than that there are no more parts: a small image is not walked through once more.
    if len(image_bytes) > _MOST_PARTS and count_parts(image_bytes, _MOST_PARTS) > _MOST_PARTS:
        raise UnreadableImage(f"wanted a file of at most {_MOST_PARTS:,} segments, chunks or blocks, got one of more")
    if image_bytes.startswith(GIF):
        width, height = read_gif_size(image_bytes)
        if width * height > max_pixels:
            raise _too_large(max_pixels, width, height)
    if is_run_length_bmp(image_bytes):  # Pillow fills them in Python, 0.1 us a pixel, which may come without a byte
        raise UnreadableImage("wanted a BMP without run-length compression, got one with it")


def _open(image_bytes: bytes) -> ImageFile.ImageFile:
    """The header alone."""
    if not image_bytes:
        raise EmptyImage(f"wanted the bytes of a {FORMAT_NAMES} file, got 0 bytes")
    for signature, plugin in _PLUGINS:
        if image_bytes.startswith(signature):
            try:
                image = plugin(BytesIO(image_bytes))
            except Exception as error:  # as in decode()
                raise _undecodable(error, image_bytes) from error
            if signature == PNG and image.size != read_png_size(image_bytes):
                raise UnreadableImage("wanted a PNG that begins with its one IHDR chunk, got one that does not")
            return image
    raise UnreadableImage(f"wanted a {FORMAT_NAMES} file, got {len(image_bytes)} bytes beginning {image_bytes[:8]!r}")


def _too_large(max_pixels: int, width: int, height: int) -> ImageTooLarge:
    return ImageTooLarge(f"wanted an image of at most {max_pixels:,} pixels, got {width} x {height}")


def _undecodable(error: Exception, image_bytes: bytes) -> ImageError:
    # Pillow has a limit of its own, and keeps to it before it makes room for a WebP or a GIF.
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageTooLarge("wanted an image of fewer pixels, got one whose header announces far too many")
    if "truncated" in str(error).lower() or isinstance(error, EOFError) or _lacks_bytes_of_webp(image_bytes):
        return TruncatedImage("wanted a whole image file, got one that ends too early")
    return UnreadableImage(f"wanted a {FORMAT_NAMES} file that can be decoded, got one that is broken inside")


def _lacks_bytes_of_webp(image_bytes: bytes) -> bool:
    """Whether a WebP is shorter than its header says (RFC 9649); Pillow's words for it fit any fault."""
    return image_bytes[8:12] == b"WEBP" and len(image_bytes) < 8 + int.from_bytes(image_bytes[4:8], "little")
