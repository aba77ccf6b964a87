"""A folder of models, `<name>/<version>/model.onnx` -> the models that are served, and those that are not.

Enters: a folder, and a function that loads one file. Leaves: a `Repository` to look models up in.
Does not know: how a file is loaded or run, gRPC.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from serve.classifier import Classifier
from serve.errors import ConfigError, ModelFileError, NotFound, list_some, quote
from serve.model_file.folder import PLAIN_NAME, ModelFile, find_model_files

logger = logging.getLogger(__name__)


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
