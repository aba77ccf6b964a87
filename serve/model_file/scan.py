"""A folder -> the model files in it at one moment, and what is in a wrong place.

Enters: a folder. Leaves: a `Scan`, or ConfigError. Does not know: what is in a model file, which files are to be live.
Names that begin with a dot are skipped: a volume of Kubernetes keeps its contents under such names, and a copy that is
under way often has one.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from serve.errors import ConfigError, ModelFileError
from serve.model_file.folder import PLAIN_NAME, ModelFile, name_variant, read_version
from serve.model_file.serving import FILE_NAME, SERVER_SETTINGS, ServingSettings, read_serving

SUFFIX = ".onnx"
DEEPEST_STRAY = 4
"""Folders below the scanned one in which model files in a wrong place are looked for."""
WHOLE = 0
"""No version has this number."""
MOST_ENTRIES = 10_000
"""Entries of a folder's tree that are looked at for model files in a wrong place: it may be a whole disk."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes with the bytes of a file, as far as can be told without reading it."""

    place: str
    """The path without symbolic links: a volume of Kubernetes changes by a link alone."""
    size: int
    modified_ns: int
    changed_ns: int
    """The system sets it, so that no copy can keep an old one."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A model file in its right place, unread."""

    name: str
    version: int
    path: Path
    stamp: Stamp
    serving: ServingSettings | None = SERVER_SETTINGS
    problem: str = ""
    """These two as in `ModelFile`."""


Entry: TypeAlias = "os.DirEntry[str]"
Found: TypeAlias = Mapping[str, tuple[FoundFile, ...]]
"""Files by model; the newest version first, and of each version the asked-for precision before the plain file."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder held at one moment."""

    models: Found
    unreadable: frozenset[tuple[str, int]]
    """Models and versions that could not be read, so that nothing is known of them; version WHOLE is all of a model."""
    problems: tuple[str, ...]
    """A sentence on each thing that keeps a file from being found: for the log, with paths."""


def scan(folder: Path, precision: str) -> Scan:
    """Look at all models of a folder. Raises ConfigError if it is not a folder that can be read."""
    try:
        with os.scandir(folder) as all_entries:
            entries = _sort(all_entries)
    except OSError as error:
        raise ConfigError(
            f"--models: wanted a folder of <name>/<version>/{PLAIN_NAME}, {folder} is not a folder that can be read; "
            f"name another, or train a model into it: inkling train mnist --out {folder}"
        ) from error
    scanner = _Scanner(precision)
    models = {name: files for name, files in scanner.read_models(entries) if files}
    return Scan(models, frozenset(scanner.unreadable), tuple(scanner.problems))


def find_model_files(folder: Path, precision: str) -> list[ModelFile]:
    """The file of each version of each model, sorted by both, as the variant of a precision if it exists.

    Raises ConfigError if there is no folder or no file.
    """
    found = scan(folder, precision)
    if not found.models:
        raise ConfigError(say_empty(folder))
    versions = [next(files) for all_files in found.models.values() for _, files in by_version(all_files)]
    return sorted(
        (ModelFile(file.name, file.version, file.path, "", file.problem, file.serving) for file in versions),
        key=lambda file: (file.name, file.version),
    )


def by_version(files: tuple[FoundFile, ...]) -> Iterator[tuple[int, Iterator[FoundFile]]]:
    """The files of each version of one model, the newest first."""
    return groupby(files, key=lambda file: file.version)


def say_empty(folder: Path) -> str:
    """What is wrong with a folder in which there is no model file."""
    return f"--models: wanted <name>/<version>/{PLAIN_NAME} under {folder}, found none"


