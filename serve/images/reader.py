"""Image files -> the pixels that a model takes.

Enters: the bytes of image files. Leaves: for each its pixels, uint8 [H, W, C], and the time they took, or the error.
Does not know: batches and who waits for them, ONNX Runtime, gRPC.

    bytes -> decode -> policy -> pixels
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from serve.errors import ImageError
from serve.images.decode import decode
from serve.images.pixels import Pixels, Policy


class Prepared(NamedTuple):
    """An image as the network sees it, and what that took."""

    pixels: Pixels
    """uint8 [H, W, C]."""
    decode_us: int
    prepare_us: int


class ImageReader:
    """Reads images for one model. Every method may be called from any thread."""

    def __init__(self, policy: Policy, max_pixels: int) -> None:
        self._policy = policy
        self._max_pixels = max_pixels

    def read(self, image_bytes: bytes) -> Prepared | Exception:
        """Decode and prepare one image; its faults are its own."""
        try:
            start_ns = time.perf_counter_ns()
            decoded = decode(image_bytes, self._max_pixels)
            decoded_ns = time.perf_counter_ns()
            pixels = self._policy(decoded)
        except ImageError as error:  # returned, so that no fault of one image reaches its neighbours
            return _without_trace(error)
        except Exception as error:  # a fault of ours; the log wants its trace
            return error
        prepared_ns = time.perf_counter_ns()
        return Prepared(pixels, (decoded_ns - start_ns) // 1000, (prepared_ns - decoded_ns) // 1000)

    def read_all(self, images: Sequence[bytes | Prepared | Exception]) -> list[Prepared | Exception]:
        """Each image in its place; what is no longer bytes is handed through."""
        return [self.read(image) if isinstance(image, bytes) else image for image in images]


def _without_trace(error: ImageError) -> ImageError:
    """The error alone: its trace keeps frames, and those the error, the image and the request.

    Such a circle stays until the garbage collector comes by: with one caller of large images, a gigabyte later.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
