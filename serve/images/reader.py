"""Image files -> the pixels that a model takes: bytes -> decode -> policy -> pixels.

Enters: the bytes of image files. Leaves: for each file its pixels uint8 [H, W, C] with the times taken, or an error.
Does not know: batches, ONNX Runtime, gRPC.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from serve.errors import ImageError
from serve.images.decode import decode
from serve.images.pixels import Pixels, Policy


class Prepared(NamedTuple):
    """An image as the model takes it, and the microseconds that decoding and preparing took."""

    pixels: Pixels
    """uint8 [H, W, C]."""
    decode_us: int
    prepare_us: int


class ImageReader:
    """Reads images for one model. All methods are thread-safe."""

    def __init__(self, policy: Policy, max_pixels: int, least_side: int = 0) -> None:
        """`least_side` is what `policies.find.find_least_side` says of the policy."""
        self._policy = policy
        self._max_pixels = max_pixels
        self._least_side = least_side

    def read(self, image_bytes: bytes) -> Prepared | Exception:
        """Decode and prepare one image. Errors are returned, so that one image cannot fail the others of a batch."""
        try:
            start_ns = time.perf_counter_ns()
            decoded = [decode(image_bytes, self._max_pixels, self._least_side)]
            decoded_ns = time.perf_counter_ns()
            pixels = self._policy(decoded.pop())  # so that a policy may let go of it once it has a smaller one
        except ImageError as error:
            return _without_traceback(error)
        except Exception as error:  # a bug, whose traceback is logged
            return error
        prepared_ns = time.perf_counter_ns()
        return Prepared(pixels, (decoded_ns - start_ns) // 1000, (prepared_ns - decoded_ns) // 1000)

    def read_all(self, images: Sequence[bytes | Prepared | Exception]) -> list[Prepared | Exception]:
        """Read each image in its place. Items that are not bytes have been read before and are returned unchanged."""
        return [self.read(image) if isinstance(image, bytes) else image for image in images]


def _without_traceback(error: ImageError) -> ImageError:
    """The error without its traceback, whose frames refer to the error, the image and the request.

    This reference cycle would keep large images in memory until the garbage collector runs.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