class _Scanner:
    """One walk through a folder."""

    def __init__(self, precision: str) -> None:
        self._precision = precision
        self._entries_left = MOST_ENTRIES
        self.unreadable: set[tuple[str, int]] = set()
        self.problems: list[str] = []

    def read_models(self, entries: list[Entry]) -> Iterator[tuple[str, tuple[FoundFile, ...]]]:
        """The files of every model."""
        for entry in entries:
            if _is_folder(entry):
                yield entry.name, tuple(self._read_versions(entry))
            else:
                self._note_stray(entry)

    def _read_versions(self, folder: Entry) -> Iterator[FoundFile]:
        versions = []
        for entry in self._list(folder, folder.name, WHOLE):
            if _is_folder(entry) and (version := read_version(entry.name)):
                versions.append((version, entry))
            else:
                self._note_strays(entry, depth=2)
        for version, entry in sorted(versions, key=lambda each: each[0], reverse=True):
            yield from self._read_version(folder.name, version, entry)

    def _read_version(self, name: str, version: int, folder: Entry) -> Iterator[FoundFile]:
        entries = {entry.name: entry for entry in self._list(folder, name, version)}
        serving, problem = _read_serving(entries.get(FILE_NAME))
        precision = serving.precision if serving else None
        names = dict.fromkeys((name_variant(precision or self._precision), PLAIN_NAME))
        stamps = {
            wanted: stamp
            for wanted in names
            if wanted in entries and (stamp := self._stamp(entries[wanted], name, version))
        }
        for entry in entries.values():
            # Beside a plain file, other model files are no mistake: a variant that was not asked for, or what it was
            # made from.
            if entry.name not in names and PLAIN_NAME not in stamps:
                self._note_strays(entry, depth=3)
        if PLAIN_NAME in stamps:
            for each, stamp in stamps.items():
                yield FoundFile(name, version, Path(entries[each].path), stamp, serving, problem)
        elif PLAIN_NAME not in entries and stamps:
            self._note_stray(entries[next(iter(stamps))])

    def _list(self, folder: Entry, model: str = "", version: int = WHOLE) -> list[Entry]:
        """The entries of a folder by name; none and a problem if it cannot be read."""
        try:
            with os.scandir(folder) as entries:
                return _sort(entries)
        except FileNotFoundError:  # removed since it was listed
            return []
        except OSError as error:
            self._note_unreadable(f"cannot read the folder {folder.path}", error, model, version)
            return []

    def _stamp(self, entry: Entry, model: str, version: int) -> Stamp | None:
        """The stamp of what an entry leads to; None and a problem if there is none."""
        try:
            return _read_stamp(entry.path)
        except FileNotFoundError:
            if entry.is_symlink():  # or else it was removed since it was listed
                self._note_stray(entry)
        except OSError as error:
            self._note_unreadable(f"cannot read {entry.path}", error, model, version)
        return None

    def _note_unreadable(self, what: str, error: OSError, model: str, version: int) -> None:
        self.problems.append(f"{what}: {error.strerror or error}")
        if model:
            self.unreadable.add((model, version))

    def _note_strays(self, entry: Entry, depth: int) -> None:
        """Name what is wrong at an entry and below it."""
        self._entries_left -= 1
        if self._entries_left < 0:
            return
        if not _is_folder(entry):
            self._note_stray(entry)
        elif depth < DEEPEST_STRAY:
            for below in self._list(entry):
                self._note_strays(below, depth + 1)

    def _note_stray(self, entry: Entry) -> None:
        if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110  # Path.exists may raise
            self.problems.append(f"{entry.path} is a link that leads nowhere")
        elif entry.name.endswith(SUFFIX):
            self.problems.append(f"{entry.path} is not served: wanted it at <name>/<version>/{PLAIN_NAME}")


def _read_serving(entry: "Entry | None") -> tuple[ServingSettings | None, str]:
    """What the file of settings in a version's folder says, or what is wrong with it."""
    if entry is None:
        return SERVER_SETTINGS, ""
    try:
        return read_serving(Path(entry.path)), ""
    except ModelFileError as error:
        return None, str(error)


def _sort(entries: Iterable[Entry]) -> list[Entry]:
    return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _is_folder(entry: Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or into a folder that denies access
        return False


def _read_stamp(path: str) -> Stamp:
    status = os.stat(path)  # noqa: PTH116  # paths stay the texts that scandir gives
    return Stamp(os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
