"""The path that a user names -> one model file, whole and identified, so that every worker loads the same bytes.

Enters: a file, a folder of a version, or a folder of versions. Leaves: a `Model`, or ConfigError.
Does not know: ONNX Runtime, images.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from serve.errors import ConfigError
from serve.model_file.folder import PLAIN_NAME, name_variant, read_version
from serve.model_file.spec import read_seal
from serve.model_file.whole import read_model_bytes


@dataclass(frozen=True, slots=True)
class Model:
    """A model file, and what a row of results says about it."""

    path: Path
    name: str
    """The folder's name in `<name>/<version>/model.onnx`; elsewhere empty, and the file's own name counts."""
    version: str
    """Empty if the file lies in no folder of a version."""
    digest: str
    """SHA-256 of the file's bytes, in hexadecimal digits."""
    seal: str
    """The digest that the file was sealed with."""


def find_model(place: str | Path, precision: str = "float32") -> Model:
    """Find and read a model file. Raises ConfigError without one, ModelFileError, and OSError."""
    path = _find_file(Path(place), precision)
    data = read_model_bytes(path)
    folder = path.absolute().parent
    is_version = read_version(folder.name) is not None
    name, version = (folder.parent.name, folder.name) if is_version else ("", "")
    return Model(path, name, version, hashlib.sha256(data).hexdigest(), read_seal(data))


def _find_file(place: Path, precision: str) -> Path:
    """The file itself; of a folder, the file of its highest version, in the asked-for precision if it has one."""
    if place.is_file():
        return place
    versions = {read_version(path.parent.name) or 0: path.parent for path in place.glob(f"*/{PLAIN_NAME}")}
    folder = versions[max(versions)] if max(versions, default=0) else place
    variant, plain = folder / name_variant(precision), folder / PLAIN_NAME
    if variant.is_file():
        return variant
    if not plain.is_file():
        raise ConfigError(
            f"--model: wanted a {PLAIN_NAME}, its folder, or a folder of <version>/{PLAIN_NAME}; got {place}"
        )
    return plain
