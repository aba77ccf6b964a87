"""`train.data.pictures`: class folders are prepared as requests are, and split."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from serve.errors import FolderUnusable
from serve.images.decode import decode
from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from tests.support import ROOT
from train.commands.folder import choose_input, describe_pictures, make_recipe
from train.data.pictures import Pictures, read_folder

SHAPES = ("disc", "square", "stripes")
FORMATS = ("png", "jpeg", "webp", "gif", "bmp")
RGB, PHOTO = choose_input("rgb", 32)
GREY, DIGIT = choose_input("grey", 28)


def draw_shape(shape: str, random: np.random.Generator) -> Image.Image:
    """A filled shape of random colour, size and place on lighter paper."""
    width, height = random.integers(40, 120, 2).tolist()
    image = Image.new("RGB", (width, height), tuple(random.integers(190, 256, 3).tolist()))
    ink, pen = tuple(random.integers(0, 110, 3).tolist()), ImageDraw.Draw(image)
    side = min(width, height) * random.uniform(0.45, 0.7)
    left, top = (width - side) * random.uniform(0.3, 0.7), (height - side) * random.uniform(0.3, 0.7)
    if shape == "disc":
        pen.ellipse((left, top, left + side, top + side), ink)
    elif shape == "square":
        pen.rectangle((left, top, left + side, top + side), ink)
    else:
        for row in range(3):
            pen.rectangle((left, top + side * row * 0.4, left + side, top + side * (row * 0.4 + 0.2)), ink)
    return image


def write_shapes(folder: Path, count: int = 40, seed: int = 0) -> Path:
    """Write `count` pictures of each shape, in all formats in turn."""
    random = np.random.default_rng(seed)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for index in range(count):
            suffix = FORMATS[index % len(FORMATS)]
            draw_shape(shape, random).save(folder / shape / f"{index}.{suffix}")
    return folder


def read(folder: Path, skip_broken: bool = False) -> Pictures:
    return read_folder(folder, RGB, PHOTO, skip_broken)


def rows(images: np.ndarray) -> set[bytes]:
    """The bytes of each of the images uint8 [N, H, W, C]."""
    return {image.tobytes() for image in images}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("pictures") / "shapes")


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """The smallest folder that can be split, which tests may damage."""
    return write_shapes(tmp_path / "few", 10)


def test_the_sub_folders_are_the_labels_in_order(shapes: Path) -> None:
    dataset = read(shapes).dataset
    assert dataset.labels == {"en": SHAPES}
    assert dataset.shape == (32, 32, 3)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.dtype == np.int64


def test_every_class_has_its_share_in_every_set(shapes: Path) -> None:
    dataset = read(shapes).dataset
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [np.bincount(part.labels).tolist() for part in parts] == [[28] * 3, [6] * 3, [6] * 3]
    assert len(set.union(*(rows(part.images) for part in parts))) == 120


@pytest.mark.parametrize(("target", "prepare"), [(RGB, PHOTO), (GREY, DIGIT)], ids=["rgb", "grey"])
def test_every_image_is_what_the_server_would_make_of_its_file(
    shapes: Path, target: InputSpec, prepare: PrepareSpec
) -> None:
    dataset = read_folder(shapes, target, prepare).dataset
    policy = find_policy(prepare, target)
    for label, shape in enumerate(SHAPES):
        served = {policy(decode(file.read_bytes(), 10**6)).tobytes() for file in (shapes / shape).iterdir()}
        parts = (dataset.train, dataset.validation, dataset.test)
        assert set.union(*(rows(part.images[part.labels == label]) for part in parts)) == served


def test_the_split_depends_on_no_name(few: Path) -> None:
    before = read(few).dataset
    for number, file in enumerate(sorted((few / "disc").iterdir(), reverse=True)):
        file.rename(file.with_name(f"renamed {number}"))
    after = read(few).dataset
    assert after.name == before.name
    assert np.array_equal(after.test.images, before.test.images)


def test_a_file_that_is_added_moves_few_others(few: Path) -> None:
    before = rows(read(few).dataset.test.images)
    draw_shape("disc", np.random.default_rng(9)).save(few / "disc" / "added.png")
    assert len(before - rows(read(few).dataset.test.images)) <= 1


def test_a_copy_of_a_file_is_taken_once(few: Path) -> None:
    before = read(few).dataset
    for file in list((few / "disc").iterdir()):
        file.with_name(f"copy-of-{file.name}").write_bytes(file.read_bytes())
    after = read(few)
    assert after.copy_count == 10
    assert after.dataset.name == before.name
    assert "left out 10 copies of other files" in describe_pictures(after)


def test_a_picture_that_was_saved_again_is_a_copy(few: Path) -> None:
    """It has the same pixels in other bytes. Which copy is taken depends on no name."""
    for file in list((few / "disc").glob("*.png")):
        Image.open(file).save(few / "disc" / f"again-{file.name}", compress_level=1)
    first = read(few)
    for file in list((few / "disc").glob("*.png")):
        file.rename(file.with_name(f"{'z' if file.name[0] == 'a' else 'a'}{file.name}"))
    assert first.copy_count == read(few).copy_count == 2
    assert first.dataset.name == read(few).dataset.name


@pytest.mark.parametrize("level", [1, 9], ids=["the same bytes", "the same pixels"])
def test_a_picture_in_two_classes_is_refused_or_left_out_of_both(few: Path, level: int) -> None:
    for shape, compress_level in zip(SHAPES[:2], (1, level), strict=True):
        draw_shape("disc", np.random.default_rng(9)).save(few / shape / "both.png", compress_level=compress_level)
    with pytest.raises(FolderUnusable, match=r"disc/both\.png: the model sees the same picture in another class"):
        read(few)
    assert [each.file.parent.name for each in read(few, skip_broken=True).broken] == ["disc", "square"]


def test_hidden_files_and_files_beside_the_class_folders_do_not_count(few: Path) -> None:
    before = read(few).dataset.name
    for name in (".DS_Store", "disc/.DS_Store", "disc/Thumbs.db", "square/desktop.ini", "labels.csv"):
        (few / name).write_bytes(b"none")
    (few / ".git").mkdir()
    (few / "__MACOSX" / "disc").mkdir(parents=True)
    after = read(few)
    assert after.dataset.name == before
    assert "left out 3 hidden (.DS_Store, .git, .DS_Store)" in describe_pictures(after)


def test_broken_files_are_named_with_the_reason_or_left_out(few: Path) -> None:
    (few / "disc" / "notes.png").write_text("mine")
    (few / "disc" / "empty.png").write_bytes(b"")
    half = io.BytesIO()
    draw_shape("disc", np.random.default_rng(9)).save(half, "PNG")
    (few / "disc" / "half.png").write_bytes(half.getvalue()[: len(half.getvalue()) // 2])
    with pytest.raises(FolderUnusable) as caught:
        read(few)
    for text in (
        "3 of the files",
        "notes.png: wanted a PNG",
        "empty.png: wanted the bytes",
        "half.png: wanted a whole",
    ):
        assert text in str(caught.value)
    pictures = read(few, skip_broken=True)
    assert [len(part) for part in (pictures.dataset.train, pictures.dataset.validation)] == [18, 6]
    assert "left out 3 files that cannot be used" in describe_pictures(pictures)


def test_of_many_broken_files_a_few_are_named(few: Path) -> None:
    for number in range(9):
        (few / "disc" / f"{number}.tiff").write_text("mine")
    with pytest.raises(FolderUnusable, match="and 4 more"):
        read(few)


def test_a_class_of_too_few_images_is_refused_with_the_number_wanted(few: Path) -> None:
    (few / "disc" / "0.png").unlink()
    with pytest.raises(FolderUnusable, match=r"wanted at least 10 different usable images .* found disc 9$"):
        read(few)


def test_a_folder_inside_a_class_folder_is_refused(few: Path) -> None:
    (few / "disc" / "old").mkdir()
    with pytest.raises(FolderUnusable, match="found the folder old"):
        read(few)


def test_a_class_folder_whose_name_cannot_be_a_label_is_refused(few: Path) -> None:
    (few / "disc").rename(few / "di\nsc")
    with pytest.raises(FolderUnusable, match=r"found 'di\\nsc'"):
        read(few)


def test_a_folder_whose_name_cannot_name_a_dataset_is_refused(few: Path) -> None:
    unreadable = few.rename(few.with_name("\udcff pictures"))
    with pytest.raises(FolderUnusable, match="wanted folders whose names can be shown"):
        read(unreadable)


def test_a_broken_file_of_any_name_can_be_printed(few: Path) -> None:
    (few / "disc" / "\udcff.png").write_bytes(b"broken")
    assert "\\udcff.png: " in describe_pictures(read(few, skip_broken=True))
    describe_pictures(read(few, skip_broken=True)).encode()


def test_the_name_of_the_dataset_depends_on_all_its_content(few: Path) -> None:
    names = {read(few).dataset.name, read_folder(few, *choose_input("rgb", 24)).dataset.name}
    (few / "disc").rename(few / "dot")
    names.add(read(few).dataset.name)
    draw_shape("disc", np.random.default_rng(9)).save(few / "dot" / "added.png")
    names.add(read(few).dataset.name)
    assert len(names) == 4
    assert all(name.startswith("few sha256:") for name in names)


def test_pictures_are_mirrored_and_strokes_are_not(shapes: Path) -> None:
    for colour, prepare in (("rgb", PHOTO), ("grey", DIGIT)):
        augmentation = make_recipe("mine", colour, prepare, read(shapes).dataset).augmentation
        assert augmentation
        assert augmentation.horizontal_flip == (colour == "rgb")


def test_the_box_of_a_digit_grows_with_the_input() -> None:
    assert [choose_input("grey", size)[1].parameters["box"] for size in (8, 28, 56, 128)] == [6, 20, 40, 91]


def test_reading_pictures_imports_no_tensorflow() -> None:
    script = "import train.commands.folder, train.data.pictures, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not {"tensorflow", "keras", "onnxruntime"} & set(done.stdout.split())


def test_class_names_are_composed(few: Path) -> None:
    (few / "disc").rename(few / "disque\u0301")
    assert read(few).dataset.labels["en"][0] == "disqu\u00e9"
