"""What the load asks: images that compress as real ones do, and requests of them.

Enters: a model's name and input shape. Leaves: uint8 images, PNG files, serialized requests that differ from call to
call. Does not know: how they are sent.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from serve.images.pixels import Pixels
from serve.pb import classifier_pb2 as pb

IMAGE_COUNT = 256


def make_images(shape: tuple[int, int, int], seed: int = 0) -> list[Pixels]:
    """Images uint8 [H, W, C] that compress as real ones do: strokes on black for grey, soft shapes for colour."""
    random = np.random.default_rng(seed)
    return [_strokes(shape, random) if shape[2] == 1 else _scene(shape, random) for _ in range(IMAGE_COUNT)]


def _strokes(shape: tuple[int, int, int], random: np.random.Generator) -> Pixels:
    height, width, _ = shape
    points = np.cumsum(random.normal(0, 0.9, (40, 2)), axis=0) + np.array([height / 2, width / 2])
    rows, columns = np.mgrid[:height, :width]
    distance = np.min([np.hypot(rows - y, columns - x) for y, x in points], axis=0)
    return np.asarray(np.clip(2.2 - distance, 0, 1) * 255, np.uint8)[..., None]


def _scene(shape: tuple[int, int, int], random: np.random.Generator) -> Pixels:
    height, width, channels = shape
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, channels), dtype=np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return np.asarray(np.clip(soft + random.normal(0, 6, shape), 0, 255), np.uint8)


def make_requests(model: str, encoded: Sequence[bytes], batch: int) -> list[bytes]:
    """Serialized requests with images that differ from call to call; batch 0 is Classify."""
    if not batch:
        return [pb.ClassifyRequest(model=model, image=image).SerializeToString() for image in encoded]
    groups = (
        [encoded[(start + index) % len(encoded)] for index in range(batch)] for start in range(0, len(encoded), 8)
    )
    return [pb.BatchClassifyRequest(model=model, images=group).SerializeToString() for group in groups]
