"""A folder of models, `<name>/<version>/model.onnx` -> the models that are served, and those that are not.

Enters: a folder, and a function that loads one file. Leaves: a `Repository` to look models up in.
Does not know: how a file is loaded or run, gRPC.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from serve.classifier import Classifier
from serve.errors import ConfigError, ModelFileError, NotFound

logger = logging.getLogger(__name__)

PLAIN_NAME = "model.onnx"
LONGEST_ECHO = 80
LONGEST_LIST = 300


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file by its place in the folder."""

    name: str
    version: int
    path: Path


@dataclass(frozen=True, slots=True)
class Refusal:
    """A model file that was found and not loaded, and why."""

    file: ModelFile
    reason: str


class Repository:
    """The loaded models by name and version."""

    def __init__(self, classifiers: list[Classifier], refusals: list[Refusal]) -> None:
        self.refusals = refusals
        self._versions: dict[str, dict[int, Classifier]] = defaultdict(dict)
        for classifier in sorted(classifiers, key=lambda each: (len(each.name), each.name, -each.version)):
            self._versions[classifier.name][classifier.version] = classifier

    @property
    def names(self) -> list[str]:
        """The names that can be asked for."""
        return list(self._versions)

    def list(self) -> list[Classifier]:
        """Every version of every model: `mnist` before `mnist-cnn`, short names first; of each, the highest version."""
        return [classifier for versions in self._versions.values() for classifier in versions.values()]

    def find(self, name: str, version: str) -> Classifier:
        """The model of a name and version; an empty version is the highest, an empty name the only model.

        Raises NotFound with what there is.
        """
        if not name and len(self._versions) == 1:
            name = self.names[0]
        if name not in self._versions:
            raise NotFound(f"wanted one of the models {list_some(self.names)}; got {quote(name)}")
        versions = self._versions[name]
        if not version:
            return next(iter(versions.values()))
        if version not in map(str, versions):
            known = list_some(map(str, versions))
            raise NotFound(f"wanted one of the versions of {name}: {known}; got {quote(version)}")
        return versions[int(version)]


def quote(text: str) -> str:
    """What a caller sent, for an error's sentence: that is sent in a header, whose length clients limit."""
    return repr(text) if len(text) <= LONGEST_ECHO else f"{text[:LONGEST_ECHO]!r}..."


def list_some(names: Iterable[str]) -> str:
    """The known names for an error's sentence, as many as fit into a header beside the rest."""
    first, length, others = [], 0, list(names)
    while others and length + len(others[0]) <= LONGEST_LIST:
        length += len(others[0]) + len(", ")
        first.append(others.pop(0))
    rest = [f"... and {len(others)} more; ListModels has all"] if others else []
    return ", ".join(first + rest)


def find_model_files(folder: Path, precision: str) -> list[ModelFile]:
    """The model files under a folder, by name and version, each in the precision wanted where there is such a file.

    Raises ConfigError where there is no folder or no file.
    """
    if not os.path.isdir(folder):  # noqa: PTH112  # Path.is_dir raises behind a folder that one may not enter
        raise ConfigError(f"--models: wanted a folder of <name>/<version>/model.onnx, {folder} is not a folder")
    files = [
        ModelFile(path.parts[-3], int(path.parts[-2]), _choose_variant(path, precision))
        for path in folder.glob(f"*/*/{PLAIN_NAME}")
        if path.parts[-2].isascii() and path.parts[-2].isdecimal() and path.parts[-2][0] != "0"
    ]
    if not files:
        raise ConfigError(f"--models: wanted <name>/<version>/model.onnx under {folder}, found none")
    return sorted(files, key=lambda file: (file.name, file.version))


def _choose_variant(path: Path, precision: str) -> Path:
    """The file beside model.onnx in another precision, else model.onnx; what runs is named in every reply."""
    variant = path.with_name(f"model.{precision}.onnx")
    return variant if variant.exists() else path


def load_repository(folder: Path, precision: str, load: Callable[[ModelFile], Classifier]) -> Repository:
    """Load what can be loaded; a bad file costs nobody but itself. Raises ConfigError where none can.

    Where a file in another precision is bad, the model.onnx beside it serves.
    """
    classifiers, refusals = [], []
    for file in find_model_files(folder, precision):
        plain = replace(file, path=file.path.with_name(PLAIN_NAME))
        for candidate in dict.fromkeys((file, plain)):
            try:
                classifiers.append(load(candidate))
                break
            except (ModelFileError, OSError) as error:
                which = "" if candidate == plain else f"{candidate.path.name}: "
                logger.error("refused %s version %s: %s%s", file.name, file.version, which, error)
                refusals.append(Refusal(candidate, f"{which}{_reason(error)}"))
    if not classifiers:
        raise ConfigError(f"--models: every model file under {folder} was refused; the reasons are above")
    return Repository(classifiers, refusals)


def _reason(error: ModelFileError | OSError) -> str:
    """What any caller may know: the system's own sentence has the path, which is for the log."""
    return (error.strerror or "the file cannot be read") if isinstance(error, OSError) else str(error)
