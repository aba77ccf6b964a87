"""Image files -> the pixels that a model takes: those that it can take as they are together, every other alone.

Enters: the bytes of image files. Leaves: of each its pixels, uint8 [H, W, C], and what they took, or what was wrong
with it. Does not know: batches and who waits for them, ONNX Runtime, gRPC.

    bytes -> decode -> prepare -> pixels
    plain PNGs in the model's own size and colours: bytes -> png.decode_alike -> pixels, where the policy says so
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from serve.errors import ImageError
from serve.images.decode import decode
from serve.images.pixels import Pixels, Policy
from serve.images.png import decode_alike


class Prepared(NamedTuple):
    """An image as the network sees it, and what that took."""

    pixels: Pixels
    """uint8 [H, W, C]."""
    decode_us: int
    prepare_us: int


class ImageReader:
    """Reads images for one model. Every method may be called from any thread."""

    def __init__(self, policy: Policy, shape: tuple[int, int, int], max_pixels: int) -> None:
        self._policy = policy
        self._shape = shape
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
        alike = self._read_alike(images) if len(images) > 1 else {}
        return [
            alike.get(place) or (self.read(image) if isinstance(image, bytes) else image)
            for place, image in enumerate(images)
        ]

    def _read_alike(self, images: Sequence[bytes | Prepared | Exception]) -> dict[int, Prepared]:
        """By their places the plain PNGs that are what the model takes; each took an equal share of the time.

        Those that the policy would change, such as digits on light paper, are left to `read`, and their share is lost.
        """
        height, width, _ = self._shape
        if height * width > self._max_pixels:
            return {}
        start_ns = time.perf_counter_ns()
        places, pixels = decode_alike([image if isinstance(image, bytes) else b"" for image in images], self._shape)
        if not places:
            return {}
        decoded_ns = time.perf_counter_ns()
        are_ready = self._policy.are_ready(pixels)
        prepared_ns = time.perf_counter_ns()
        decode_us = _share_us(decoded_ns - start_ns, len(places))
        prepare_us = _share_us(prepared_ns - decoded_ns, len(places))
        return {
            place: Prepared(each, decode_us, prepare_us)
            for place, each, is_ready in zip(places, pixels, are_ready, strict=True)
            if is_ready
        }


def _without_trace(error: ImageError) -> ImageError:
    """The error alone: its trace keeps frames, and those the error, the image and the request.

    Such a circle stays until the garbage collector comes by: with one caller of large images, a gigabyte later.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _share_us(duration_ns: int, count: int) -> int:
    """Rounded up: what was done took some time, and a reply that lacks a time is shorter than others."""
    return -(-duration_ns // (1000 * count))
