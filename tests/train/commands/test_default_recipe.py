"""The recipe `cifar10` with a tiny net and tiny images: the whole way from the flags to the file's answers.

It looks at every mirror image and has no tuning here; `test_start.py` has runs with both.

The images have a spot on the left, whose colour is the label, except for some with random labels.
"""

import csv
import dataclasses
import json
from contextlib import redirect_stdout
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from serve.model_file.spec import ModelSpec
from tests.support import Interrupting
from train.commands.recipe import train_recipe
from train.data.datasets import Dataset, Part, split
from train.evaluation.calibration import Calibration, calibrate, undo_calibration
from train.evaluation.metrics import measure_accuracy
from train.export.graph import LEAST_SIZE
from train.export.onnx_file import read_model_file, run_onnx
from train.fitting.fit import CALIBRATION_LEAST, CALIBRATION_VIEWS, fit, show_as_in_training
from train.flags import RunFlags
from train.nets.build import build, prepare_first_layer
from train.nets.winograd import WinogradConv2D
from train.recipes.net import Flatten, GlobalMax, NormConv, Residual, Whitening
from train.recipes.recipe import describe
from train.recipes.shipped import RECIPES

pytestmark = pytest.mark.slow  # most of these tests share a training

SIDE, SEED = 12, 3
LABELS = {"en": ("red", "green", "blue"), "ru": ("красный", "зелёный", "синий")}
DEFAULT = RECIPES["cifar10"]
RECIPE = dataclasses.replace(
    DEFAULT,
    net=(Whitening(), NormConv(24, pooled=True), Residual(24), GlobalMax()),  # 5,184 weights from 24 channels to 24
    epochs=3,
    batch_size=100,
    validation_count=CALIBRATION_LEAST,
    mirrors=True,
    second_view_share=0.0,
    tuning=None,
    augmentation=dataclasses.replace(DEFAULT.augmentation, shift_pixels=1, cutout_pixels=4),
)


def draw_spots(count: int, seed: int, brightness: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 12, 12, 3] and labels int64 [N], a fifth of which are random."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 3, count)
    images = random.integers(0, 100, (count, SIDE, SIDE, 3), np.uint8)
    for image, colour, row in zip(images, colours, random.integers(0, SIDE - 4, count), strict=True):
        image[row : row + 4, 1:4, colour] += brightness
    return images, np.where(random.random(count) < 0.2, random.integers(0, 3, count), colours)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Its test images are clear, so that rounded weights change no answer."""
    training, test = draw_spots(CALIBRATION_LEAST + 500, seed=0), draw_spots(100, seed=1, brightness=150)
    parts = split(Part.whole(*training), RECIPE.validation_count)
    return Dataset("cifar10", *parts, Part.whole(*test), LABELS)


def make_flags(out: Path, *, precision: str = "float32", resume: bool = False) -> RunFlags:
    return RunFlags(out=out, seed=SEED, precision=precision, resume=resume)


@pytest.fixture(scope="module")
def folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a run that was interrupted before its last epoch and resumed."""
    out = tmp_path_factory.mktemp("runs")
    checkpoint = out / "unfinished.npz"
    with redirect_stdout(Interrupting("epoch 3 of 3")), pytest.raises(KeyboardInterrupt):
        train_recipe(RECIPE, dataset, make_flags(out), checkpoint)
    with (out / "printed.txt").open("w") as printed, redirect_stdout(printed):
        train_recipe(RECIPE, dataset, make_flags(out, resume=True), checkpoint)
    return out / "cifar10" / "1"


@pytest.fixture(scope="module")
def file(folder: Path) -> tuple[bytes, ModelSpec]:
    """The model file and its metadata."""
    return read_model_file(folder / "model.onnx")


@pytest.fixture(scope="module")
def net(folder: Path) -> keras.Model:
    """The trained net from images to logits, without the layers of `complete`."""
    return keras.saving.load_model(folder / "model.keras").get_layer("cifar10-logits")


def test_the_metadata_contain_the_recipe(file: tuple[bytes, ModelSpec]) -> None:
    _, spec = file
    elsewhere = ("name", "dataset", "prepare", "measured_accuracy")
    wanted = {key: value for key, value in describe(RECIPE).items() if key not in elsewhere}
    assert spec.recipe.items() >= (wanted | {"seed": SEED, "precision": "float32", "stopped_early": False}).items()
    assert (spec.name, spec.dataset, spec.prepare) == ("cifar10", "cifar10", DEFAULT.prepare)


