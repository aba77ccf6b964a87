"""`train.data.datasets`: parsing, splitting and exporting, with the published datasets if they are present."""

import gzip
import hashlib
import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data import __main__ as export_command
from train.data import datasets as data
from train.data.sources import SOURCES, DatasetError

PUBLISHED_COUNTS = {"mnist": (60000, 10000), "cifar10": (50000, 10000)}


def idx(array: np.ndarray) -> bytes:
    """Write an IDX file of unsigned bytes by its specification."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_mnist(
    folder: Path, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> dict[str, str]:
    """Write images uint8 [N, 28, 28, 1] and labels [N] in MNIST's format; returns the checksums."""
    (folder / "mnist").mkdir(parents=True)
    md5s = {}
    for part, (images, labels) in (("train", train), ("t10k", test)):
        for kind, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
            name, content = f"{part}-{kind}-ubyte.gz", gzip.compress(idx(array), 1)
            (folder / "mnist" / name).write_bytes(content)
            md5s[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return md5s


def draw_bars(labels: np.ndarray) -> np.ndarray:
    """Images uint8 [N, 28, 28, 1] that replace MNIST's: the row of a bright bar, of ten, is the label."""
    images = np.zeros((len(labels), 28, 28, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 + 2 * label : 6 + 2 * label] = 255
    return images


def make_cifar(count: int) -> dict[str, bytes]:
    """Files in CIFAR-10's format, plane by plane. Image i of a batch is red i, green 100, blue 200."""
    planes = np.repeat(np.array([[[i], [100], [200]] for i in range(count)], np.uint8), 1024, axis=2)
    batch = {b"data": planes.reshape(count, 3072), b"labels": [i % 10 for i in range(count)]}
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    return {name: pickle.dumps(batch) for name in names}


@pytest.fixture(scope="module", params=["mnist", "cifar10"])
def published(request: pytest.FixtureRequest) -> data.Dataset:
    """A published dataset."""
    name, folder = request.param, data.default_folder()
    if not all((folder / SOURCES[name].folder / file).exists() for file in SOURCES[name].md5s):
        pytest.skip(f"{name} is not in {folder}; set INKLING_DATA to the folder that has it")
    return data.load(name)


def test_a_published_dataset_has_its_published_counts_and_ten_labels(published: data.Dataset) -> None:
    train_count, test_count = PUBLISHED_COUNTS[published.name]
    assert published.train.images.shape == (train_count, *published.shape)
    assert published.test.images.shape == (test_count, *published.shape)
    assert published.train.images.dtype == published.test.images.dtype == np.uint8
    assert np.bincount(published.test.labels).shape == (10,)
    assert len(published.validation) == 0
    assert {language: len(names) for language, names in published.labels.items()} == {"en": 10, "ru": 10}


def test_a_published_dataset_pairs_images_with_their_labels(published: data.Dataset) -> None:
    """The nearest class mean is right much more often than chance, so images and labels match."""
    images = published.test.images.reshape(len(published.test), -1).astype(np.float32)
    means = np.array([images[published.test.labels == label].mean(axis=0) for label in range(10)])
    nearest = ((images[:1000, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert np.mean(nearest == published.test.labels[:1000]) > 0.25


def test_idx_files_give_images_with_a_channel_axis() -> None:
    images, labels = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 251, np.array([3, 7])
    contents = {"images-idx3": gzip.compress(idx(images)), "labels-idx1": gzip.compress(idx(labels))}
    files = {f"{split}-{kind}-ubyte.gz": content for split in ("train", "t10k") for kind, content in contents.items()}
    train, test = data.parse_mnist(files)
    np.testing.assert_array_equal(train.images, images[..., None])
    np.testing.assert_array_equal(train.labels, labels)
    assert test.images.shape == (2, 28, 28, 1)


def test_a_file_of_another_type_is_not_read_as_idx() -> None:
    with pytest.raises(DatasetError, match="found 00 00 0d"):
        data.parse_idx(b"\0\0\x0d\x01\0\0\0\0")


def test_cifar_planes_become_pixels_in_the_order_of_the_batches() -> None:
    train, test = data.parse_cifar(make_cifar(3))
    assert train.images.shape == (15, 32, 32, 3)
    assert train.images[2, 5, 6].tolist() == [2, 100, 200]
    assert test.images[1, 0, 31].tolist() == [1, 100, 200]
    assert test.labels.tolist() == [0, 1, 2]
    assert train.labels.tolist() == [0, 1, 2] * 5


def test_an_unknown_dataset_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'fashion'; known are mnist, cifar10"):
        data.load("fashion", tmp_path)


def test_the_folder_is_the_environments_or_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INKLING_DATA", str(tmp_path))
    assert data.default_folder() == tmp_path
    monkeypatch.delenv("INKLING_DATA")
    assert data.default_folder() == Path.home() / ".cache" / "inkling"


def make_part(count: int) -> data.Part:
    """Images of one pixel; pixel and label are the number of the image."""
    numbers = np.arange(count)
    return data.Part.whole(numbers.astype(np.uint8).reshape(-1, 1, 1, 1), numbers)


def test_the_split_holds_out_the_same_images_each_time_and_loses_none() -> None:
    train, validation = data.split(make_part(100), 30)
    assert (len(train), len(validation)) == (70, 30)
    assert sorted([*train.labels, *validation.labels]) == list(range(100))
    np.testing.assert_array_equal(data.split(make_part(100), 30)[1].labels, validation.labels)


def test_the_split_is_the_one_of_the_files_that_ship() -> None:
    """Another rule would validate a resumed run, or compare studies, on images that were trained on."""
    _, validation = data.split(make_part(100), 8)
    assert validation.labels.tolist() == [5, 16, 20, 36, 52, 82, 93, 94]


def test_a_part_keeps_images_labels_and_places_together() -> None:
    for part in data.split(make_part(100), 30):
        np.testing.assert_array_equal(part.images.ravel(), part.labels)
        np.testing.assert_array_equal(part.places, part.labels)
        np.testing.assert_array_equal(part.take(np.array([2, 0])).places, part.labels[[2, 0]])


@pytest.mark.parametrize("validation_count", [-1, 100])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(validation_count: int) -> None:
    with pytest.raises(ValueError, match="wanted 0 to 99 of 100"):
        data.split(make_part(100), validation_count)


def test_a_test_set_alone_is_a_dataset_with_nothing_to_train_on() -> None:
    part = make_part(5)
    dataset = data.Dataset.of_test("numbers", part.images, part.labels, {"en": ("a", "b")})
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (0, 0, 5)
    assert dataset.shape == (1, 1, 1)


@pytest.mark.parametrize(("side", "count"), [(8, 1000), (28, 1000), (32, 1000), (64, 250), (128, 62), (4096, 1)])
def test_a_batch_has_fewer_large_images(side: int, count: int) -> None:
    assert data.choose_batch_size(np.broadcast_to(np.uint8(0), (3, side, side, 3))) == count


def test_export_writes_every_image_losslessly_into_the_folder_of_its_class(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    export_command.export_folders(data.Part.whole(images, np.array([1, 0, 1])), ["cat", "dog"], tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")}
    assert found == {"dog/00000.png", "cat/00001.png", "dog/00002.png"}
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "dog" / "00002.png")), images[2])


def test_export_of_grey_images_gives_grey_files(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), np.uint8)
    export_command.export_folders(data.Part.whole(images, np.array([0])), ["0"], tmp_path)
    picture = Image.open(io.BytesIO((tmp_path / "0" / "00000.png").read_bytes()))
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), images[0, ..., 0])


def test_export_does_not_mix_with_what_a_folder_holds(tmp_path: Path) -> None:
    export_command.require_room(tmp_path)
    export_command.require_room(tmp_path / "new")
    (tmp_path / "note.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "note.txt"):
        with pytest.raises(DatasetError, match="wanted a new or an empty folder"):
            export_command.require_room(taken)


def test_the_command_exports_the_test_set_without_tensorflow(published: data.Dataset, tmp_path: Path) -> None:
    program = (
        "import sys; from train.data.__main__ import main; code = main(); "
        "sys.exit(code or any(name in sys.modules for name in ('tensorflow', 'keras')))"
    )
    command = [sys.executable, "-c", program, "--dataset", published.name, "--export", str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    names = [path.name for path in sorted((tmp_path / "out").iterdir())]
    assert names == sorted(published.labels["en"])
    index = 4321
    path = tmp_path / "out" / published.labels["en"][published.test.labels[index]] / f"{index:05d}.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), published.test.images[index].squeeze())


def test_an_unusable_dataset_ends_with_1_and_bad_usage_with_2(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"broken")
    command = [sys.executable, "-m", "train.data", "--export", str(tmp_path / "out"), "--data", str(tmp_path)]
    broken = subprocess.run([*command, "--dataset", "cifar10"], capture_output=True, text=True, check=False)
    assert (broken.returncode, broken.stderr.startswith("error: cifar-10-python.tar.gz")) == (1, True)
    unknown = subprocess.run([*command, "--dataset", "fashion"], capture_output=True, text=True, check=False)
    assert (unknown.returncode, "'mnist', 'cifar10'" in unknown.stderr) == (2, True)
    command[command.index("--export") + 1] = str(tmp_path)  # checked before the dataset, which is broken
    taken = subprocess.run([*command, "--dataset", "cifar10"], capture_output=True, text=True, check=False)
    assert (taken.returncode, taken.stderr.startswith("error: wanted a new or an empty folder")) == (1, True)
