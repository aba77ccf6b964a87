"""Image bytes -> a decoded Pillow image, with all limits on what a client may send.

Enters: the bytes of one image file. Leaves: a `PIL.Image.Image` with loaded pixels, in the file's mode and rotation.
Does not know: models, batches, gRPC.
"""

from io import BytesIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from serve.errors import EmptyImage, ImageError, ImageTooLarge, TruncatedImage, UnreadableImage
from serve.images.containers.avif import is_avif, read_avif_size
from serve.images.containers.tiff import TIFF_LITTLE, first_page, is_tiff, read_tiff_page
from serve.images.formats import name_content
from serve.images.header import (
    BMP,
    GIF,
    JPEG,
    PNG,
    RIFF,
    Size,
    announced_size,
    count_parts,
    is_run_length_bmp,
    read_gif_size,
    read_png_size,
    read_size,
)
from serve.images.pixels import shrink
from serve.images.png import decode_plain_png
from serve.images.repair import REPAIR_PASSES, lacks_end, repair

FORMAT_NAMES = "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a decoder for each core would take the cores of other requests

# The plugin is chosen by signature, not by Image.open, which would try all formats that Pillow reads.
PLUGINS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (PNG, PngImagePlugin.PngImageFile),
    (JPEG, JpegImagePlugin.JpegImageFile),
    (RIFF, WebPImagePlugin.WebPImageFile),
    (GIF, GifImagePlugin.GifImageFile),
    (BMP, BmpImagePlugin.BmpImageFile),
    (TIFF_LITTLE, TiffImagePlugin.TiffImageFile),
)
_SIGNATURES = tuple(signature for signature, _ in PLUGINS)
# A larger image is decoded aside, so that it does not delay the images of other requests in its batch.
_LARGE_BYTES = 32 * 1024
_LARGE_PIXELS = 128 * 128
_JPEG_SCAN = b"\xff\xda"
_MAX_JPEG_SCANS = 100
"""Scans of a progressive JPEG; encoders write about ten. A scan takes few bytes, and its decoding passes over all
pixels. So a small file can occupy a core for very long."""
_SCANS_PER_PASS = 10
"""Scans of a JPEG that cost about as much as decoding its pixels once."""
_WEBP_PASSES = 2
"""A WebP or AVIF counts this many times, because its decoder holds two more frames in memory."""
FULL_DETAIL = 256
"""Pixels of a JPEG's shorter side that are kept at least, where it is decoded at a reduced scale."""
_MAX_SCAN_PIXELS = 750_000_000
"""Pixels times scans of a progressive JPEG: what 50 million pixels need in 15 scans."""
MAX_SIDE = 65_535
"""Pixels of a side. A row of pixels is handled as a whole, and Pillow needs much memory for very many rows."""
_MAX_PARTS = 10_000
"""Segments of a JPEG before its scan, chunks of a PNG, or blocks of a GIF before its frame. Pillow reads them one by
one in Python, and a message has room for millions. A PNG of 16 MiB in chunks of 4 KiB has 4,096."""


_MODES = frozenset(("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I", "F"))
"""Pillow's modes that it converts to RGB. A TIFF may have others, such as LAB."""


def decode(image_bytes: bytes, max_pixels: int, detail: int = FULL_DETAIL) -> Image.Image:
    """Decode one image. An animation gives its first frame, and a document of pages its first page.

    A large one is made small before anything else, as long as its shorter side keeps `detail` pixels: a JPEG is decoded
    at a half, a quarter or an eighth, and what is left is averaged. Deep grey is left to the policy, which knows what
    its range means.
    Raises EmptyImage, UnreadableImage or TruncatedImage, and ImageTooLarge before any pixel is decoded.
    """
    image = decode_plain_png(image_bytes, max_pixels, MAX_SIDE) or _decode(image_bytes, max_pixels, detail)
    factor = min(image.size) // detail
    return shrink(image, factor) if factor > 1 and not image.mode.startswith(("I", "F")) else image


def _decode(image_bytes: bytes, max_pixels: int, detail: int) -> Image.Image:
    """As `decode`, by Pillow's plugins and at the scale that these give."""
    _check_before_opening(image_bytes, max_pixels)
    try:
        return _load(image_bytes, max_pixels, detail)
    except MemoryError:  # the server's fault
        raise
    except ImageError as error:
        whole = repair(image_bytes, lambda repaired: _load(repaired, max_pixels, detail))
        if whole is None:
            raise
        error.__traceback__ = None
        return whole


def _load(image_bytes: bytes, max_pixels: int, detail: int) -> Image.Image:
    """The image of a file that is in order. Raises ImageError."""
    image = _open(image_bytes)
    _check_size(image.size, max_pixels)
    if image.mode not in _MODES and not image.mode.startswith("I;16"):
        raise UnreadableImage(f"wanted grey, a palette, RGB, CMYK or YCbCr, with or without alpha, got {image.mode}")
    if image_bytes.startswith(JPEG):
        _check_scans(image_bytes, image.size)
    try:
        if image_bytes.startswith(JPEG):
            image.draft(image.mode, (detail, detail))
        image.load()
    except MemoryError:  # as in decode()
        raise
    except Exception as error:  # a decoder raises any kind of exception for hostile bytes
        raise _undecodable(error, image_bytes) from error
    return image


def find_detail(shape: tuple[int, int, int]) -> int:
    """Pixels of a picture's shorter side that a model of that input [H, W, C] may have use for."""
    return max(FULL_DETAIL, 2 * max(shape[:2]))


