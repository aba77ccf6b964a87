"""`train.variants`: a model in fewer bits is measured, self-tested and served."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from serve.client.client import Client
from serve.model_file.spec import ModelSpec, check_seal, from_metadata
from tests.support import LABELS, RGB, Png, RunningServer, make_graph, make_spec, write_tiny_model
from train.commands.variants import main
from train.data.datasets import Dataset, Part
from train.data.pictures import read_folder
from train.export import from_keras as export
from train.export.graph import ENDING, halve
from train.export.onnx_file import measure_self_test, read_model_file, run_onnx, write_model_file
from train.export.variants import TOLERANCES, convert, write_variant
from train.nets.build import build
from train.recipes.net import Flatten


def make_dataset() -> Dataset:
    """Images of a bright band, which the tiny model recognises, with the band as label."""
    labels = np.arange(30) % 3
    images = np.zeros((30, 12, 12, 3), np.uint8)
    for image, band in zip(images, labels, strict=True):
        image[band * 4 : band * 4 + 4] = 255
    part = Part.whole(images, labels)
    return Dataset("bands", part, part, part, LABELS)


def write_deep_model(folder: Path) -> Path:
    """The tiny model with a hidden layer that changes no answer, as only layers before the logits are quantized."""
    graph = make_graph(RGB.shape)
    *before, scores, softmax = graph.graph.node
    scores.output[0] = "hidden"
    nodes = [
        helper.make_node("Relu", ["hidden"], ["rectified"]),
        helper.make_node("MatMul", ["rectified", "identity"], ["scores"], name="logits"),
    ]
    del graph.graph.node[:]
    graph.graph.node.extend([*before, scores, *nodes, softmax])
    graph.graph.initializer.append(numpy_helper.from_array(np.eye(3, dtype=np.float32), "identity"))
    spec = make_spec(self_test=measure_self_test(graph, RGB.shape))
    return write_model_file(graph, spec, folder / "1")


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_variant_is_measured_sealed_and_served(
    precision: str, tmp_path: Path, png: Png, start_server: Callable[..., RunningServer]
) -> None:
    folder = write_deep_model(tmp_path / "bands").parent
    spec = write_variant(folder, precision, make_dataset())
    assert (spec.precision, spec.test_accuracy, spec.test_count) == (precision, 1.0, 30)
    assert 0 < spec.recipe["variant_parity"]["largest_difference"] < TOLERANCES[precision]
    check_seal((folder / f"model.{precision}.onnx").read_bytes())
    with Client(start_server(tmp_path, precision=precision).address) as client:
        answer = client.classify(png(2), model="bands")
    assert (answer.best.label, answer.precision) == ("bottom", precision)


def test_an_int8_variant_holds_its_weights_in_eight_bits(tmp_path: Path) -> None:
    folder = write_deep_model(tmp_path / "bands").parent
    write_variant(folder, "int8", make_dataset())
    graph = onnx.load(folder / "model.int8.onnx").graph
    assert {node.op_type for node in graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    quantized = {tuple(tensor.dims) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    assert (432, 3) in quantized
    assert (3, 3) not in quantized, "the logits stay float32"


def test_a_file_with_halved_weights_has_variants_too(tmp_path: Path) -> None:
    path = write_deep_model(tmp_path / "bands")
    halved = halve(onnx.load(path), least_size=1)
    spec = from_metadata({each.key: each.value for each in halved.metadata_props})
    del halved.metadata_props[:]
    write_model_file(halved, spec, path.parent)
    assert next(node.input[0] for node in halved.graph.node if node.op_type == "Cast").endswith(ENDING)
    for precision in TOLERANCES:
        assert write_variant(path.parent, precision, make_dataset()).test_accuracy == 1.0
    casts = [node for node in onnx.load(path.parent / "model.float16.onnx").graph.node if node.op_type == "Cast"]
    assert not any(ENDING in name for node in casts for name in node.input)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_net_as_it_is_exported_has_variants(precision: str) -> None:
    """Its first operation scales pixels to float32, which has no variant in 16 bits."""
    dataset = make_dataset()
    model = export.convert(build((Flatten(),), RGB.shape, 3))
    variant = convert(model, precision, dataset)
    expected, found = (run_onnx(each.SerializeToString(), dataset.test.images) for each in (model, variant))
    np.testing.assert_allclose(found, expected, atol=TOLERANCES[precision])


def test_the_probabilities_of_an_int8_variant_sum_to_1(tmp_path: Path) -> None:
    """In steps of 1/256 they would not."""
    folder = write_deep_model(tmp_path / "bands").parent
    write_variant(folder, "int8", make_dataset())
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 3), np.uint8)
    probabilities = run_onnx((folder / "model.int8.onnx").read_bytes(), images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_the_float32_file_is_left_as_it_was(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "bands")
    before = path.read_bytes()
    write_variant(path.parent, "float16", make_dataset())
    assert path.read_bytes() == before
    metadata = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert "variant_parity" not in from_metadata(metadata).recipe


def test_a_folder_without_a_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--precision", "int8"]) == 1
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="wanted FIFOs, which Windows has not")
def test_a_pipe_for_a_model_is_named_without_waiting_for_its_writer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    assert main([str(tmp_path), "--precision", "int8"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'model.onnx'}: wanted a file, found something else")


BANDS = tuple(sorted(LABELS["en"]))
"""Labels in the order in which a training takes class folders."""


def write_bands(folder: Path, count: int) -> Path:
    """Class folders of pictures that the tiny model recognises, each with dark noise of its own."""
    random = np.random.default_rng(0)
    for band, name in enumerate(BANDS):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 50, RGB.shape, np.uint8)
            pixels[band * 4 : band * 4 + 4] = 255
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def write_trained_model(folder: Path, pictures: Path, **changes: object) -> Path:
    """The tiny model as if it had been trained on a folder of pictures."""
    spec = make_spec()
    dataset = read_folder(pictures, spec.input, spec.prepare).dataset
    return write_tiny_model(folder, dataset=dataset.name, labels=dataset.labels, **changes).parent


def convert_on(model: Path, pictures: Path) -> ModelSpec:
    """What the command states of a float16 file."""
    assert main([str(model), "--precision", "float16", "--images", str(pictures)]) == 0
    return read_model_file(model / "model.float16.onnx")[1]


def test_a_folder_of_training_is_known_when_it_is_renamed(tmp_path: Path) -> None:
    pictures = write_bands(tmp_path / "pictures", 10)
    model = write_trained_model(tmp_path / "bands", pictures)
    spec = convert_on(model, pictures.rename(tmp_path / "moved"))
    assert (spec.test_count, spec.test_accuracy) == (6, 1.0)


def add_picture(folder: Path) -> None:
    Image.new("RGB", (12, 12)).save(folder / "top" / "new.png")


def remove_most(folder: Path) -> None:
    for file in folder.glob("*/[1-9].png"):
        file.unlink()


def remove_classes(folder: Path) -> None:
    for file in list(folder.glob("*/*.png")):
        file.rename(folder / f"{file.parent.name}-{file.name}")
    for name in BANDS:
        (folder / name).rmdir()


@pytest.mark.parametrize("change", [add_picture, remove_most, remove_classes])
def test_no_accuracy_is_measured_on_what_may_be_training_pictures(
    change: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is another than that of the training, or no longer that, and the parts cannot be told."""
    pictures = write_bands(tmp_path / "pictures", 10)
    model = write_trained_model(tmp_path / "bands", pictures)
    change(pictures)
    assert convert_on(model, pictures).test_count == 0
    assert "measured no accuracy: wanted the pictures of pictures sha256:" in capsys.readouterr().out


def test_a_file_that_names_no_folder_is_measured_on_any(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "bands", labels={"en": BANDS}).parent
    spec = convert_on(model, write_bands(tmp_path / "pictures", 4))
    assert (spec.test_count, spec.test_accuracy) == (6, 1.0)


def test_familiarity_cannot_be_fitted_to_other_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_trained_model(tmp_path / "bands", write_bands(tmp_path / "pictures", 10), brightness=1)
    others = write_bands(tmp_path / "others", 4)
    assert main([str(model), "--precision", "float16", "--images", str(others)]) == 2
    assert "--images: wanted the pictures that bands was trained on" in capsys.readouterr().err
