"""The rule of where model files are: `<name>/<version>/model.onnx`, or a variant of a precision beside it.

Enters: folders, names, versions. Leaves: paths by name and version. Does not know: what is in a file.
A version is a positive integer in ASCII digits without a leading zero. The highest version is the newest.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.errors import ConfigError, InklingError

PLAIN_NAME = "model.onnx"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file, with the name and version that its path gives."""

    name: str
    version: int
    path: Path


@dataclass(frozen=True, slots=True, order=True)
class Unreadable:
    """A place where a model file would be, and why it cannot be read."""

    path: Path
    reason: str


def read_version(name: str) -> int | None:
    """The version that a folder's name gives, or None if it is not a version."""
    return int(name) if name.isascii() and name.isdecimal() and name[0] != "0" else None


def find_model_files(folder: Path, precision: str) -> list[ModelFile]:
    """The model files under a folder, sorted by name and version, as the variant of a precision if it exists.

    Raises ConfigError if there is no folder or no file.
    """
    if not os.path.isdir(folder):  # noqa: PTH112  # Path.is_dir raises if a parent denies access
        raise ConfigError(
            f"--models: wanted a folder of <name>/<version>/model.onnx, {folder} is not a folder; "
            f"name another, or train a model into it: inkling train mnist --out {folder}"
        )
    found = ((path, read_version(path.parts[-2])) for path in folder.glob(f"*/*/{PLAIN_NAME}"))
    files = [ModelFile(path.parts[-3], version, _choose_variant(path, precision)) for path, version in found if version]
    if not files:
        raise ConfigError(f"--models: wanted <name>/<version>/model.onnx under {folder}, found none")
    return sorted(files, key=lambda file: (file.name, file.version))


def find_unreadable(folder: Path) -> list[Unreadable]:
    """Folders, links and files where a model file would be, that cannot be followed or read: each with the reason.

    A search for files passes over them silently.
    """
    return sorted(_find_unreadable(folder, (lambda name: True, lambda name: read_version(name) is not None)))


def _find_unreadable(folder: Path, levels: Sequence[Callable[[str], bool]]) -> Iterator[Unreadable]:
    try:
        inside = [Path(each.path) for each in os.scandir(folder) if not levels or levels[0](each.name)]
    except NotADirectoryError:  # a file beside the folders is nobody's
        return
    except OSError as error:
        yield Unreadable(folder, error.strerror or "unknown")
        return
    if levels:
        for path in inside:
            yield from _find_unreadable(path, levels[1:])
        return
    for path in inside:
        if path.name == PLAIN_NAME and path.is_symlink() and not path.exists():
            yield Unreadable(path, "the link leads nowhere")


def find_newest(name: str, folders: Sequence[Path]) -> Path:
    """The model.onnx of a model's highest version, in the first of the folders that has one.

    Raises InklingError if none has.
    """
    for folder in folders:
        found = {read_version(path.parent.name) or 0: path for path in (folder / name).glob(f"*/{PLAIN_NAME}")}
        if newest := max(found, default=0):
            return found[newest]
    places = " or ".join(str(folder / name / "<version>" / PLAIN_NAME) for folder in folders)
    raise InklingError(f"no file of {name}: wanted {places}; train it first")


def next_version(model_folder: Path) -> int:
    """The version of a new file: the highest in the model's folder plus one, or 1. Raises OSError without a folder."""
    return 1 + max((read_version(path.name) or 0 for path in model_folder.iterdir()), default=0)


def _choose_variant(path: Path, precision: str) -> Path:
    """The variant `model.<precision>.onnx` if it exists, else model.onnx. Every reply names what runs."""
    variant = path.with_name(f"model.{precision}.onnx")
    return variant if variant.exists() else path
