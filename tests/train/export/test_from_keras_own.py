"""`train.export.from_keras` with models as people have them: constants, logits, mixed precision, odd datasets."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from serve.errors import ModelFileError
from serve.model_file.spec import PrepareSpec
from train.data.datasets import Dataset, Part
from train.export.foreign.answers import NotProbabilities
from train.export.from_keras import Exported, export
from train.export.measure.parity import LARGEST_DIFFERENCE
from train.export.onnx_file import read_model_file

SHAPE = (16, 16, 3)
NAMES = {"en": ("a", "b", "c")}


def draw_dataset(shape: tuple[int, int, int] = SHAPE, count: int = 12) -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
    return Dataset.of_test("mine", images, np.arange(count) % 3, NAMES)


def hand_over(model: keras.Model, folder: Path, dataset: Dataset | None = None, **options: object) -> Exported:
    """As docs/training/own-keras-model.md does."""
    prepare = PrepareSpec("photo", 1, {})
    return export(model, dataset or draw_dataset(), folder / "1", prepare=prepare, recipe={}, **options)  # type: ignore[arg-type]


def end(values: object, activation: str | None = "softmax", units: int = 3) -> object:
    """Pooled values and a last layer of three classes, in float32."""
    pooled = keras.layers.GlobalAveragePooling2D()(values)
    logits = keras.layers.Dense(units, kernel_initializer="random_normal")(pooled)
    return keras.layers.Activation(activation, dtype="float32")(logits)


def make_logits(activation: str | None = "linear", units: int = 3, name: str = "scores") -> keras.Model:
    pixels = keras.Input(SHAPE, dtype="uint8")
    return keras.Model(pixels, end(keras.layers.Rescaling(1 / 25)(pixels), activation, units), name=name)


class Subclassed(keras.Model):
    """A model whose shapes Keras does not know before it is called."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.parts = [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3), keras.layers.GlobalMaxPooling2D()]
        self.last = keras.layers.Dense(3, activation="softmax")

    def call(self, images: object) -> object:
        """Images -> probabilities."""
        for part in self.parts:
            images = part(images)
        return self.last(images)


def test_constants_that_a_layer_holds_become_weights_of_the_graph(tmp_path: Path) -> None:
    pixels = keras.Input(SHAPE, dtype="uint8")
    scaled = keras.layers.Normalization(mean=[120.0, 115.0, 100.0], variance=[3600.0] * 3)(pixels)
    done = hand_over(keras.Model(pixels, end(keras.layers.Conv2D(4, 3)(scaled)), name="normalization"), tmp_path)
    assert done.parity.largest_difference <= LARGEST_DIFFERENCE


def test_a_net_computes_in_float32_in_its_file_however_it_was_trained(tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        pixels = keras.Input(SHAPE, dtype="uint8")
        model = keras.Model(pixels, end(keras.layers.Conv2D(8, 3)(keras.layers.Rescaling(1 / 255)(pixels))))
    finally:
        keras.config.set_dtype_policy("float32")
    done = hand_over(model, tmp_path)
    assert done.parity.largest_difference <= LARGEST_DIFFERENCE
    assert done.spec.recipe["computed_in"] == "float32, in training mixed_bfloat16"
    assert model.layers[2].compute_dtype == "bfloat16", "the model itself stays as it was"


def test_a_subclassed_model_is_exported(tmp_path: Path) -> None:
    assert hand_over(Subclassed(), tmp_path).spec.parameters == (27 + 1) * 4 + (4 + 1) * 3


@pytest.mark.parametrize(("activation", "kind"), [("linear", "logits"), ("sigmoid", "sigmoids")])
def test_outputs_that_are_no_probabilities_are_refused_by_name_or_made_so(
    activation: str, kind: str, tmp_path: Path
) -> None:
    with pytest.raises(NotProbabilities, match=rf'the outputs are {kind}: wanted rows .* or pass answers="{kind}" to'):
        hand_over(make_logits(activation), tmp_path)
    assert not (tmp_path / "1").exists()
    done = hand_over(make_logits(activation), tmp_path, answers=kind)
    np.testing.assert_allclose(done.probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("activation", "kind"), [("sigmoid", "sigmoid"), ("linear", "logit")])
def test_one_output_becomes_two_classes_when_asked(activation: str, kind: str, tmp_path: Path) -> None:
    dataset = replace(draw_dataset(), labels={"en": ("no", "yes")})
    dataset = replace(dataset, test=replace(dataset.test, labels=dataset.test.labels % 2))
    done = hand_over(make_logits(activation, 1), tmp_path, dataset, answers=kind)
    assert done.probabilities.shape == (12, 2)


@pytest.mark.slow
def test_a_deep_net_of_sure_answers_is_written_with_its_difference_stated(tmp_path: Path) -> None:
    """A MobileNetV2 as it is after training: its norms know the images, and float32 rounds through 150 layers."""
    coarse = np.random.default_rng(5).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
    images = coarse.repeat(16, axis=1).repeat(16, axis=2)
    net = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3), classes=5)
    pixels = keras.Input((96, 96, 3), dtype="uint8")
    model = keras.Model(pixels, net(keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)), name="deep")
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)
    kernel, bias = net.layers[-1].get_weights()
    net.layers[-1].set_weights([kernel * 20, bias])
    dataset = Dataset.of_test("mine", images, np.arange(40) % 5, {"en": tuple("abcde")})
    done = hand_over(model, tmp_path, dataset)
    stated = done.spec.recipe["parity"]
    assert stated["largest_difference"] == done.parity.largest_difference <= stated["limit"]
    assert (stated["changed_classes"], stated["image_count"]) == (0, 40)
    _, read = read_model_file(done.path)
    assert read.recipe["parity"] == stated


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda part: replace(part, images=part.images.repeat(2, axis=3)[..., :4]), "wanted images of 1 .grey. or 3"),
        (lambda part: replace(part, images=part.images / np.float32(255)), "wanted images uint8 .* got float32"),
        (lambda part: part.take(np.arange(0)), "wanted at least one test image"),
        (lambda part: replace(part, labels=part.labels[:3]), r"12 images and labels of shape \[3\]"),
    ],
    ids=["four channels", "float images", "no images", "too few labels"],
)
def test_a_dataset_that_cannot_be_used_is_refused_with_a_sentence(change, sentence: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    dataset = draw_dataset()
    with pytest.raises(ModelFileError, match=sentence):
        hand_over(make_logits("softmax"), tmp_path, replace(dataset, test=change(dataset.test)))


def test_a_name_that_no_shell_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="starting with a letter or a digit; got 'my model'"):
        hand_over(make_logits("softmax", name="my model"), tmp_path)


def test_labels_in_lists_are_taken(tmp_path: Path) -> None:
    dataset = draw_dataset()
    part = Part(dataset.test.images, list(dataset.test.labels), dataset.test.places)  # type: ignore[arg-type]
    done = hand_over(make_logits("softmax"), tmp_path, replace(dataset, test=part, labels={"en": ["a", "b", "c"]}))  # type: ignore[dict-item]
    assert done.spec.labels == NAMES
