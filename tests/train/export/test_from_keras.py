"""`train.export.from_keras`: conversion, and parity with the converted model."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from serve.errors import ModelFileError
from serve.model_file.spec import InputSpec, PrepareSpec, check_seal, from_metadata, self_test_images
from train.data.datasets import OBJECTS, OBJECTS_RU, Dataset
from train.evaluation.metrics import measure_accuracy
from train.export import from_keras as export
from train.export.measure.parity import LARGEST_DIFFERENCE
from train.export.onnx_file import run_onnx
from train.nets.build import build
from train.recipes.net import Conv, GlobalMax, NormConv, Whitening

SHAPE = (8, 8, 3)
FACTS = {"prepare": PrepareSpec("photo", 1, {}), "recipe": {"epochs": 1}, "source_commit": "0" * 40}


def make_model(policy: str = "float32", activation: str = "relu", classes: int = 10) -> keras.Model:
    """A small net like those of `train.nets.build`."""
    keras.utils.set_random_seed(0)
    images = keras.Input(SHAPE, dtype="uint8", name="images")
    values = keras.layers.Rescaling(1 / 255)(images)
    values = keras.layers.Conv2D(8, 3, activation=activation, dtype=policy)(values)
    values = keras.layers.Dropout(0.5)(values)
    logits = keras.layers.Dense(classes, kernel_initializer="random_normal", dtype=policy)(
        keras.layers.Flatten()(values)
    )
    return keras.Model(images, keras.layers.Softmax(dtype="float32")(logits), name="small")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (1003, *SHAPE), np.uint8), random.integers(0, 10, 1003)
    return Dataset.of_test("noise", images, labels, {"en": OBJECTS, "ru": OBJECTS_RU})


@pytest.fixture(scope="module")
def exported(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> export.Exported:
    return export.export(make_model(), dataset, tmp_path_factory.mktemp("small") / "1", **FACTS)


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    return export.convert(make_model())


def test_a_graph_takes_any_number_of_images(graph: onnx.ModelProto) -> None:
    dimensions = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    assert dimensions == {"images": ["N", 8, 8, 3], "probabilities": ["N", 10]}
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    for count in (1, 7):
        assert run_onnx(graph.SerializeToString(), np.zeros((count, *SHAPE), np.uint8)).shape == (count, 10)


def test_a_graph_is_of_opset_18_and_holds_no_dropout(graph: onnx.ModelProto) -> None:
    assert {entry.domain: entry.version for entry in graph.opset_import}[""] == 18
    assert "Dropout" not in {node.op_type for node in graph.graph.node}


def test_an_exported_file_reads_back_whole(exported: export.Exported) -> None:
    data = exported.path.read_bytes()
    check_seal(data)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert from_metadata(session.get_modelmeta().custom_metadata_map) == exported.spec
    onnx.checker.check_model(onnx.load(exported.path), full_check=True)


def test_a_file_with_halved_weights_says_how_far_that_moved_it(dataset: Dataset, tmp_path: Path) -> None:
    model = make_model()
    wide = keras.layers.Dense(64, activation="relu")(model.layers[-3].output)
    model = keras.Model(model.input, keras.layers.Dense(10, activation="softmax")(wide), name="wide")
    whole, half = (export.export(model, dataset, tmp_path / str(way), **FACTS, halves_weights=way) for way in (0, 1))
    assert half.path.stat().st_size < whole.path.stat().st_size * 0.6
    moved = half.spec.recipe["rounding_parity"]
    assert 0 < moved["largest_difference"] < 1e-3
    assert moved["largest_difference"] == np.abs(half.probabilities - whole.probabilities).max()
    assert half.parity.largest_difference <= LARGEST_DIFFERENCE, "the parity is of the conversion"
    assert half.spec.test_accuracy == measure_accuracy(half.probabilities, dataset.test.labels)
    assert (half.spec.precision, "rounding_parity" in whole.spec.recipe) == ("float32", False)


def test_a_net_of_our_own_layers_can_be_converted_in_another_process(tmp_path: Path) -> None:
    """A model of another backend is converted so, by TensorFlow, from its file."""
    model = build((Whitening(), NormConv(4), Conv(4), GlobalMax()), SHAPE, 3)
    model.save(tmp_path / "model.keras")
    command = [
        sys.executable,
        "-m",
        "train.export.keras_graph",
        str(tmp_path / "model.keras"),
        str(tmp_path / "model.onnx"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    images = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), np.uint8)
    found = run_onnx((tmp_path / "model.onnx").read_bytes(), images)
    np.testing.assert_allclose(found, model.predict_on_batch(images), atol=1e-5)


def test_an_exported_file_says_what_it_is(exported: export.Exported) -> None:
    spec = exported.spec
    assert (spec.name, spec.dataset, spec.precision) == ("small", "noise", "float32")
    assert spec.labels["ru"][3] == "кот"
    assert spec.input == InputSpec(SHAPE, "uint8", "rgb")
    assert spec.parameters == (27 + 1) * 8 + (6 * 6 * 8 + 1) * 10
    assert (datetime.now(UTC) - spec.created).total_seconds() < 600
    assert set(spec.versions) == {"keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy"}


def test_the_accuracy_in_the_file_is_that_of_the_files_own_answers(exported: export.Exported, dataset: Dataset) -> None:
    answers = run_onnx(exported.path.read_bytes(), dataset.test.images).argmax(axis=1)
    assert exported.spec.test_accuracy == np.mean(answers == dataset.test.labels)
    assert exported.spec.test_count == 1003


def test_parity_with_keras_is_measured_on_every_test_image(exported: export.Exported) -> None:
    assert exported.parity.image_count == 1003
    assert exported.parity.largest_difference <= 1e-5
    assert exported.parity.changed_classes == 0


def test_the_self_test_in_the_file_is_what_the_file_answers(exported: export.Exported) -> None:
    test = exported.spec.self_test
    images = self_test_images(test.seed, len(test.probabilities), SHAPE)
    found = run_onnx(exported.path.read_bytes(), images)
    np.testing.assert_allclose(found, test.probabilities, atol=1e-6)
    assert len(test.probabilities) == 4


def test_the_gelu_of_keras_is_exported_with_parity(dataset: Dataset, tmp_path: Path) -> None:
    """Keras writes it with erfc, which neither ONNX nor tf2onnx has."""
    assert export.export(make_model(activation="gelu"), dataset, tmp_path / "1", **FACTS).path.is_file()


@pytest.mark.parametrize("classes", [1, 3])
def test_a_model_of_other_classes_is_refused_with_both_shapes(classes: int, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        export.export(make_model(classes=classes), dataset, tmp_path / "1", **FACTS)
    assert str(caught.value) == (
        "wanted a model from (None, 8, 8, 3) to (None, 10), got one from (None, 8, 8, 3) to (None, " + f"{classes})"
    )


def test_a_saved_model_can_be_converted_in_another_process(tmp_path: Path) -> None:
    """Training with another backend needs this."""
    model, saved, converted = make_model(), tmp_path / "model.keras", tmp_path / "graph.onnx"
    model.save(saved)
    subprocess.run(
        [sys.executable, "-m", "train.export.keras_graph", saved, converted], check=True, capture_output=True
    )
    images = self_test_images(0, 2, SHAPE)
    np.testing.assert_allclose(run_onnx(converted.read_bytes(), images), model(images), atol=1e-5)


@pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed; nothing of Inkling needs it")
def test_a_model_of_another_backend_is_exported_with_parity(tmp_path: Path) -> None:
    program = """
import sys, numpy as np
from pathlib import Path
from tests.train.export.test_from_keras import FACTS, SHAPE, make_model
from train.export import from_keras as export
from train.data.datasets import OBJECTS, Dataset
images = np.random.default_rng(0).integers(0, 256, (50, *SHAPE), np.uint8)
labels = np.zeros(50, np.int64)
dataset = Dataset.of_test("noise", images, labels, {"en": OBJECTS})
print(export.export(make_model(), dataset, Path(sys.argv[1]), **FACTS).parity.largest_difference)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, check=True)
    assert float(done.stdout.split()[-1]) <= 1e-5
