"""The live set: name -> versions -> runner, and the files that were refused.

Enters: runners, names and versions. Leaves: the runner that a request is for. Does not know: loading, gRPC.
A change makes a new snapshot and swaps it in, so that a request sees the set before or after it and nothing between.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from serve.errors import NotFound, list_some, quote
from serve.inference.runner import Runner
from serve.model_file.folder import ModelFile

Versions = Mapping[int, Runner]
"""The highest version first."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A model file that was found and not loaded, and why."""

    file: ModelFile
    reason: str


class Registry:
    """The models that are live by name and version. Changed on the event loop alone."""

    def __init__(self) -> None:
        self.refusals: tuple[Refusal, ...] = ()
        """The files that should be live and cannot be, as of now."""
        self.unloaded: tuple[tuple[str, int], ...] = ()
        """Names and versions that were unloaded on request, and have not been loaded since."""
        self._live: Mapping[str, Versions] = {}

    @property
    def names(self) -> list[str]:
        """The names that can be asked for: short names first, so `mnist` before `mnist-cnn`."""
        return list(self._live)

    def list(self) -> list[Runner]:
        """Every version of every model, the highest version of each first."""
        return [runner for versions in self._live.values() for runner in versions.values()]

    def find(self, name: str, version: str) -> Runner:
        """The runner of a name and version; an empty version is the highest, an empty name the only model.

        Raises NotFound with what there is.
        """
        live = self._live
        if not name and len(live) == 1:
            name = next(iter(live))
        if name not in live:
            raise NotFound(f"wanted one of the models {list_some(live)}; got {quote(name)}")
        versions = live[name]
        if not version:
            return next(iter(versions.values()))
        if version not in map(str, versions):
            known = list_some(map(str, versions))
            raise NotFound(f"wanted one of the versions of {name}: {known}; got {quote(version)}")
        return versions[int(version)]

    def put(self, runner: Runner) -> Runner | None:
        """Make a runner live: the one that it replaces, if its name and version were live already."""
        versions = dict(self._live.get(runner.name, {}))
        replaced = versions.pop(runner.version, None)
        versions[runner.version] = runner
        self._live = self._sort({**self._live, runner.name: dict(sorted(versions.items(), reverse=True))})
        return replaced

    def remove(self, name: str, version: int) -> Runner | None:
        """Take a version out of the live set: its runner, if it was live. A model without versions has no name."""
        versions = dict(self._live.get(name, {}))
        removed = versions.pop(version, None)
        others = {other: runners for other, runners in self._live.items() if other != name}
        self._live = self._sort({**others, name: versions} if versions else others)
        return removed

    def versions(self, name: str) -> tuple[int, ...]:
        """The live versions of a model, the highest first; none if it is not live."""
        return tuple(self._live.get(name, ()))

    @staticmethod
    def _sort(live: Mapping[str, Versions]) -> Mapping[str, Versions]:
        return dict(sorted(live.items(), key=lambda item: (len(item[0]), item[0])))
