"""Keras models of every kind, converted, served and asked: the server gives their own probabilities."""

from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from serve.model_file.spec import self_test_images
from tests.train.export.foreign.asked import COUNT, Answers, Ask, Images, draw, softmax
from train.commands.converting.command import SYNTHETIC_COUNT, SYNTHETIC_SEED

pytestmark = pytest.mark.slow
SHAPE = (32, 32, 3)
SURE = keras.initializers.RandomNormal(stddev=4.0, seed=1)
"""Weights of a last layer, large enough for answers that differ."""
FROM_0_TO_1 = ["--scale", "1/255"]
SURE_SPREAD = 15
"""Between the highest and the lowest logit of an image, when answers are sure."""


@pytest.fixture(autouse=True)
def float32_stays() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")


def classify(values: object, classes: int = 4, activation: str | None = "softmax") -> object:
    """A small net with its last layer."""
    values = layers.Conv2D(16, 3, strides=2, activation="relu")(values)
    values = layers.BatchNormalization()(values)
    values = layers.GlobalAveragePooling2D()(layers.Conv2D(32, 3, activation="gelu")(values))
    return layers.Activation(activation, dtype="float32")(layers.Dense(classes, kernel_initializer=SURE)(values))


def save(model: keras.Model, folder: Path, suffix: str = ".keras") -> Path:
    path = folder / f"model{suffix}"
    model.save(path)
    return path


def answer(model: keras.Model, pixels: object) -> Answers:
    return np.asarray(model(pixels, training=False), np.float64)


