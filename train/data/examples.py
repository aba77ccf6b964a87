"""A folder of pictures -> what a finished model is measured on: pixels, and the true classes where folders say them.

Enters: a folder of class folders or of pictures, the names of the classes, an input, a preparation. Leaves: `Examples`.
Does not know: models. It imports no TensorFlow.

The examples are split by the rank of the SHA-256 of their files, as `pictures.py` splits: one part to calibrate on, the
other for the figures.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.errors import FolderUnusable, ImageError
from serve.folders import WHOLE, choose_unseen, find_parts, is_visible, sort_files
from serve.images.decode import find_detail
from serve.images.policies.find import find_policy
from serve.images.reader import ImageReader, Prepared
from serve.model_file.spec import InputSpec, PrepareSpec
from train.data.datasets import Part
from train.data.files import UnusableFile, read_file
from train.data.labels import Labels
from train.data.pictures import (
    MOST_BYTES,
    MOST_PIXELS,
    Broken,
    Picture,
    describe_broken,
    name_dataset,
    set_conflicts_apart,
    stack,
)

MOST_EXAMPLE_BYTES = 2**30
"""Bytes of pixels that are taken; of a larger folder, the files are chosen by the digest of their names."""
FIGURES_SHARE = 0.5
"""Share of the labelled examples that the figures are measured on."""


@dataclass(frozen=True)
class Examples:
    """Pictures as a model takes them."""

    name: str
    """The folder and a fingerprint of its pictures; empty without a folder."""
    figures: Part
    """The pictures that figures are measured on; without labels, all of them, with labels of -1."""
    calibration: Part
    """The other labelled pictures."""
    broken: Sequence[Broken] = ()
    """Files that were left out."""
    left_out: int = 0
    """Files that were not read, because there are too many."""

    @property
    def is_labelled(self) -> bool:
        """Whether the true classes are known."""
        return len(self.figures) > 0 and bool((self.figures.labels >= 0).all())


def read_examples(
    folder: Path, labels: Labels, target: InputSpec, prepare: PrepareSpec, skip_broken: bool = False
) -> Examples:
    """Read and split a folder. Raises FolderUnusable, also for broken files unless `skip_broken` is set.

    Of pictures that the model sees alike, one is taken; in two classes they count as broken.
    """
    files, left_out = _limit(find_files(folder, labels), folder, target)
    reader = ImageReader(find_policy(prepare, target), MOST_PIXELS, find_detail(target.shape))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow's decoders release the interpreter's lock
        read = list(pool.map(lambda each: _read(each[0], each[1], reader), files))
    usable, broken = set_conflicts_apart(read)
    unique = {each.content: each for each in sorted(usable, key=lambda each: each.digest, reverse=True)}
    good = sorted(unique.values(), key=lambda each: each.digest)
    if (broken and not skip_broken) or not good:
        raise FolderUnusable(describe_broken(broken) if broken else f"wanted pictures in {folder}, found none")
    digest = hashlib.sha256("".join(f"{each.digest}{each.label}" for each in good).encode()).hexdigest()
    everything, is_labelled = stack(good), good[0].label >= 0
    count = max(1, round(len(good) * FIGURES_SHARE)) if is_labelled else len(good)
    figures, calibration = everything.take(np.arange(count)), everything.take(np.arange(count, len(good)))
    return Examples(name_dataset(folder, digest), figures, calibration, broken, left_out)


def find_files(folder: Path, labels: Labels) -> list[tuple[Path, int]]:
    """The pictures of a folder, each with its class, or -1 if there are no class folders. Raises FolderUnusable."""
    if not folder.is_dir():
        problem = "which is a file" if folder.exists() else "which does not exist"
        raise FolderUnusable(f"wanted a folder of class folders or of pictures, found {folder}, {problem}")
    pictures, _ = sort_files(folder.iterdir())
    if not any(each.is_dir() for each in folder.iterdir() if is_visible(each)):
        return [(file, -1) for file in pictures]
    parts = find_parts(folder)
    classes = parts[choose_unseen(parts)].files
    found = {name: labels.find(name) for name in classes}
    unknown = [name for name, label in found.items() if label is None]
    if unknown:
        raise FolderUnusable(
            f"wanted class folders named by their labels, as {', '.join(labels.names['en'][:3])}; "
            f"found {', '.join(unknown[:5])} in {folder}"
        )
    return [(file, label) for name, label in found.items() if label is not None for file in classes[name]]


def _limit(files: list[tuple[Path, int]], folder: Path, target: InputSpec) -> tuple[list[tuple[Path, int]], int]:
    """As many files as MOST_EXAMPLE_BYTES has room for, and how many were left out."""
    most = MOST_EXAMPLE_BYTES // int(np.prod(target.shape))
    if len(files) <= most:
        return files, 0
    ranked = sorted(files, key=lambda each: hashlib.sha256(os.fsencode(each[0].relative_to(folder))).digest())
    return ranked[:most], len(files) - most


def _read(file: Path, label: int, reader: ImageReader) -> Picture | Broken:
    try:
        data = read_file(file, MOST_BYTES)
    except UnusableFile as error:
        return Broken(file, str(error))
    prepared = reader.read(data)
    if isinstance(prepared, Prepared):
        digest, content = (hashlib.sha256(each).hexdigest() for each in (data, prepared.pixels.tobytes()))
        return Picture(file, label, digest, prepared.pixels, content, WHOLE)
    if isinstance(prepared, ImageError):
        return Broken(file, str(prepared))
    raise prepared
