"""`train.data.pictures`: a split that the folder gives is taken as it is, and what it lacks is held out or refused."""

from pathlib import Path

import pytest

from serve.errors import FolderUnusable
from tests.train.data.test_pictures import read, rows, write_shapes
from train.commands.folder import describe_pictures


def write_split(folder: Path, parts: tuple[str, ...], count: int = 20) -> Path:
    """Class folders of shapes in each of the parts."""
    for seed, part in enumerate(parts):
        write_shapes(folder / part, count, seed)
    return folder


def test_a_given_split_is_taken_as_it_is(tmp_path: Path) -> None:
    pictures = read(write_split(tmp_path / "given", ("train", "val", "test")))
    given = write_split(tmp_path / "other", ("a", "b", "c"))
    for part, name in ((pictures.dataset.train, "a"), (pictures.dataset.validation, "b"), (pictures.dataset.test, "c")):
        assert rows(part.images) == set.union(
            *(rows(each.images) for each in vars(read(given / name).dataset).values() if hasattr(each, "images"))
        )
    assert "the folder gives the parts test and train and validation" in describe_pictures(pictures)


def test_what_a_given_split_lacks_is_held_out_of_its_training_part(tmp_path: Path) -> None:
    dataset = read(write_split(tmp_path / "given", ("train", "test"))).dataset
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [51, 9, 60]


def test_a_copy_in_two_given_parts_is_not_trained_on(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "given", ("train", "test"))
    (folder / "train" / "disc" / "copy.png").write_bytes((folder / "test" / "disc" / "0.png").read_bytes())
    pictures = read(folder)
    assert pictures.copy_count == 1
    assert len(pictures.dataset.test) == 60
    assert not rows(pictures.dataset.train.images) & rows(pictures.dataset.test.images)


def test_parts_with_other_classes_are_refused(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "given", ("train", "test"))
    (folder / "test" / "disc").rename(folder / "test" / "dot")
    with pytest.raises(FolderUnusable, match=r"wanted the same class folders .* found disc not in both of test and"):
        read(folder)


def test_a_part_with_too_few_images_is_named(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "given", ("train", "test"))
    for file in list((folder / "test" / "disc").iterdir())[1:]:
        file.unlink()
    with pytest.raises(FolderUnusable, match=r"wanted at least 2 .* in every class of the part test, found disc 1"):
        read(folder)
