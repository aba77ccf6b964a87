"""A folder -> the pictures that it holds: one rule for training, evaluation and the client.

Enters: the path of a folder. Leaves: its picture files, in classes and parts if it has them, and what was left out.
Does not know: how a picture is decoded, or which formats a server takes.

A picture is known by its first bytes, whatever its name. A file that is none by its bytes and has the suffix of one is
kept: whoever decodes it then says what is wrong with it. Hidden entries, and folders that other programs leave behind,
are left out. Names are in Unicode's NFC, because a Mac writes them decomposed.
"""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.errors import FolderUnusable

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
)
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cJXL ")
"""First bytes of PNG, JPEG, GIF, BMP, TIFF and JPEG XL."""
BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
"""Bytes 8 to 12 of an AVIF or HEIC file."""
HEAD_BYTES = 16

PROGRAMS = frozenset(("__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"))
"""Names, in lower case, of what unpackers, file managers and network storage leave in folders."""
HIDDEN, BY_PROGRAM, NO_PICTURE = "hidden", "left by another program", "no picture"
BESIDE = "beside the class folders"

TRAIN, VALIDATION, TEST, WHOLE = "train", "validation", "test", "whole"
PARTS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
"""The names of folders, in lower case, that hold the parts of a split."""
SHOWN_AT_MOST = 3
"""Names of each kind in the sentence about what was left out."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry of a folder that is not taken, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Listing:
    """Picture files in order of their names, and what was left out."""

    files: Sequence[Path]
    left_out: Sequence[LeftOut]


@dataclass(frozen=True)
class ClassFolders:
    """Folders named by their class."""

    files: Mapping[str, Sequence[Path]]
    """Pictures by the class's name in NFC, both in order. A class may be empty."""
    left_out: Sequence[LeftOut]


def list_pictures(folder: Path) -> Listing:
    """The pictures of a folder and of all folders below. Links to folders are not followed."""
    files: list[Path] = []
    left_out: list[LeftOut] = []
    for place, folders, names in os.walk(folder):
        visible, others = _sort_out(Path(place, name) for name in folders)
        folders[:] = [path.name for path in visible]
        pictures, no_pictures = sort_files(Path(place, name) for name in names)
        files += pictures
        left_out += [*others, *no_pictures]
    return Listing(sorted(files), left_out)


def find_parts(folder: Path) -> dict[str, ClassFolders]:
    """The class folders of each part of a split: `train`, `validation`, `test`, or all as `whole` if there is none.

    A split is a training part and another one, with nothing else beside them. Raises FolderUnusable.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise FolderUnusable(f"wanted a folder of class folders, found {found} at {folder}")
    folders = [path for path in _sort_out(folder.iterdir())[0] if path.is_dir()]
    parts = {PARTS.get(path.name.lower(), ""): path for path in folders}
    is_split = len(parts) == len(folders) > 1 and TRAIN in parts and "" not in parts
    if is_split and all(_has_folders(path) for path in folders):
        return {part: find_classes(path) for part, path in parts.items()}
    return {WHOLE: find_classes(folder)}


def choose_unseen(parts: Mapping[str, ClassFolders]) -> str:
    """The part of a split that a training saw least of: the test part, else the validation part, else the only one."""
    return next((name for name in (TEST, VALIDATION) if name in parts), next(iter(parts)))


def find_classes(folder: Path) -> ClassFolders:
    """The pictures of each class folder. Raises FolderUnusable if one of them holds a folder."""
    visible, left_out = _sort_out(folder.iterdir())
    files: dict[str, list[Path]] = {}
    for path in sorted(visible, key=lambda path: normalise(path.name)):
        if not path.is_dir():
            left_out.append(LeftOut(path, BESIDE))
            continue
        pictures, others = _list_class(path)
        files.setdefault(normalise(path.name), []).extend(pictures)
        left_out += others
    return ClassFolders(files, left_out)


def _list_class(class_folder: Path) -> tuple[list[Path], list[LeftOut]]:
    visible, hidden = _sort_out(class_folder.iterdir())
    folders = [path.name for path in visible if path.is_dir()]
    if folders:
        raise FolderUnusable(f"wanted only images in the class folder {class_folder}, found the folder {folders[0]}")
    pictures, others = sort_files(visible)
    return pictures, [*hidden, *others]


def normalise(name: str) -> str:
    """A name in NFC, in which letters with accents are one character where they can be."""
    return unicodedata.normalize("NFC", name)


def sort_files(paths: Iterable[Path]) -> tuple[list[Path], list[LeftOut]]:
    """Divide files into pictures, in order of their names, and others."""
    visible, left_out = _sort_out(paths)
    pictures = [path for path in visible if is_picture(path)]
    taken = set(pictures)
    return pictures, [*left_out, *(LeftOut(path, NO_PICTURE) for path in visible if path not in taken)]


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its first bytes, or says so by its suffix, or cannot be read."""
    if has_image_suffix(path.name):
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            return False
        with path.open("rb") as file:
            return has_signature(file.read(HEAD_BYTES))
    except OSError:
        return True


def has_image_suffix(name: str) -> bool:
    """Whether a name ends as those of images do. It may be a member of an archive, which is no path here."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122  # names of archives are no paths


def has_signature(head: bytes) -> bool:
    """Whether these are the first bytes of a picture."""
    is_webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    is_brand = head[4:8] == b"ftyp" and head[8:12] in BRANDS
    return head.startswith(SIGNATURES) or is_webp or is_brand


def describe_left_out(left_out: Sequence[LeftOut]) -> str:
    """One sentence that counts what was left out, by reason, with the first names; empty if nothing was."""
    if not left_out:
        return ""
    counts = Counter(each.reason for each in left_out)
    kinds = []
    for reason, count in counts.items():
        names = [each.path.name for each in left_out if each.reason == reason][:SHOWN_AT_MOST]
        kinds.append(f"{count} {reason} ({', '.join(names)}{', ...' if count > SHOWN_AT_MOST else ''})")
    return f"left out {'; '.join(kinds)}"


def is_visible(path: Path) -> bool:
    """Whether an entry is neither hidden nor left by another program."""
    return is_visible_name(path.name)


def is_visible_name(name: str) -> bool:
    """The same of a name alone, which may be a part of a member of an archive."""
    return not name.startswith(".") and name.lower() not in PROGRAMS


def _sort_out(paths: Iterable[Path]) -> tuple[list[Path], list[LeftOut]]:
    """Divide entries, in order of their names, into visible ones and those of other programs."""
    visible, left_out = [], []
    for path in sorted(paths):
        if path.name.startswith("."):
            left_out.append(LeftOut(path, HIDDEN))
        elif path.name.lower() in PROGRAMS:
            left_out.append(LeftOut(path, BY_PROGRAM))
        else:
            visible.append(path)
    return visible, left_out


def _has_folders(folder: Path) -> bool:
    return any(path.is_dir() for path in _sort_out(folder.iterdir())[0])
