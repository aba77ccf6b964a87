"""Image files -> the pixels that a model takes: bytes -> decode -> policy -> pixels.

Enters: the bytes of image files. Leaves: for each file its pixels uint8 [H, W, C] with the times taken, or an error.
Does not know: batches, ONNX Runtime, gRPC.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from serve.errors import ImageError
from serve.images.decode import FULL_DETAIL, decode
from serve.images.pixels import Pixels, Policy, Report, Step


class Prepared(NamedTuple):
    """An image as the model takes it, the microseconds that decoding and preparing took, and what was seen."""

    pixels: Pixels
    """uint8 [H, W, C]."""
    decode_us: int
    prepare_us: int
    notes: Sequence[str] = ()
    """What the policy saw."""
    steps: Sequence[Step] = ()
    """The pictures on the way, if they are kept."""


class ImageReader:
    """Reads images for one model. All methods are thread-safe."""

    def __init__(self, policy: Policy, max_pixels: int, detail: int = FULL_DETAIL, keeps_steps: bool = False) -> None:
        """`detail` is the number of pixels of a picture's shorter side that the policy has use for."""
        self._policy = policy
        self._max_pixels = max_pixels
        self._detail = detail
        self._keeps_steps = keeps_steps

    def keeping_steps(self) -> "ImageReader":
        """A reader that also keeps the pictures on the way, for a request that asks for them."""
        return ImageReader(self._policy, self._max_pixels, self._detail, keeps_steps=True)

    def read(self, image_bytes: bytes) -> Prepared | Exception:
        """Decode and prepare one image. Errors are returned, so that one image cannot fail the others of a batch."""
        try:
            start_ns = time.perf_counter_ns()
            decoded = [decode(image_bytes, self._max_pixels, self._detail)]
            decoded_ns = time.perf_counter_ns()
            report = Report(self._keeps_steps)
            pixels = self._policy(decoded.pop(), report)  # so that a policy may let go of it once it has a smaller one
            report.add_step("prepared", pixels)
        except ImageError as error:
            return _without_traceback(error)
        except Exception as error:  # a bug, whose traceback is logged
            return error
        prepared_ns = time.perf_counter_ns()
        decode_us, prepare_us = (decoded_ns - start_ns) // 1000, (prepared_ns - decoded_ns) // 1000
        return Prepared(pixels, decode_us, prepare_us, report.notes, report.steps)

    def read_all(self, images: Sequence[bytes | Prepared | Exception]) -> list[Prepared | Exception]:
        """Read each image in its place. Items that are not bytes have been read before and are returned unchanged."""
        return [self.read(image) if isinstance(image, bytes) else image for image in images]


def _without_traceback(error: ImageError) -> ImageError:
    """The error without its traceback, whose frames refer to the error, the image and the request.

    This reference cycle would keep large images in memory until the garbage collector runs.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
