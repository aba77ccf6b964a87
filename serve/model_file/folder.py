"""The rule of where model files are: `<name>/<version>/model.onnx`, or a variant of a precision beside it.

Enters: folders, names, versions. Leaves: paths by name and version. Does not know: what is in a file.
A version is a positive integer in ASCII digits without a leading zero. The highest version is the newest.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.errors import InklingError
from serve.model_file.serving import SERVER_SETTINGS, ServingSettings

PLAIN_NAME = "model.onnx"
NAME_RULE = "1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', starting with a letter or a digit"
"""What training wants of a model's name: it is also a folder and a word in a shell. A model file takes any text."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file, with the name and version that its path gives."""

    name: str
    version: int
    path: Path
    digest: str = ""
    """SHA-256 of its bytes in hexadecimal digits; empty if nobody has read them."""
    problem: str = ""
    """Why it is not to be loaded; where it is live already, it stays."""
    serving: ServingSettings | None = SERVER_SETTINGS
    """What the file beside it sets; None if that file is wrong, and `problem` says why."""


def follows_name_rule(name: str) -> bool:
    """Whether a name follows NAME_RULE."""
    return bool(_NAME.fullmatch(name))


def read_version(name: str) -> int | None:
    """The version that a folder's name gives, or None if it is not a version."""
    return int(name) if name.isascii() and name.isdecimal() and name[0] != "0" else None


def name_variant(precision: str) -> str:
    """The name of the file of a precision. It lies beside the plain file, which may have that precision, too."""
    return f"model.{precision}.onnx"


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