def estimate_cost(image_bytes: bytes, max_pixels: int) -> int:
    """Pixels that decoding may pass over, by the header: `max_pixels` if it does not tell, 0 if it will be refused.

    Cheap enough for an event loop. A JPEG counts again for every few of its scans, and a WebP counts twice.
    """
    if not is_supported(image_bytes):
        return 0
    size = announced_size(image_bytes)
    if size and (size[0] * size[1] > max_pixels or max(size) > MAX_SIDE):
        return 0
    passes = _WEBP_PASSES if image_bytes.startswith(RIFF) or is_avif(image_bytes) else 1
    if image_bytes.startswith(JPEG):
        passes += image_bytes.count(_JPEG_SCAN) // _SCANS_PER_PASS
        passes *= REPAIR_PASSES if size and lacks_end(image_bytes) else 1
    return passes * (size[0] * size[1] if size else max_pixels)


def is_supported(image_bytes: bytes) -> bool:
    """Whether a file begins as one of a supported format does."""
    return image_bytes.startswith(_SIGNATURES) or is_tiff(image_bytes) or is_avif(image_bytes)


def is_large(image_bytes: bytes, input_pixels: int = 0) -> bool:
    """Whether an image may take long enough to delay a batch: over 32 KiB, over 128 x 128 pixels, or unknown.

    To prepare a small one takes as long if the model's input has that many pixels.

    It reads only the header of a small file and opens nothing, so an event loop may call it. A file whose header does
    not give the size is large, such as every WebP and GIF. Bytes without an image's signature are not.
    """
    if len(image_bytes) > _LARGE_BYTES or input_pixels > _LARGE_PIXELS:
        return True
    if not is_supported(image_bytes):
        return False
    size = read_size(image_bytes)
    return size is None or size[0] * size[1] > _LARGE_PIXELS


def _check_before_opening(image_bytes: bytes, max_pixels: int) -> None:
    """Raise ImageError for files that cost Pillow much before it gives a size, or although the size is small."""
    if image_bytes.startswith(JPEG) and (scans := image_bytes.count(_JPEG_SCAN)) > _MAX_JPEG_SCANS:
        raise UnreadableImage(f"wanted a JPEG of at most {_MAX_JPEG_SCANS} scans, got one of {scans}")
    # A file has at most as many parts as bytes, so most small images need no count.
    if len(image_bytes) > _MAX_PARTS and count_parts(image_bytes, _MAX_PARTS) > _MAX_PARTS:
        raise UnreadableImage(f"wanted a file of at most {_MAX_PARTS:,} segments, chunks or blocks, got one of more")
    if image_bytes.startswith(GIF):
        _check_size(read_gif_size(image_bytes), max_pixels)
    if is_tiff(image_bytes):
        page = read_tiff_page(image_bytes)
        _check_size(page.size, max_pixels)
        _check_size(page.tile, max_pixels)
    if is_avif(image_bytes):
        _check_size(read_avif_size(image_bytes), max_pixels)
    if is_run_length_bmp(image_bytes):  # Pillow expands these pixels in Python, and few bytes make many pixels
        raise UnreadableImage("wanted a BMP without run-length compression, got one with it")


def _open(image_bytes: bytes) -> ImageFile.ImageFile:
    """Read the header. Raises ImageError."""
    if not image_bytes:
        raise EmptyImage(f"wanted the bytes of a {FORMAT_NAMES} file, got 0 bytes")
    plugin = _find_plugin(image_bytes)
    if plugin is None:
        raise UnreadableImage(f"wanted a {FORMAT_NAMES} file, got {name_content(image_bytes)}")
    try:
        image = plugin(BytesIO(first_page(image_bytes) if is_tiff(image_bytes) else image_bytes))
    except MemoryError:  # as in decode()
        raise
    except Exception as error:
        raise _undecodable(error, image_bytes) from error
    if image_bytes.startswith(PNG) and image.size != read_png_size(image_bytes):
        raise UnreadableImage("wanted a PNG that begins with its one IHDR chunk, got one that does not")
    return image


def _find_plugin(image_bytes: bytes) -> type[ImageFile.ImageFile] | None:
    if is_avif(image_bytes):
        return AvifImagePlugin.AvifImageFile
    if is_tiff(image_bytes):
        return TiffImagePlugin.TiffImageFile
    return next((plugin for signature, plugin in PLUGINS if image_bytes.startswith(signature)), None)


def _check_size(size: Size, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels or max(size) > MAX_SIDE:
        raise ImageTooLarge(
            f"wanted an image of at most {max_pixels:,} pixels and {MAX_SIDE:,} a side, got {width} x {height}"
        )


def _check_scans(image_bytes: bytes, size: Size) -> None:
    width, height = size
    scans = image_bytes.count(_JPEG_SCAN)
    if width * height * scans > _MAX_SCAN_PIXELS:
        raise UnreadableImage(
            f"wanted a JPEG whose pixels times its scans are at most {_MAX_SCAN_PIXELS:,}, "
            f"got {width} x {height} in {scans} scans"
        )


def _undecodable(error: Exception, image_bytes: bytes) -> ImageError:
    # Pillow has its own limit of pixels, and checks it before it allocates memory for a WebP or a GIF.
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageTooLarge("wanted an image of fewer pixels, got one whose header announces far too many")
    if "truncated" in str(error).lower() or isinstance(error, EOFError) or _is_truncated_webp(image_bytes):
        return TruncatedImage("wanted a whole image file, got one that ends too early")
    return UnreadableImage(f"wanted a {FORMAT_NAMES} file that can be decoded, got one with invalid data")


def _is_truncated_webp(image_bytes: bytes) -> bool:
    """Whether a WebP is shorter than its header says (RFC 9649). Pillow's message does not tell."""
    return image_bytes[8:12] == b"WEBP" and len(image_bytes) < 8 + int.from_bytes(image_bytes[4:8], "little")
