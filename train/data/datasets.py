"""A published dataset's files -> uint8 images and integer labels.

Enters: a dataset's name and a folder. Leaves: a `Dataset`. Does not know: where the files come from (`sources.py`), or what is trained on them.
No TensorFlow comes in with this module.
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
Arrays = tuple[Images, Labels, Images, Labels]

DIGITS = tuple("0123456789")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OBJECTS_RU = ("самолёт", "автомобиль", "птица", "кот", "олень", "собака", "лягушка", "лошадь", "корабль", "грузовик")
LABELS: dict[str, dict[str, tuple[str, ...]]] = {
    "mnist": {"en": DIGITS, "ru": DIGITS},
    "cifar10": {"en": OBJECTS, "ru": OBJECTS_RU},
}


@dataclass(frozen=True)
class Dataset:
    """Images uint8 [N, H, W, C] and labels int64 [N] (indices into `labels`), as published, in their order."""

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    labels: Mapping[str, tuple[str, ...]]
    """Class names by language code."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """H, W, C of one image."""
        height, width, channels = self.test_images.shape[1:]
        return height, width, channels


def load(name: str, folder: Path | None = None) -> Dataset:
    """Find (or fetch), check and read a dataset: `mnist` or `cifar10`.

    `folder` is, when not given, the environment's INKLING_DATA, else ~/.cache/inkling. Raises DatasetError.
    """
    if name not in SOURCES:
        raise DatasetError(f"no dataset named {name!r}; known are {', '.join(SOURCES)}")
    files = read_files(SOURCES[name], folder or default_folder())
    arrays = parse_mnist(files) if name == "mnist" else parse_cifar(files)
    return Dataset(name, *arrays, LABELS[name])


def default_folder() -> Path:
    """The data folder where none is named."""
    return Path(os.environ.get("INKLING_DATA") or Path.home() / ".cache" / "inkling").expanduser()


def parse_mnist(files: Mapping[str, bytes]) -> Arrays:
    """The four gzipped IDX files -> arrays; images uint8 [N, 28, 28, 1]."""
    return *_parse_split(files, "train"), *_parse_split(files, "t10k")


def _parse_split(files: Mapping[str, bytes], split: str) -> tuple[Images, Labels]:
    images, labels = (
        parse_idx(gzip.decompress(files[f"{split}-{kind}-ubyte.gz"])) for kind in ("images-idx3", "labels-idx1")
    )
    return images[..., None], labels.astype(np.int64)


def parse_idx(data: bytes) -> Images:
    """An IDX file of unsigned bytes: two zeros, type 8, the number of dimensions, each as big-endian uint32, values."""
    if data[:3] != b"\0\0\x08":
        raise DatasetError(
            f"not an IDX file of unsigned bytes: wanted 00 00 08 at its start, found {data[:3].hex(' ')}"
        )
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def parse_cifar(files: Mapping[str, bytes]) -> Arrays:
    """The pickled batches of the "python version" -> arrays; images uint8 [N, 32, 32, 3]."""
    batches = {file: pickle.loads(data, encoding="bytes") for file, data in files.items()}  # noqa: S301 published bytes
    train = [batch for file, batch in sorted(batches.items()) if file.startswith("data_batch_")]
    return *_join_batches(train), *_join_batches([batches["test_batch"]])


def _join_batches(batches: Sequence[Mapping[bytes, npt.ArrayLike]]) -> tuple[Images, Labels]:
    planes = np.concatenate([np.asarray(batch[b"data"], np.uint8) for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([np.asarray(batch[b"labels"], np.int64) for batch in batches])
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def split(count: int, validation_count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of training and of validation images: the same split in every run, so that runs can be compared."""
    if not 0 < validation_count < count:
        raise ValueError(f"wanted between 1 and {count - 1} of {count} images for validation, found {validation_count}")
    order = np.random.default_rng(0).permutation(count)
    return np.sort(order[validation_count:]), np.sort(order[:validation_count])


def choose_batch_size(images: Images) -> int:
    """How many of images [N, H, W, C] go through a net at a time where nothing is learnt: 1,000 of 32 x 32, or fewer.

    The net of `cifar10-cnn` would take 6 GB for 1,000 of 128 x 128.
    """
    _, height, width, _ = images.shape
    return int(np.clip(1000 * 32 * 32 // (height * width), 1, 1000))
