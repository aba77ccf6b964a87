"""A folder of class folders -> a `Dataset` of images prepared as the server prepares a request.

Enters: a folder with a sub-folder for each class, the model's input, a preparation. Leaves: `Pictures`.
Does not know: nets, how they are fitted, command lines. It imports no TensorFlow.

Each class is split by the rank of the SHA-256 of its files' bytes. That depends on no seed, name or file system. A new
file moves few others, and every part gets its exact share.
Files with the same prepared pixels are copies, however they are stored. One of them is taken, so that no picture is in
two parts.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.errors import ImageError
from serve.images.decode import decode, find_detail
from serve.images.pixels import Pixels, Policy
from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from train.data.datasets import Dataset, Part
from train.data.files import UnusableFile, read_file
from train.data.sources import DatasetError

MOST_PIXELS = 50_000_000  # of a picture that is decoded: the server's default limit
MOST_BYTES = 8 * MOST_PIXELS  # of a picture's file: 16 bits in each of four channels, uncompressed
HELD_OUT_SHARE = 0.15  # of each class, for validation; the test part gets the same share
LEAST_IMAGES = 10  # in each class: six to train on, two to validate, two to test
NAMED_AT_MOST = 5  # broken files in an error; it counts the others
_NOT_PICTURES = {"thumbs.db", "desktop.ini"}  # Windows hides them without a dot


class FolderUnusable(DatasetError):
    """A folder does not hold class folders with enough images that can be decoded."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One file that could be read."""

    file: Path
    label: int
    """The index of its class."""
    digest: str
    """SHA-256 of the file's bytes, in hexadecimal."""
    pixels: Pixels
    """The model's input, uint8 [H, W, C]."""
    content: str
    """SHA-256 of the pixels, in hexadecimal. Copies have the same."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One file that could not be used, and why."""

    file: Path
    problem: str


@dataclass(frozen=True)
class Pictures:
    """What a folder holds."""

    dataset: Dataset
    broken: Sequence[Broken]
    """Files that were left out because `skip_broken` was set."""
    copy_count: int
    """Files that were left out because another one has the same pixels."""


def read_folder(folder: Path, target: InputSpec, prepare: PrepareSpec, skip_broken: bool = False) -> Pictures:
    """Read, prepare and split a folder. Raises FolderUnusable, also for broken files unless `skip_broken` is set."""
    classes = find_classes(folder)
    read = read_pictures(classes, find_policy(prepare, target), find_detail(target.shape))
    good, broken = set_conflicts_apart(read)
    if broken and not skip_broken:
        raise FolderUnusable(describe_broken(broken))
    # Of several copies, keep the one with the lowest digest: the choice does not depend on names.
    unique = {picture.content: picture for picture in sorted(good, key=lambda each: each.digest, reverse=True)}
    by_label: dict[int, list[Picture]] = {label: [] for label in range(len(classes))}
    for picture in unique.values():
        by_label[picture.label].append(picture)
    require_enough(list(classes), [len(members) for members in by_label.values()])
    parts = zip(*map(split_class, by_label.values()), strict=True)
    train, validation, test = (stack([picture for members in part for picture in members]) for part in parts)
    labels = tuple(classes)
    name = f"{folder.resolve().name} sha256:{fingerprint(labels, (train, validation, test))[:12]}"
    dataset = Dataset(name, train, validation, test, {"en": labels})
    return Pictures(dataset, broken, len(good) - len(unique))