def test_an_image_and_its_mirror_image_get_the_same_answer(file: tuple[bytes, ModelSpec], dataset: Dataset) -> None:
    data, _ = file
    answers = [run_onnx(data, images) for images in (dataset.test.images, dataset.test.images[:, :, ::-1])]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_the_large_weights_are_in_16_bits_and_those_alone(file: tuple[bytes, ModelSpec]) -> None:
    data, _ = file
    weights = onnx.load_from_string(data).graph.initializer
    sizes = {
        kind: [np.prod(each.dims) for each in weights if each.data_type == kind]
        for kind in TensorProto.DataType.values()
    }
    assert sizes[TensorProto.FLOAT16] == [9 * 24 * 24] * 3
    assert 0 < max(sizes[TensorProto.FLOAT]) < LEAST_SIZE


def test_the_weights_are_those_of_the_last_epoch(
    file: tuple[bytes, ModelSpec], folder: Path, net: keras.Model, dataset: Dataset
) -> None:
    _, spec = file
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert len(rows) == spec.recipe["best_epoch"] == 3
    found = measure_accuracy(np.asarray(net(dataset.validation.images)), dataset.validation.labels)
    assert found == pytest.approx(float(rows[-1]["val_accuracy"]), abs=0.002)


def test_the_printed_validation_accuracy_is_that_of_the_file(
    folder: Path, file: tuple[bytes, ModelSpec], dataset: Dataset
) -> None:
    data, spec = file
    found = measure_accuracy(run_onnx(data, dataset.validation.images), dataset.validation.labels)
    stated = spec.recipe["validation_accuracy"]
    assert stated == pytest.approx(found, abs=0.002)
    printed = (folder.parents[1] / "printed.txt").read_text()
    assert f"validation accuracy {stated:.4f} averaged with the mirror image" in printed


def test_the_calibration_is_fitted_to_moved_held_out_images(file: tuple[bytes, ModelSpec], dataset: Dataset) -> None:
    """The calibration of the metadata is first undone in the file's answers."""
    data, spec = file
    images = show_as_in_training(dataset.validation.images, RECIPE)
    labels = np.tile(dataset.validation.labels, CALIBRATION_VIEWS)
    named = Calibration(**spec.recipe["calibration"])
    before = undo_calibration(run_onnx(data, images), named.temperature, named.smoothing)
    found = calibrate(np.log(before), labels, DEFAULT.label_smoothing)
    assert named.smoothing == DEFAULT.label_smoothing > 0
    assert named.temperature == pytest.approx(found.temperature, rel=0.01)
    assert named.error_before == pytest.approx(found.error_before, abs=0.003)
    assert named.error_after == pytest.approx(found.error_after, abs=0.003)


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    net: keras.Model, dataset: Dataset, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(SEED)
    model = build(RECIPE.net, dataset.shape, 3)
    fit(model, dataset.train, dataset.validation, RECIPE, seed=SEED, checkpoint=tmp_path / "unfinished.npz")
    for weight, expected in zip(net.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-3)


def test_the_whitening_is_that_of_the_training_images_alone(net: keras.Model, dataset: Dataset) -> None:
    fresh = build(RECIPE.net, dataset.shape, 3)
    prepare_first_layer(fresh, dataset.train.images)
    for weight, expected in zip(
        net.get_layer("whitening").get_weights(), fresh.get_layer("whitening").get_weights(), strict=True
    ):
        np.testing.assert_allclose(weight, expected, rtol=1e-5)


def test_the_kernels_are_muons_which_keeps_their_length(net: keras.Model) -> None:
    kernels = [np.asarray(layer.kernel) for layer in net.layers if isinstance(layer, WinogradConv2D)]
    assert [np.linalg.norm(kernel) for kernel in kernels] == pytest.approx([24**0.5] * 3, rel=1e-4)


def test_the_flag_decides_the_precision_that_is_trained_in(dataset: Dataset, tmp_path: Path) -> None:
    """The checkpoint has the precision of the net's layers, and the file has it in its metadata."""
    flat = dataclasses.replace(RECIPE, net=(Flatten(),))
    checkpoint, flags = tmp_path / "unfinished.npz", make_flags(tmp_path, precision="bfloat16")
    with redirect_stdout(Interrupting("epoch 2 of 3")), pytest.raises(KeyboardInterrupt):
        train_recipe(flat, dataset, flags, checkpoint)
    with np.load(checkpoint) as stored:
        assert json.loads(str(stored["facts"]))["settings"]["precision"] == "bfloat16"
    train_recipe(flat, dataset, dataclasses.replace(flags, resume=True), checkpoint)
    _, spec = read_model_file(tmp_path / "cifar10" / "1" / "model.onnx")
    assert (spec.recipe["precision"], spec.precision) == ("bfloat16", "float32")
