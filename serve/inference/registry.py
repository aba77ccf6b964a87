"""A folder of models, `<name>/<version>/model.onnx` -> the models that are served, and those that are not.

Enters: a folder, and a function that loads one file. Leaves: a `Repository` to look models up in.
Does not know: how a file is loaded or run, gRPC.
"""

import logging
from collections import defaultdict
from dataclasses import dataclass

from serve.errors import NotFound, list_some, quote
from serve.inference.runner import Classifier
from serve.model_file.folder import ModelFile

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