class Subclassed(keras.Model):
    """A model that Keras cannot load from a file without its code."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [layers.Rescaling(1 / 255), layers.Conv2D(8, 3), layers.GlobalMaxPooling2D()]
        self.last = layers.Dense(4, activation="softmax", kernel_initializer=SURE)

    def call(self, images: object) -> object:
        """Images -> probabilities."""
        for part in self.parts:
            images = part(images)
        return self.last(images)


def test_a_sequential_model_that_scales_bytes_itself(ask: Ask, tmp_path: Path) -> None:
    parts = [layers.Rescaling(1 / 127.5, offset=-1), layers.Conv2D(8, 3), layers.GlobalAveragePooling2D()]
    last = layers.Dense(4, activation="softmax", kernel_initializer=SURE)
    model, images = keras.Sequential([keras.Input(SHAPE), *parts, last]), draw(SHAPE)
    spec = ask(save(model, tmp_path), images, answer(model, images))
    assert "pixels from 0 to 255, which the model takes as they are" in spec.recipe["conversion"]


def test_a_functional_model_whose_range_is_said(ask: Ask, refuse: Callable[..., str], tmp_path: Path) -> None:
    inputs = keras.Input(SHAPE)
    model, images = keras.Model(inputs, classify(inputs)), draw(SHAPE)
    path = save(model, tmp_path)
    assert "wanted --scale, and --mean and --std where there are any" in refuse(path, 4)
    ask(path, images, answer(model, images / np.float32(255)), *FROM_0_TO_1)


def test_a_subclassed_model_by_its_saved_model(ask: Ask, refuse: Callable[..., str], tmp_path: Path) -> None:
    model, images = Subclassed(), draw(SHAPE)
    expected = answer(model, images)
    assert 'write a SavedModel folder with model.export("folder")' in refuse(save(model, tmp_path), 4)
    model.export(tmp_path / "saved", input_signature=[tf.TensorSpec((None, *SHAPE), tf.uint8)], verbose=False)
    spec = ask(tmp_path / "saved", images, expected)
    assert spec.recipe["conversion"][0] == "a SavedModel, signature serving_default"


def test_normalization_and_augmentation_inside_of_a_model(ask: Ask, tmp_path: Path) -> None:
    inputs = keras.Input(SHAPE, dtype="uint8")
    values = layers.RandomFlip()(layers.RandomRotation(0.1)(layers.RandomZoom(0.1)(inputs)))
    values = layers.Normalization(mean=[120.0, 115.0, 100.0], variance=[3600.0] * 3)(values)
    model, images = keras.Model(inputs, classify(layers.Dropout(0.3)(values))), draw(SHAPE)
    ask(save(model, tmp_path), images, answer(model, images))


def test_logits_get_a_softmax(ask: Ask, tmp_path: Path) -> None:
    inputs = keras.Input(SHAPE)
    model, images = keras.Model(inputs, classify(layers.Rescaling(1 / 255)(inputs), activation="linear")), draw(SHAPE)
    spec = ask(save(model, tmp_path), images, softmax(answer(model, images)))
    assert spec.recipe["answers"] == "logits"


@pytest.mark.parametrize(("activation", "kind"), [("sigmoid", "sigmoid"), ("linear", "logit")])
def test_one_output_becomes_two_classes(activation: str, kind: str, ask: Ask, tmp_path: Path) -> None:
    inputs = keras.Input(SHAPE)
    values = classify(layers.Rescaling(1 / 255)(inputs), 1, activation)
    model, images = keras.Model(inputs, values), draw(SHAPE)
    found = answer(model, images)
    share = found if kind == "sigmoid" else 1 / (1 + np.exp(-found))
    spec = ask(save(model, tmp_path), images, np.concatenate([1 - share, share], axis=1))
    assert spec.recipe["answers"] == kind


def test_several_sigmoids_are_refused_unless_their_share_is_asked_for(
    ask: Ask, refuse: Callable[..., str], tmp_path: Path
) -> None:
    inputs = keras.Input(SHAPE)
    values = classify(layers.Rescaling(1 / 255)(inputs), activation="sigmoid")
    model, images = keras.Model(inputs, values), draw(SHAPE)
    path = save(model, tmp_path)
    assert "the outputs are 4 sigmoids" in refuse(path, 4)
    found = answer(model, images)
    ask(path, images, found / found.sum(axis=1, keepdims=True), "--answers", "sigmoids")


def test_two_heads_are_refused_unless_one_is_chosen(ask: Ask, refuse: Callable[..., str], tmp_path: Path) -> None:
    inputs = keras.Input(SHAPE)
    values = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(inputs))
    heads = [
        layers.Dense(count, activation="softmax", name=name, kernel_initializer=SURE)(values)
        for name, count in (("kind", 4), ("maker", 7))
    ]
    model, images = keras.Model(inputs, heads), draw(SHAPE)
    path = save(model, tmp_path)
    sentence = (
        "wanted one output of classes, found 2; choose with --output: kind float32 [N, 4] or maker float32 [N, 7]"
    )
    assert sentence in refuse(path, 4)
    ask(path, images, np.asarray(model(images)[0], np.float64), "--output", "kind")


def test_a_model_of_mixed_precision_computes_in_float32(ask: Ask, tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    inputs = keras.Input(SHAPE, dtype="uint8")
    mixed = keras.Model(inputs, classify(layers.Rescaling(1 / 255)(inputs)))
    keras.config.set_dtype_policy("float32")
    plain = keras.Input(SHAPE, dtype="uint8")
    twin = keras.Model(plain, classify(layers.Rescaling(1 / 255)(plain)))
    twin.set_weights(mixed.get_weights())
    spec = ask(save(mixed, tmp_path), draw(SHAPE), answer(twin, draw(SHAPE)))
    assert "computed in float32, in training mixed_bfloat16" in spec.recipe["conversion"]


def test_a_model_of_channels_first(ask: Ask, tmp_path: Path) -> None:
    keras.config.set_image_data_format("channels_first")
    inputs = keras.Input((3, 32, 32))
    values = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(inputs)))
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", kernel_initializer=SURE)(values))
    images = draw(SHAPE)
    compiled = tf.function(model, jit_compile=True)  # TensorFlow has no other convolution of channels first on a CPU
    expected = np.asarray(compiled(images.transpose(0, 3, 1, 2) / np.float32(255)), np.float64)
    spec = ask(save(model, tmp_path), images, expected, *FROM_0_TO_1)
    assert "input float32 [N, 3, 32, 32]: 32 x 32 RGB, channels first" in spec.recipe["conversion"]


def test_a_fixed_batch_of_a_keras_model_is_made_free(ask: Ask, tmp_path: Path) -> None:
    inputs = keras.Input(batch_shape=(4, *SHAPE))
    values = layers.Flatten()(layers.Conv2D(4, 5, strides=3)(layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", kernel_initializer=SURE)(values))
    images = draw(SHAPE, 8)
    expected = np.concatenate([answer(model, images[start : start + 4]) for start in (0, 4)])
    spec = ask(save(model, tmp_path), images, expected)
    assert "the batch, fixed at 4, was made free" in spec.recipe["conversion"]


def sharpen(net: keras.Model, prepared: object) -> None:
    """Let norms know the images and answers be sure, as after a training."""
    for layer in net.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    net(prepared, training=True)
    spread = float(np.ptp(np.log(np.asarray(net(prepared))), axis=1)[:COUNT].max())
    kernel, bias = net.layers[-1].get_weights()
    net.layers[-1].set_weights([kernel * (SURE_SPREAD / spread), bias])


@pytest.mark.parametrize(
    ("name", "flags", "prepare"),
    [
        ("EfficientNetB0", [], lambda images: images),
        ("MobileNetV2", ["--scale", "1/127.5", "--mean", "1"], lambda images: images / np.float32(127.5) - 1),
        (
            "ResNet50",
            ["--colour", "bgr", "--mean", "103.939,116.779,123.68"],
            lambda images: images[..., ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32),
        ),
    ],
)
def test_an_application_of_keras(
    name: str, flags: list[str], prepare: Callable[[Images], Images], ask: Ask, tmp_path: Path
) -> None:
    """Without trained weights; 50 to 240 layers, a thousand classes."""
    shape = (96, 96, 3)
    net = getattr(keras.applications, name)(weights=None, input_shape=shape, classes=1000)
    images = draw(shape)
    sharpen(net, prepare(np.concatenate([images, self_test_images(SYNTHETIC_SEED, SYNTHETIC_COUNT, shape)])))
    spec = ask(save(net, tmp_path), images, answer(net, prepare(images)), *flags)
    assert spec.class_count == 1000


def test_a_file_of_keras_2(ask: Ask, tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras", reason="needs Keras 2, of the extra [test-convert]")
    old = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([
        old.Rescaling(1 / 255, input_shape=SHAPE), old.Conv2D(8, 3, activation="relu"), old.BatchNormalization(),
        old.DepthwiseConv2D(3), old.MaxPooling2D(), old.Dropout(0.2), old.Flatten(),
        old.Dense(4, activation="softmax"),
    ])  # fmt: skip
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * 5, bias])
    with pytest.warns(UserWarning, match="saving your model as an HDF5 file"):
        model.save(tmp_path / "old.h5")
    images = draw(SHAPE)
    spec = ask(tmp_path / "old.h5", images, np.asarray(model(images), np.float64))
    assert "a Keras model in a .h5 file of Keras 2" in spec.recipe["conversion"][0]


def test_a_file_of_keras_3_in_the_old_format_under_any_name(ask: Ask, tmp_path: Path) -> None:
    inputs = keras.Input(SHAPE)
    model, images = keras.Model(inputs, classify(layers.Rescaling(1 / 255)(inputs))), draw(SHAPE)
    path = save(model, tmp_path, ".h5").rename(tmp_path / "weights-final.bin")
    ask(path, images, answer(model, images))


def test_a_saved_model_of_a_function(ask: Ask, tmp_path: Path) -> None:
    """TensorFlow without Keras: a module with a signature, grey images without an axis of channels."""
    module = tf.Module()
    module.weights = tf.Variable(np.random.default_rng(0).normal(0, 0.4, (28 * 28, 3)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 28, 28), tf.float32, name="picture")])
    def serve(picture):  # type: ignore[no-untyped-def]
        return {"scores": tf.reshape(picture, (-1, 28 * 28)) @ module.weights}

    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=serve)
    images = draw((28, 28, 1))
    logits = (images.reshape(-1, 28 * 28) / 255) @ module.weights.numpy()
    ask(tmp_path / "saved", images, softmax(logits), *FROM_0_TO_1)
