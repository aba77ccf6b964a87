"""A folder of class folders -> a `Dataset` of images prepared as the server prepares a request.

Enters: a folder with a sub-folder for each class, the model's input, a preparation. Leaves: `Pictures`.
Does not know: nets, how they are fitted, command lines. It imports no TensorFlow.

A folder that gives a training part and a test or validation part is taken as it is. Otherwise each class is split by
the rank of the SHA-256 of its files' bytes. That depends on no seed, name or file system. A new file moves few others,
and every part gets its exact share.
Files with the same prepared pixels are copies, however they are stored. One of them is taken, so that no picture is in
two parts; of copies in two given parts, the one that is not trained on.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.errors import FolderUnusable, ImageError
from serve.folders import TEST, TRAIN, VALIDATION, WHOLE, ClassFolders, LeftOut, find_parts
from serve.images.decode import decode, find_detail
from serve.images.pixels import Pixels, Policy
from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from train.data.datasets import Dataset, Part
from train.data.files import UnusableFile, read_file, spell_name

MOST_PIXELS = 50_000_000  # of a picture that is decoded: the server's default limit
MOST_BYTES = 8 * MOST_PIXELS  # of a picture's file: 16 bits in each of four channels, uncompressed
HELD_OUT_SHARE = 0.15  # of each class, for validation; the test part gets the same share
LEAST_IMAGES = 10  # in each class: six to train on, two to validate, two to test
NAMED_AT_MOST = 5  # broken files in an error; it counts the others
LEAST_GIVEN = 2  # in each class of a part that the folder gives
DIGEST = " sha256:"  # comes before the digest in the name of a dataset


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
    part: str
    """The part of the split that the folder gives, or `whole`."""


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
    left_out: Sequence[LeftOut] = ()
    """Entries that are no pictures in class folders."""
    given_parts: Sequence[str] = ()
    """The parts of the split that the folder gives; none if it was split here."""


def read_folder(folder: Path, target: InputSpec, prepare: PrepareSpec, skip_broken: bool = False) -> Pictures:
    """Read, prepare and split a folder. Raises FolderUnusable, also for broken files unless `skip_broken` is set."""
    parts = find_parts(folder)
    labels = find_labels(folder, parts)
    read = read_pictures(labels, parts, find_policy(prepare, target), find_detail(target.shape))
    good, broken = set_conflicts_apart(read)
    if broken and not skip_broken:
        raise FolderUnusable(describe_broken(broken))
    # Of several copies, keep one that is not trained on, with the lowest digest: the choice does not depend on names.
    ordered = sorted(good, key=lambda each: (each.part == TRAIN, each.part == VALIDATION, each.digest), reverse=True)
    unique = {picture.content: picture for picture in ordered}
    by_label: dict[int, list[Picture]] = {label: [] for label in range(len(labels))}
    for picture in unique.values():
        by_label[picture.label].append(picture)
    require_enough(labels, list(by_label.values()), parts)
    split = zip(*(split_class(members, parts) for members in by_label.values()), strict=True)
    train, validation, test = (stack([picture for members in part for picture in members]) for part in split)
    name = name_dataset(folder, fingerprint(labels, (train, validation, test)))
    dataset = Dataset(name, train, validation, test, {"en": tuple(labels)})
    left_out = [each for part in parts.values() for each in part.left_out]
    return Pictures(dataset, broken, len(good) - len(unique), left_out, [part for part in parts if part != WHOLE])


def name_dataset(folder: Path, digest: str) -> str:
    """The name of a folder's dataset in the metadata: the folder, and the first digits of its pictures' SHA-256."""
    return f"{spell_name(folder.resolve())}{DIGEST}{digest[:12]}"


def read_digest(name: str) -> str:
    """The digest in the name of a folder's dataset, which a renamed folder keeps; empty for other datasets."""
    return name.rpartition(DIGEST)[2] if DIGEST in name else ""


def find_labels(folder: Path, parts: Mapping[str, ClassFolders]) -> list[str]:
    """The names of the class folders, which every part of a given split has to have. Raises FolderUnusable."""
    labels, *others = (list(part.files) for part in parts.values())
    for part, found in zip(list(parts)[1:], others, strict=True):
        if odd := sorted(set(labels) ^ set(found)):
            raise FolderUnusable(
                f"wanted the same class folders in every part of {folder}, found {odd[0]} not in both of "
                f"{next(iter(parts))} and {part}"
            )
    if len(labels) < 2:
        raise FolderUnusable(f"wanted at least 2 class folders in {folder}, found {', '.join(labels) or 'none'}")
    names = [*labels, folder.resolve().name]  # the last one names the dataset
    unprintable = [name for name in names if not name.isprintable()]  # also those that are not UTF-8
    if unprintable:
        raise FolderUnusable(f"wanted folders whose names can be shown, found {unprintable[0]!r}")
    empty = [label for label in labels if not any(part.files[label] for part in parts.values())]
    if empty:
        raise FolderUnusable(
            f"wanted at least {LEAST_IMAGES} images in {folder / empty[0]}, found a class folder without any"
        )
    return labels


def read_pictures(
    labels: Sequence[str], parts: Mapping[str, ClassFolders], policy: Policy, detail: int
) -> list[Picture | Broken]:
    """Read every file of every class, in order."""
    files = [
        (file, label, name)
        for name, part in parts.items()
        for label, text in enumerate(labels)
        for file in part.files[text]
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow's decoders release the interpreter's lock
        return list(pool.map(lambda each: read_picture(each[0], each[1], each[2], policy, detail), files))


def read_picture(file: Path, label: int, part: str, policy: Policy, detail: int) -> Picture | Broken:
    """Read one file with the server's own decoder and preparation."""
    try:
        data = read_file(file, MOST_BYTES)
        pixels = policy(decode(data, MOST_PIXELS, detail))
        digest, content = (hashlib.sha256(each).hexdigest() for each in (data, pixels.tobytes()))
        return Picture(file, label, digest, pixels, content, part)
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


def require_enough(labels: Sequence[str], members: Sequence[Sequence[Picture]], parts: Iterable[str]) -> None:
    """Raise FolderUnusable if a class has too few images: all together, or in one of the given parts."""
    for part in parts:
        least = LEAST_GIVEN if part in (VALIDATION, TEST) else LEAST_IMAGES
        counts = [sum(picture.part == part for picture in pictures) for pictures in members]
        few = [f"{label} {count}" for label, count in zip(labels, counts, strict=True) if count < least]
        if few:
            place = "" if part == WHOLE else f" of the part {part}"
            raise FolderUnusable(
                f"wanted at least {least} different usable images in every class{place}, found {', '.join(few)}"
            )


def split_class(
    pictures: Sequence[Picture], given: Iterable[str]
) -> tuple[list[Picture], list[Picture], list[Picture]]:
    """Training, validation and test pictures of one class: as given, and what is not by the rank of their digests."""
    ranked = sorted(pictures, key=lambda picture: picture.digest)
    by_part = {part: [each for each in ranked if each.part == part] for part in given}
    rest = by_part.get(TRAIN) or by_part.get(WHOLE) or []
    count = round(len(rest) * HELD_OUT_SHARE)
    for part in (TEST, VALIDATION):
        if part not in by_part:
            by_part[part], rest = rest[:count], rest[count:]
    return rest, by_part[VALIDATION], by_part[TEST]


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
