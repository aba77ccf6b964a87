"""A folder of models over time: the files of each model that have stopped changing, with the digests of their bytes.

Enters: looks at the folder, again and again. Leaves: `ModelFile`s by model, and sentences on what is new and wrong.
Does not know: who looks and when, which files are live.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from serve.errors import ConfigError, ModelFileError
from serve.model_file.folder import PLAIN_NAME, ModelFile
from serve.model_file.scan import WHOLE, Found, FoundFile, Scan, Stamp, say_empty, scan
from serve.model_file.spec import PREFIX
from serve.model_file.whole import measure_digest, read_metadata

STANDBY_VERSIONS = 2
"""Older versions of a model that are read, too, to be live in place of newer ones that are refused.

The digests of all versions would take as long as reading them."""
ACCURACY_KEY = PREFIX + "test_accuracy"
MOST_PROBLEMS = 20
"""Problems that one look names; the others are only counted."""


MOST_LOST = 0.001 + 1e-9
"""Accuracy that a file of another precision may lose: 0.1 points, and the rounding of the difference."""


def read_accuracy(path: Path) -> float | None:
    """The test accuracy that a file states; None if it states none or cannot be read."""
    try:
        value = json.loads(read_metadata(path)[ACCURACY_KEY])
    except (OSError, ModelFileError, KeyError, ValueError):
        return None
    return value if isinstance(value, float) else None


def count_live(version_policy: str) -> int:
    """How many versions of a model are live by the setting: N for `latest:N`, any number for `all`."""
    return sys.maxsize if version_policy == "all" else int(version_policy.removeprefix("latest:"))


class Repository:
    """Looks at one folder. Used in any thread, one look at a time."""

    def __init__(self, folder: Path, precision: str, live_versions: int, *, keeps_accuracy: bool = False) -> None:
        """`live_versions` of each model are to be live.

        With `keeps_accuracy`, a file of the precision is passed over if it states a lower accuracy than the plain file,
        by more than `MOST_LOST`.
        """
        self._keeps_accuracy = keeps_accuracy
        self._kept: dict[tuple[Stamp, Stamp], bool] = {}
        self._folder = folder
        self._precision = precision
        self._most_versions = live_versions + STANDBY_VERSIONS
        self.models: Mapping[str, tuple[ModelFile, ...]] = {}
        """Files by model; the newest version first, and of each the asked-for precision before the plain file."""
        self._seen: Found = {}
        self._digests: dict[Stamp, str] = {}
        self._named: frozenset[str] = frozenset()

    def look_first(self) -> list[str]:
        """Take every file as it is now. Raises ConfigError if there is no folder or no file."""
        problems = self.look(settle=False)
        if not self.models:
            raise ConfigError(say_empty(self._folder))
        return problems

    def look(self, settle: bool = True) -> list[str]:
        """Renew `models`: the problems that the look before did not find.

        A model whose files differ from those of the look before keeps the files that it has, unless `settle` is false:
        somebody may be writing them. A version that cannot be read keeps them, too. Raises ConfigError if the
        whole folder cannot be read.
        """
        found = scan(self._folder, self._precision)
        names = {*found.models, *self._seen, *self.models}
        moving = {name for name in names if settle and found.models.get(name) != self._seen.get(name)}
        files = {name: self.models.get(name, ()) if name in moving else self._read(name, found) for name in names}
        self.models = {name: files[name] for name in sorted(names) if files[name]}
        self._seen = found.models
        self._forget_digests(found.models)
        return self._note_problems(found.problems)

    def _read(self, name: str, found: Scan) -> tuple[ModelFile, ...]:
        """The files of a model, and those that it had of versions that cannot be read."""
        known = self.models.get(name, ())
        kept = [file for file in known if {(name, file.version), (name, WHOLE)} & found.unreadable]
        kept_versions = {file.version for file in kept}
        fresh = [file for file in found.models.get(name, ()) if file.version not in kept_versions]
        if self._keeps_accuracy:
            fresh = self._pass_over_inaccurate(fresh)
        versions = sorted(kept_versions | {file.version for file in fresh}, reverse=True)[: self._most_versions]
        read = [
            ModelFile(name, file.version, file.path, self._find_digest(file), file.problem, file.serving)
            for file in fresh
            if file.version in versions
        ]
        files = [file for file in (*kept, *read) if file.version in versions]
        return tuple(sorted(files, key=lambda file: -file.version))

    def _pass_over_inaccurate(self, files: list[FoundFile]) -> list[FoundFile]:
        """The files without those that lose accuracy, each of which has its plain file behind it.

        A file whose precision `serving.toml` names is what its owner wants, and stays.
        """
        pairs = [
            (file, next((each for each in files if each.version == file.version and each != file), None))
            for file in files
        ]
        return [
            file
            for file, plain in pairs
            if plain is None
            or file.path.name == PLAIN_NAME
            or (file.serving and file.serving.precision)
            or self._is_accurate(file, plain)
        ]

    def _is_accurate(self, file: FoundFile, plain: FoundFile) -> bool:
        """Whether a file states at least the accuracy of the plain file, less `MOST_LOST`."""
        stamps = (file.stamp, plain.stamp)
        if stamps not in self._kept:
            found, wanted = read_accuracy(file.path), read_accuracy(plain.path)
            self._kept[stamps] = None not in (found, wanted) and (found or 0) >= (wanted or 0) - MOST_LOST
        return self._kept[stamps]

    def _find_digest(self, file: FoundFile) -> str:
        """The digest of a file, which is read if its stamp is new; empty if it cannot be read."""
        if file.stamp not in self._digests:
            try:
                self._digests[file.stamp] = measure_digest(file.path)
            except (OSError, ModelFileError):  # whoever loads it finds the reason
                return ""
        return self._digests[file.stamp]

    def _forget_digests(self, found: Found) -> None:
        present = {file.stamp for files in found.values() for file in files}
        self._digests = {stamp: digest for stamp, digest in self._digests.items() if stamp in present}
        self._kept = {stamps: is_kept for stamps, is_kept in self._kept.items() if set(stamps) <= present}

    def _note_problems(self, problems: tuple[str, ...]) -> list[str]:
        new = [problem for problem in problems if problem not in self._named]
        self._named = frozenset(problems)
        rest = [f"and {len(new) - MOST_PROBLEMS} more"] if len(new) > MOST_PROBLEMS else []
        return new[:MOST_PROBLEMS] + rest