def find_classes(folder: Path) -> dict[str, list[Path]]:
    """The files of each class by its label, both sorted. Raises FolderUnusable.

    Hidden files, and files beside the class folders, are left out.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise FolderUnusable(f"wanted a folder of class folders, found {found} at {folder}")
    classes = {each.name: list_files(each) for each in list_visible(folder) if each.is_dir()}
    if len(classes) < 2:
        raise FolderUnusable(f"wanted at least 2 class folders in {folder}, found {', '.join(classes) or 'none'}")
    names = [*classes, folder.resolve().name]  # the last one names the dataset
    unprintable = [name for name in names if not name.isprintable()]  # also those that are not UTF-8
    if unprintable:
        raise FolderUnusable(f"wanted folders whose names can be shown, found {unprintable[0]!r}")
    return classes


def list_files(class_folder: Path) -> list[Path]:
    """The files of one class folder. Raises FolderUnusable if it is empty or holds a folder."""
    files = list_visible(class_folder)
    folders = [file.name for file in files if file.is_dir()]
    if folders:
        raise FolderUnusable(f"wanted only images in the class folder {class_folder}, found the folder {folders[0]}")
    if not files:
        raise FolderUnusable(f"wanted at least {LEAST_IMAGES} images in {class_folder}, found an empty class folder")
    return files


def list_visible(folder: Path) -> list[Path]:
    """The entries of a folder that are not hidden, sorted by name."""
    names = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in names if path.name.lower() not in _NOT_PICTURES)


def read_pictures(classes: Mapping[str, Sequence[Path]], policy: Policy, detail: int) -> list[Picture | Broken]:
    """Read every file of every class, in order."""
    files = [(file, label) for label, members in enumerate(classes.values()) for file in members]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow's decoders release the interpreter's lock
        return list(pool.map(lambda each: read_picture(each[0], each[1], policy, detail), files))


def read_picture(file: Path, label: int, policy: Policy, detail: int) -> Picture | Broken:
    """Read one file with the server's own decoder and preparation."""
    try:
        data = read_file(file, MOST_BYTES)
        pixels = policy(decode(data, MOST_PIXELS, detail))
        digest, content = (hashlib.sha256(each).hexdigest() for each in (data, pixels.tobytes()))
        return Picture(file, label, digest, pixels, content)
    except (ImageError, UnusableFile) as error:
        return Broken(file, str(error))


def set_conflicts_apart(read: Iterable[Picture | Broken]) -> tuple[list[Picture], list[Broken]]:
    """Divide files into usable and broken ones. A file with a copy in another class counts as broken."""
    read = list(read)
    labels = defaultdict(set)
    for each in read:
        if isinstance(each, Picture):
            labels[each.content].add(each.label)
    good, broken = [], []
    for each in read:
        if isinstance(each, Broken):
            broken.append(each)
        elif len(labels[each.content]) > 1:
            broken.append(Broken(each.file, "the model sees the same picture in another class folder"))
        else:
            good.append(each)
    return good, broken


def describe_broken(broken: Sequence[Broken]) -> str:
    """Name the first few broken files, and say what can be done."""
    lines = [f"  {each.file}: {each.problem}" for each in broken[:NAMED_AT_MOST]]
    if len(broken) > NAMED_AT_MOST:
        lines.append(f"  and {len(broken) - NAMED_AT_MOST} more")
    head = f"{len(broken)} of the files cannot be used; repair or remove them, or leave them out with --skip-broken"
    return "\n".join([head, *lines])


def require_enough(labels: Sequence[str], counts: Sequence[int]) -> None:
    """Raise FolderUnusable if a class is too small to be split."""
    few = [f"{label} {count}" for label, count in zip(labels, counts, strict=True) if count < LEAST_IMAGES]
    if few:
        raise FolderUnusable(
            f"wanted at least {LEAST_IMAGES} different usable images in every class, found {', '.join(few)}"
        )


def split_class(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture], list[Picture]]:
    """Split one class into training, validation and test pictures, by the rank of their digests."""
    ranked = sorted(pictures, key=lambda picture: picture.digest)
    count = round(len(ranked) * HELD_OUT_SHARE)
    return ranked[2 * count :], ranked[count : 2 * count], ranked[:count]


def stack(pictures: Sequence[Picture]) -> Part:
    """Put pixels and labels into arrays."""
    labels = np.array([picture.label for picture in pictures], np.int64)
    return Part.whole(np.stack([picture.pixels for picture in pictures]), labels)


def count_by_class(dataset: Dataset) -> dict[str, int]:
    """Count the images of each class over all parts."""
    counts = Counter(label for part in (dataset.train, dataset.validation, dataset.test) for label in part.labels)
    return {name: counts[label] for label, name in enumerate(dataset.labels["en"])}


def fingerprint(labels: Sequence[str], parts: Iterable[Part]) -> str:
    """SHA-256 of class names, images and labels, in hexadecimal. A run is resumed only on the same data."""
    digest = hashlib.sha256("\0".join(labels).encode())
    for array in (array for part in parts for array in (part.images, part.labels)):
        digest.update(str(array.shape).encode() + array.tobytes())
    return digest.hexdigest()
