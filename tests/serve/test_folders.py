"""`serve.folders`: which entries of a folder are pictures, in which class and part."""

import os
import sys
from pathlib import Path

import pytest

from serve.errors import FolderUnusable
from serve.folders import (
    WHOLE,
    ClassFolders,
    choose_unseen,
    describe_left_out,
    find_classes,
    find_parts,
    has_signature,
    list_pictures,
)
from tests.support import Png


def write(folder: Path, data: bytes, *names: str) -> Path:
    """Files of the same bytes."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def name_files(found: ClassFolders) -> dict[str, list[str]]:
    return {label: [file.name for file in files] for label, files in found.files.items()}


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_a_picture_is_known_by_its_content_whatever_its_name(tmp_path: Path, png: Png, format_name: str) -> None:
    write(tmp_path, png(0, format_name=format_name), "a/0.data", "a/1", "a/2.JFIF")
    assert name_files(find_classes(tmp_path)) == {"a": ["0.data", "1", "2.JFIF"]}


def test_a_heic_file_of_a_phone_is_a_picture_too() -> None:
    """Whoever decodes it says that it is none that is taken; left out, it would be missed."""
    assert has_signature(b"\0\0\0\x18ftypheic\0\0\0\0")
    assert not has_signature(b"\0\0\0\x18ftypmp42\0\0\0\0")
    assert not has_signature(b"RIFF\0\0\0\0WAVEfmt ")


def test_a_damaged_picture_is_kept_for_its_suffix_and_a_text_is_not(tmp_path: Path) -> None:
    write(tmp_path, b"text", "a/damaged.png", "a/notes.txt", "a/empty.JPEG")
    write(tmp_path, b"", "a/nothing")
    found = find_classes(tmp_path)
    assert name_files(found) == {"a": ["damaged.png", "empty.JPEG"]}
    assert describe_left_out(found.left_out) == "left out 2 no picture (notes.txt, nothing)"


def test_what_macs_and_other_programs_leave_is_left_out(tmp_path: Path, png: Png) -> None:
    """As their archives unpack: resource forks, and __MACOSX beside the classes or inside one."""
    write(tmp_path, png(0), "cat/0.png", "dog/0.png")
    write(tmp_path, b"\0\5\x16\7", "cat/._0.png", "__MACOSX/cat/._0.png", "__MACOSX/._cat", "dog/__MACOSX/._0.png")
    write(tmp_path, b"\0\0\0\1Bud1", ".DS_Store", "cat/.DS_Store")
    write(tmp_path, png(0), "cat/.ipynb_checkpoints/0-checkpoint.png", "dog/@eaDir/0.png", "cat/Thumbs.db")
    found = find_classes(tmp_path)
    assert name_files(found) == {"cat": ["0.png"], "dog": ["0.png"]}
    assert len(found.left_out) == 8
    assert [str(file.relative_to(tmp_path)) for file in list_pictures(tmp_path).files] == ["cat/0.png", "dog/0.png"]


def test_files_beside_the_class_folders_are_left_out(tmp_path: Path, png: Png) -> None:
    write(tmp_path, png(0), "cat/0.png", "beside.png")
    found = find_classes(tmp_path)
    assert list(found.files) == ["cat"]
    assert describe_left_out(found.left_out) == "left out 1 beside the class folders (beside.png)"


def test_names_of_classes_are_composed_and_two_spellings_are_one_class(tmp_path: Path, png: Png) -> None:
    write(tmp_path, png(0), "cafe\u0301/0.png", "th\u00e9/0.png")
    assert list(find_classes(tmp_path).files) == ["caf\u00e9", "th\u00e9"]
    write(tmp_path, png(0), "caf\u00e9/1.png")
    if len(list(tmp_path.iterdir())) == 2:
        pytest.skip("this file system composes names itself")
    assert name_files(find_classes(tmp_path)) == {"caf\u00e9": ["0.png", "1.png"], "th\u00e9": ["0.png"]}


@pytest.mark.parametrize(
    ("names", "part"),
    [(["train", "val"], "validation"), (["train", "val", "test"], "test"), (["cats", "dogs"], WHOLE)],
)
def test_figures_are_of_the_part_that_a_training_saw_least_of(
    tmp_path: Path, png: Png, names: list[str], part: str
) -> None:
    write(tmp_path, png(), *(f"{name}/cats/a.png" if part != WHOLE else f"{name}/a.png" for name in names))
    assert choose_unseen(find_parts(tmp_path)) == part


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train/cat/0.png", "test/cat/0.png"), {"train", "test"}),
        (("Training/cat/0.png", "valid/cat/0.png", "testing/cat/0.png"), {"train", "validation", "test"}),
        (("train/cat/0.png", "test/cat/0.png", "__MACOSX/0.png", "readme.txt"), {"train", "test"}),
        (("train/0.png", "test/0.png", "bus/0.png"), {WHOLE}),
        (("train/0.png", "test/0.png"), {WHOLE}),
    ],
)
def test_a_split_is_a_training_part_and_another_of_class_folders(
    tmp_path: Path, png: Png, names: tuple[str, ...], parts: set[str]
) -> None:
    write(tmp_path, png(0), *names)
    assert set(find_parts(tmp_path)) == parts


def test_a_folder_inside_a_class_folder_is_refused_by_name(tmp_path: Path, png: Png) -> None:
    write(tmp_path, png(0), "cat/old/0.png")
    with pytest.raises(FolderUnusable, match=r"wanted only images in the class folder .*cat, found the folder old"):
        find_parts(tmp_path)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match="found nothing at"):
        find_parts(tmp_path / "none")
    with pytest.raises(FolderUnusable, match="found a file at"):
        find_parts(write(tmp_path, b"", "file") / "file")


@pytest.mark.skipif(sys.platform == "win32", reason="wanted FIFOs, which Windows has not")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert describe_left_out(list_pictures(tmp_path).left_out) == "left out 1 no picture (pipe)"


def test_many_names_are_counted_and_a_few_are_shown(tmp_path: Path) -> None:
    write(tmp_path, b"x", *(f"{number}.txt" for number in range(5)))
    sentence = describe_left_out(list_pictures(tmp_path).left_out)
    assert sentence == "left out 5 no picture (0.txt, 1.txt, 2.txt, ...)"
    assert describe_left_out([]) == ""
