"""`train.data.examples`: what a finished model is measured on, split once, or why a folder cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.errors import FolderUnusable
from serve.model_file.spec import InputSpec, PrepareSpec
from train.data import examples
from train.data.examples import Examples, read_examples
from train.data.labels import Labels

TARGET = InputSpec((8, 8, 3), "uint8", "rgb")
PREPARE = PrepareSpec("photo", 1, {})
LABELS = Labels({"en": ("cat", "dog"), "ru": ("кот", "пёс")}, {"n01": 0})


def write(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


def write_folders(folder: Path, *names: str, count: int = 6) -> Path:
    for place, name in enumerate(names):
        for number in range(count):
            write(folder / name / f"{number}.png", 1000 * place + number)
    return folder


def read(folder: Path, **options: bool) -> Examples:
    return read_examples(folder, LABELS, TARGET, PREPARE, **options)


@pytest.mark.parametrize("names", [("cat", "dog"), ("n01", "пёс")])
def test_class_folders_give_labels_and_two_parts_without_a_common_picture(
    names: tuple[str, str], tmp_path: Path
) -> None:
    found = read(write_folders(tmp_path / "pets", *names))
    assert found.is_labelled
    assert (len(found.figures), len(found.calibration)) == (6, 6)
    assert found.name.startswith("pets sha256:")
    truth = np.concatenate([found.figures.labels, found.calibration.labels])
    assert np.bincount(truth).tolist() == [6, 6]
    both = {part.tobytes() for part in found.figures.images} & {part.tobytes() for part in found.calibration.images}
    assert not both


def test_a_folder_of_a_few_of_the_classes_is_enough(tmp_path: Path) -> None:
    assert set(read(write_folders(tmp_path, "dog")).figures.labels) == {1}


def test_pictures_without_class_folders_have_no_labels(tmp_path: Path) -> None:
    found = read(write_folders(tmp_path, ""))
    assert not found.is_labelled
    assert (len(found.figures), len(found.calibration)) == (6, 0)


def test_the_split_does_not_depend_on_names(tmp_path: Path) -> None:
    first = read(write_folders(tmp_path / "a", "cat", "dog"))
    second = tmp_path / "b"
    for name in ("cat", "dog"):
        for file in (tmp_path / "a" / name).iterdir():
            (second / name).mkdir(parents=True, exist_ok=True)
            (second / name / f"z{file.name}").write_bytes(file.read_bytes())
    np.testing.assert_array_equal(first.figures.images, read(second).figures.images)


def test_one_of_several_copies_is_taken(tmp_path: Path) -> None:
    folder = write_folders(tmp_path, "cat", "dog")
    write(folder / "cat" / "copy.png", 0)
    found = read(folder)
    assert len(found.figures) + len(found.calibration) == 12


def test_a_picture_in_two_classes_is_refused_or_left_out(tmp_path: Path) -> None:
    folder = write_folders(tmp_path, "cat", "dog")
    Image.open(folder / "cat/0.png").save(folder / "dog/same.bmp")
    with pytest.raises(FolderUnusable, match="the same picture in another class folder"):
        read(folder)
    found = read(folder, skip_broken=True)
    assert sorted(each.file.name for each in found.broken) == ["0.png", "same.bmp"]
    assert len(found.figures) + len(found.calibration) == 11


def test_a_single_picture_is_one_that_figures_are_measured_on(tmp_path: Path) -> None:
    assert len(read(write_folders(tmp_path, "cat", count=1)).figures) == 1


def test_too_many_pictures_are_chosen_by_the_digest_of_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "MOST_EXAMPLE_BYTES", 4 * 8 * 8 * 3)
    found = read(write_folders(tmp_path, "cat", "dog"))
    assert (len(found.figures) + len(found.calibration), found.left_out) == (4, 8)


def test_a_folder_that_is_no_label_is_refused_with_the_labels(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match="named by their labels, as cat, dog; found bird in"):
        read(write_folders(tmp_path, "cat", "bird"))


def test_a_broken_picture_stops_unless_it_may_be_left_out(tmp_path: Path) -> None:
    folder = write_folders(tmp_path, "cat", "dog")
    (folder / "cat" / "notes.png").write_text("mine")
    with pytest.raises(FolderUnusable, match=r"1 of the files cannot be used.*\n.*notes\.png: wanted a PNG"):
        read(folder)
    assert [each.file.name for each in read(folder, skip_broken=True).broken] == ["notes.png"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match=r"wanted pictures in .*, found none"):
        read(tmp_path)
    with pytest.raises(FolderUnusable, match="which does not exist"):
        read(tmp_path / "gone")


@pytest.mark.parametrize("part", ["test", "val"])
def test_of_a_folder_that_gives_a_split_no_training_picture_is_taken(tmp_path: Path, part: str) -> None:
    write_folders(tmp_path / "given" / "train", "cat", "dog", count=9)
    write_folders(tmp_path / "given" / part, "cat", "dog")
    given, alone = read(tmp_path / "given"), read(tmp_path / "given" / part)
    assert np.array_equal(given.figures.images, alone.figures.images)
    assert np.array_equal(given.figures.labels, alone.figures.labels)
