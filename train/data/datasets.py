"""A published dataset's files -> a `Dataset`: uint8 images and integer labels, split once.

Enters: a dataset's name, a folder, the number of images to hold out. Leaves: a `Dataset`.
Does not know: where the files come from (`sources.py`), or what is trained on them. It imports no TensorFlow.
"""

import gzip
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.data.sources import SOURCES, DatasetError, read_files

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

DIGITS = tuple("0123456789")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OBJECTS_RU = ("самолёт", "автомобиль", "птица", "кот", "олень", "собака", "лягушка", "лошадь", "корабль", "грузовик")
LABELS: dict[str, dict[str, tuple[str, ...]]] = {
    "mnist": {"en": DIGITS, "ru": DIGITS},
    "cifar10": {"en": OBJECTS, "ru": OBJECTS_RU},
}


@dataclass(frozen=True)
class Part:
    """Labelled images that serve one purpose: training, validation or test."""

    images: Images  # uint8 [N, H, W, C]
    labels: Labels  # int64 [N]: the index of each image's class
    places: Labels
    """int64 [N]: the index of each image before the split. What is drawn at random for an image depends on it."""

    @classmethod
    def whole(cls, images: Images, labels: Labels) -> "Part":
        """A part of all images uint8 [N, H, W, C] and labels int64 [N], before any split."""
        return cls(images, labels, np.arange(len(labels)))

    def take(self, chosen: Labels) -> "Part":
        """The images at the indices `chosen`, int64 [M], in that order."""
        return Part(self.images[chosen], self.labels[chosen], self.places[chosen])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A named set of labelled images, split once into the parts that all of training uses."""

    name: str
    train: Part
    validation: Part
    """The held-out set: training images that no weights are fitted to. It may be empty."""
    test: Part
    labels: Mapping[str, tuple[str, ...]]
    """Class names by language code."""

    @classmethod
    def of_test(cls, name: str, images: Images, labels: Labels, names: Mapping[str, tuple[str, ...]]) -> "Dataset":
        """A test set alone, for `export`: images uint8 [N, H, W, C], labels int64 [N], class names by language code."""
        test = Part.whole(images, labels)
        nothing = test.take(np.arange(0))
        return cls(name, nothing, nothing, test, names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        height, width, channels = self.test.images.shape[1:]
        return height, width, channels


def load(name: str, folder: Path | None = None, validation_count: int = 0) -> Dataset:
    """Find or fetch the dataset `mnist` or `cifar10`, check it, and split it.

    `folder` defaults to INKLING_DATA, or else ~/.cache/inkling. `validation_count` images of the training set are held
    out. Raises DatasetError if the files are absent or damaged, and ValueError if nothing is left to train on.
    """
    if name not in SOURCES:
        raise DatasetError(f"no dataset named {name!r}; known are {', '.join(SOURCES)}")
    files = read_files(SOURCES[name], folder or default_folder())
    published, test = parse_mnist(files) if name == "mnist" else parse_cifar(files)
    train, validation = split(published, validation_count)
    return Dataset(name, train, validation, test, LABELS[name])


def split(part: Part, validation_count: int) -> tuple[Part, Part]:
    """Split a part into training images and `validation_count` held-out images, both in their old order.

    The split is the same in every run, so that runs can be compared. Raises ValueError if nothing is left to train on.
    """
    if not 0 <= validation_count < len(part):
        raise ValueError(f"wanted 0 to {len(part) - 1} of {len(part)} images for validation, found {validation_count}")
    order = np.random.default_rng(0).permutation(len(part))
    return part.take(np.sort(order[validation_count:])), part.take(np.sort(order[:validation_count]))


def default_folder() -> Path:
    """The folder of the published datasets, if no other is named."""
    return Path(os.environ.get("INKLING_DATA") or Path.home() / ".cache" / "inkling").expanduser()


def parse_mnist(files: Mapping[str, bytes]) -> tuple[Part, Part]:
    """Read the four gzipped IDX files: training and test images uint8 [N, 28, 28, 1] with labels."""
    return _parse_pair(files, "train"), _parse_pair(files, "t10k")


def _parse_pair(files: Mapping[str, bytes], prefix: str) -> Part:
    images, labels = (
        parse_idx(gzip.decompress(files[f"{prefix}-{kind}-ubyte.gz"])) for kind in ("images-idx3", "labels-idx1")
    )
    return Part.whole(images[..., None], labels.astype(np.int64))


def parse_idx(data: bytes) -> Images:
    """Read an IDX file: two zeros, type 8, rank, dimensions as big-endian uint32, bytes. Raises DatasetError."""
    if data[:3] != b"\0\0\x08":
        raise DatasetError(
            f"not an IDX file of unsigned bytes: wanted 00 00 08 at its start, found {data[:3].hex(' ')}"
        )
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def parse_cifar(files: Mapping[str, bytes]) -> tuple[Part, Part]:
    """Read the pickled batches: training and test images uint8 [N, 32, 32, 3] with labels."""
    batches = {file: pickle.loads(data, encoding="bytes") for file, data in files.items()}  # noqa: S301  # checked bytes
    train = [batch for file, batch in sorted(batches.items()) if file.startswith("data_batch_")]
    return _join_batches(train), _join_batches([batches["test_batch"]])


def _join_batches(batches: Sequence[Mapping[bytes, npt.ArrayLike]]) -> Part:
    planes = np.concatenate([np.asarray(batch[b"data"], np.uint8) for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([np.asarray(batch[b"labels"], np.int64) for batch in batches])
    return Part.whole(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)


def choose_batch_size(images: Images) -> int:
    """The number of images uint8 [N, H, W, C] in a batch outside training: at most 1,000 of 32 x 32 pixels.

    The count falls with the number of pixels, because a net's memory grows with both.
    """
    _, height, width, _ = images.shape
    return int(np.clip(1000 * 32 * 32 // (height * width), 1, 1000))
