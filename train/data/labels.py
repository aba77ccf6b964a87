"""Files of labels -> the names of a model's classes in each language, and what else a class is called.

Enters: words of a command line, files of text or JSON. Leaves: `Labels`, or LabelsUnusable. Does not know: models.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from serve.errors import InklingError
from train.data.files import UnusableFile, read_file

MOST_BYTES = 16 * 2**20
DEFAULT_LANGUAGE = "en"
_OF_LANGUAGE = re.compile(r"([a-z]{2,3}(?:-[A-Za-z0-9]+)*)=(.+)")
_FORMS = "one label a line, a JSON list, or a JSON object by index"


class LabelsUnusable(InklingError):
    """A file does not say what the classes are called."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What the classes are called."""

    names: Mapping[str, tuple[str, ...]]
    """By language, in the order of the outputs."""
    aliases: Mapping[str, int]
    """Every other name of a class, such as ImageNet's n01440764, and its index."""

    def find(self, name: str) -> int | None:
        """The class that a folder's name means, or None. Of a name that two classes have, nothing is known."""
        name = normalize("NFC", name)
        found = {
            index
            for names in self.names.values()
            for index, label in enumerate(names)
            if normalize("NFC", label) == name
        }
        found = found or {self.aliases[name]} if name in self.aliases else found
        return found.pop() if len(found) == 1 else None


def read_labels(words: Sequence[str]) -> Labels:
    """Read the files of `--labels FILE` or `--labels en=FILE ru=FILE`. Raises LabelsUnusable."""
    names: dict[str, tuple[str, ...]] = {}
    aliases: dict[str, int] = {}
    for word in words:
        match = _OF_LANGUAGE.fullmatch(word)
        language, file = (match[1], match[2]) if match else (DEFAULT_LANGUAGE, word)
        if language in names:
            raise LabelsUnusable(f"--labels: wanted one file for the language {language}, got two")
        rows = read_rows(Path(file))
        names[language] = tuple(row[-1] for row in rows)
        aliases |= {alias: index for index, row in enumerate(rows) for alias in row[:-1]}
    if DEFAULT_LANGUAGE not in names:
        raise LabelsUnusable("--labels: wanted English labels (en=FILE) too, in which clients get theirs by default")
    sizes = {language: len(each) for language, each in names.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{language} {size}" for language, size in sizes.items())
        raise LabelsUnusable(f"--labels: wanted as many labels in each language, got {listed}")
    return Labels(names, aliases)


def read_rows(file: Path) -> list[tuple[str, ...]]:
    """All names of each class in a file, the label last. Raises LabelsUnusable."""
    try:
        text = read_file(file, MOST_BYTES).decode("utf-8-sig")
    except (UnusableFile, UnicodeDecodeError) as error:
        raise LabelsUnusable(f"{file}: wanted {_FORMS} in UTF-8; {error}") from error
    rows = _read_json(file, text) if text.lstrip()[:1] in "[{" and text.strip() else _read_lines(text)
    for index, row in enumerate(rows):
        if not row or not all(name and name.isprintable() for name in row):
            raise LabelsUnusable(f"{file}: wanted a label for class {index} that can be shown, got {row!r}")
    if not rows:
        raise LabelsUnusable(f"{file}: wanted {_FORMS}, got an empty file")
    return rows


def _read_lines(text: str) -> list[tuple[str, ...]]:
    return [(line.strip(),) for line in text.rstrip().splitlines()]


def _read_json(file: Path, text: str) -> list[tuple[str, ...]]:
    try:
        value = json.loads(text, object_pairs_hook=_require_unique)
    except (ValueError, RecursionError) as error:
        raise LabelsUnusable(f"{file}: wanted {_FORMS}; the JSON is malformed: {error}") from error
    if isinstance(value, dict) and isinstance(value.get("id2label"), dict):
        value = value["id2label"]  # the config.json of Hugging Face's classifiers
    if isinstance(value, dict):
        value = _order(file, value)
    return [_read_names(file, each) for each in value]


def _require_unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of a JSON object. Raises ValueError if two have one name, of which JSON would keep the last."""
    members = dict(pairs)
    if len(members) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} is there twice")
    return members


def _order(file: Path, value: Mapping[str, Any]) -> list[Any]:
    """The values of {"0": "cat"}, or the keys of {"cat": 0}, by index."""
    if all(type(index) is int for index in value.values()):
        value = {str(index): name for name, index in value.items()}
    indices = sorted(int(key) for key in value if key.isdecimal())
    if len(indices) != len(value) or indices != list(range(len(value))):
        raise LabelsUnusable(f"{file}: wanted a label for each index from 0 to {max(0, len(value) - 1)}")
    by_index = {int(key): each for key, each in value.items()}
    return [by_index[index] for index in indices]


def _read_names(file: Path, value: Any) -> tuple[str, ...]:
    names: Iterable[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise LabelsUnusable(f"{file}: wanted labels as text, got {value!r}"[:300])
    return tuple(names)
