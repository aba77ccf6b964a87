"""The requests of a load: images that compress like real ones, and serialized requests with them.

Enters: a model's name, the server that has it, and perhaps a folder of pictures. Leaves: a `Subject` with images uint8
[H, W, C] and requests that differ from call to call. Does not know: how a load is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from serve.bench.load import fetch_replies
from serve.bench.target import Target
from serve.client.client import open_client
from serve.client.endpoint import Endpoint, to_endpoint
from serve.errors import ConfigError, InklingError
from serve.folders import list_pictures
from serve.images.decode import decode
from serve.images.pixels import Pixels, to_png
from serve.pb import classifier_pb2 as pb

CLASSIFY = "/inkling.v1.ClassifierService/Classify"
BATCH_CLASSIFY = "/inkling.v1.ClassifierService/BatchClassify"
IMAGE_COUNT = 256
MAX_PIXELS = 100_000_000
"""Of a picture that a person gives; the server has bounds of its own."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model on a server, and the requests for it."""

    target: Target
    model: str
    images: list[Pixels]
    encoded: list[bytes]
    requests: list[bytes]


def make_subject(target: Target, model: str, batch: int, folder: str = "") -> Subject:
    """Make requests with images of the model's shape, and send one. Raises CallError, ConfigError.

    The images are pictures of `folder` if it is named. What an answer costs may depend on them.
    """
    with open_client(to_endpoint(target.server)) as client:
        height, width, channels = client.get_model(model).input_shape
    shape = (height, width, channels)
    images = read_images(Path(folder), shape) if folder else make_images(shape)
    encoded = [to_png(pixels) for pixels in images]
    requests = make_requests(model, encoded, batch)
    check_answer(target.server, requests[0], batch)
    return Subject(target, model, images, encoded, requests)


def check_answer(server: Endpoint | str, request: bytes, batch: int) -> None:
    """Send one request of a load. Raises ConfigError if the call, or an image in it, fails."""
    (reply,) = fetch_replies(server, BATCH_CLASSIFY if batch else CLASSIFY, request, 1)
    for result in pb.BatchClassifyResponse.FromString(reply).results if batch else ():
        if result.HasField("error"):
            raise ConfigError(f"{BATCH_CLASSIFY}: wanted an answer for each image, got {result.error.message}")


def read_images(folder: Path, shape: tuple[int, int, int]) -> list[Pixels]:
    """At most IMAGE_COUNT pictures of a folder as uint8 [H, W, C], scaled. Raises ConfigError if it has none."""
    height, width, channels = shape
    try:
        paths = list_pictures(folder).files[:IMAGE_COUNT]
        pictures = [decode(path.read_bytes(), MAX_PIXELS) for path in paths]
    except (InklingError, OSError) as error:
        raise ConfigError(f"--images {folder}: {error}") from error
    if not pictures:
        raise ConfigError(f"--images {folder}: wanted pictures, found none")
    scaled = [each.convert("L" if channels == 1 else "RGB").resize((width, height)) for each in pictures]
    return [np.asarray(each, np.uint8).reshape(shape) for each in scaled]


def make_images(shape: tuple[int, int, int], seed: int = 0) -> list[Pixels]:
    """IMAGE_COUNT images uint8 [H, W, C]: strokes on black for one channel, soft shapes with noise for three."""
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
    """Serialized BatchClassify requests of `batch` images, or Classify requests for `batch` 0."""
    if not batch:
        return [pb.ClassifyRequest(model=model, image=image).SerializeToString() for image in encoded]
    groups = (
        [encoded[(start + index) % len(encoded)] for index in range(batch)] for start in range(0, len(encoded), 8)
    )
    return [pb.BatchClassifyRequest(model=model, images=group).SerializeToString() for group in groups]
