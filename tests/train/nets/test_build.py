"""`train.nets.build`: the nets that the notebooks state, and the interface of every model."""

from pathlib import Path

import keras
import numpy as np
import pytest

from train.evaluation.calibration import Calibration
from train.nets.build import (
    ReluPool,
    build,
    build_float32,
    centre_layer,
    complete,
    find_whitening,
    predict_logits,
    prepare_first_layer,
    take_logits,
)
from train.recipes.net import Conv, Flatten, GlobalAverage, GlobalMax, NormConv, Pool, Residual, Whitening
from train.recipes.shipped import RECIPES

SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


def make(name: str, policy: str = "float32") -> keras.Model:
    recipe = RECIPES[name]
    return build(recipe.net, SHAPES[recipe.dataset], 10, policy, name)


@pytest.fixture(params=list(RECIPES))
def model(request: pytest.FixtureRequest) -> keras.Model:
    keras.utils.set_random_seed(0)
    return make(request.param)


@pytest.fixture
def images(model: keras.Model) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, *model.input_shape[1:]), np.uint8)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mnist-mlp", (784 + 1) * 512 + (512 + 1) * 10),
        ("mnist-cnn", (9 + 1) * 32 + (13 * 13 * 32 + 1) * 128 + (128 + 1) * 10),
        ("cifar10-mlp", (3072 + 1) * 128 + (128 + 1) * 64 + (64 + 1) * 32 + (32 + 1) * 10),
        (
            "cifar10-cnn",
            (27 + 1) * 16 + (9 * 16 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128
            + (8 * 8 * 128 + 1) * 512 + (512 + 1) * 10,
        ),
    ],
)  # fmt: skip
def test_a_net_has_the_parameters_of_its_layers_counted_by_hand(name: str, count: int) -> None:
    assert make(name).count_params() == count


@pytest.mark.parametrize(
    ("name", "rates"),
    [("mnist-mlp", []), ("mnist-cnn", [0.25, 0.5]), ("cifar10-mlp", []), ("cifar10-cnn", [0.25, 0.25, 0.5])],
)
def test_dropout_is_as_stated(name: str, rates: list[float]) -> None:
    layers = make(name).layers
    assert [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)] == rates


def test_a_model_takes_uint8_and_scales_it_first(model: keras.Model) -> None:
    assert (model.inputs[0].dtype, model.inputs[0].name) == ("uint8", "images")
    scaling = model.layers[1]
    np.testing.assert_allclose(scaling(np.array([[0, 51, 255]], np.uint8)), [[0, 0.2, 1]], rtol=1e-6)


def test_answers_are_float32_probabilities(model: keras.Model, images: np.ndarray) -> None:
    probabilities = np.asarray(model(images))
    assert (probabilities.shape, probabilities.dtype) == ((5, 10), np.float32)
    assert probabilities.min() > 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_logits_share_the_weights_and_come_before_the_softmax(model: keras.Model, images: np.ndarray) -> None:
    logits = take_logits(model)
    model.get_layer("logits").bias.assign(100 * np.arange(10))
    np.testing.assert_allclose(keras.ops.softmax(logits(images)), model(images), rtol=1e-6)
    assert np.asarray(logits(images)).argmax(axis=1).tolist() == [9] * 5


def test_the_float32_copy_of_a_mixed_model_has_its_weights() -> None:
    mixed = make("cifar10-mlp", "mixed_bfloat16")
    twin = build_float32(mixed, RECIPES["cifar10-mlp"].net)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    assert mixed.layers[3].compute_dtype == "bfloat16"
    assert {layer.compute_dtype for layer in twin.layers} == {"float32"}
    for weight, expected in zip(twin.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert np.asarray(mixed(images)).dtype == np.float32
    np.testing.assert_allclose(twin(images), mixed(images), atol=0.02)


@pytest.mark.parametrize("name", ["cifar10-mlp", "cifar10-cnn"])
def test_a_centred_first_layer_gives_0_for_the_mean_colour(name: str) -> None:
    model = make(name)
    first = next(layer for layer in model.layers if layer.weights)
    centre_layer(first, np.array([51, 102, 204]) / 255)
    first.activation = keras.activations.linear
    until_first = keras.Model(model.input, first.output)
    plain = np.full((1, 32, 32, 3), (51, 102, 204), np.uint8)
    inside = (
        np.asarray(until_first(plain)).reshape(-1, 128) if name == "cifar10-mlp" else until_first(plain)[:, 1:-1, 1:-1]
    )
    np.testing.assert_allclose(inside, np.zeros_like(inside), atol=1e-5)
    assert np.abs(np.asarray(until_first(255 - plain))).max() > 0.1


def test_building_leaves_the_dtype_policy_as_it_was() -> None:
    make("mnist-mlp", "mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"


NORMED = (Whitening(), NormConv(32, pooled=True), Residual(32), NormConv(32), GlobalMax())


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """300 smooth images of 16 x 16: adjacent pixels are similar, as in photographs."""
    noise = np.random.default_rng(1).normal(size=(300, 16, 16, 3))
    smooth = noise.cumsum(axis=1).cumsum(axis=2)
    return (128 + 30 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


@pytest.fixture
def normed(photos: np.ndarray) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = build(NORMED, (16, 16, 3), 5)
    prepare_first_layer(model, photos)
    return model


def test_whitened_patches_are_uncorrelated_with_variance_1(photos: np.ndarray) -> None:
    kernels = find_whitening(photos, 2)
    patches = np.lib.stride_tricks.sliding_window_view(photos / 255, (2, 2), axis=(1, 2))
    whitened = np.einsum("nhwcij,ijcf->nhwf", patches, kernels).reshape(-1, 24)
    half = np.cov(whitened[:, :12], rowvar=False)
    np.testing.assert_allclose(half[6:, 6:], np.eye(6), atol=0.05)  # the floor keeps smaller variances small
    assert np.abs(half - np.diag(half.diagonal())).max() < 0.02
    np.testing.assert_allclose(whitened[:, 12:], -whitened[:, :12])


def test_whitening_is_never_trained(normed: keras.Model) -> None:
    assert not [variable.path for variable in normed.trainable_variables if "whitening" in variable.path]


def test_a_residual_adds_what_enters_to_what_its_convolutions_make(normed: keras.Model) -> None:
    """Convolutions with kernels of 0 give the shift of the norm, which starts at 0."""
    convs = [layer for layer in normed.layers if isinstance(layer, keras.layers.Conv2D)]
    add = next(layer for layer in normed.layers if isinstance(layer, keras.layers.Add))
    for conv in convs[2:4]:
        conv.kernel.assign(keras.ops.zeros_like(conv.kernel))
    random = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    entering, leaving = keras.Model(normed.input, [add.input[0], add.output])(random)
    np.testing.assert_allclose(leaving, entering, atol=1e-6)
    assert np.abs(np.asarray(entering)).max() > 0.1


def test_a_first_layer_without_biases_is_not_changed(photos: np.ndarray) -> None:
    model = build((NormConv(4), Flatten()), (16, 16, 3), 5)
    before = model.get_weights()
    prepare_first_layer(model, photos)
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_normed_convolution_starts_as_the_identity() -> None:
    kernel = np.asarray(build((NormConv(8), Flatten()), (16, 16, 3), 5).layers[2].kernel)
    through = np.zeros((3, 3, 3, 3))
    through[1, 1] = np.eye(3)
    np.testing.assert_array_equal(kernel[..., :3], through)
    assert np.unique(kernel[..., 3:]).size > 100


def test_global_average_and_max_leave_a_number_a_channel() -> None:
    for part in (GlobalAverage(), GlobalMax()):
        assert take_logits(build((Conv(6), part), (16, 16, 3), 5)).layers[-1].kernel.shape == (6, 5)


def test_a_mirrored_model_answers_an_image_and_its_mirror_image_alike(normed: keras.Model, photos: np.ndarray) -> None:
    both = complete(normed, mirrors=True)
    answers = np.asarray(both(photos[:7]))
    assert answers.shape == (7, 5)
    np.testing.assert_allclose(answers, both(photos[:7, :, ::-1]), atol=1e-6)
    assert np.abs(answers - np.asarray(normed(photos[:7]))).max() > 1e-4
    assert (both.name, both.count_params()) == (normed.name, normed.count_params())


def test_a_model_with_nothing_to_add_is_complete(normed: keras.Model) -> None:
    assert complete(normed) is normed


def test_mirrored_logits_are_those_of_the_mirrored_model(normed: keras.Model, photos: np.ndarray) -> None:
    logits = predict_logits(normed, photos[:7], mirrors=True)
    np.testing.assert_allclose(keras.ops.softmax(logits), complete(normed, mirrors=True)(photos[:7]), atol=1e-6)


def test_a_normed_model_can_be_saved_and_loaded(normed: keras.Model, photos: np.ndarray, tmp_path: Path) -> None:
    whole = complete(normed, mirrors=True, calibration=Calibration(0.7, 0.1, 0.01, smoothing=0.2))
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(photos[:5]), whole(photos[:5]), atol=1e-6)


def test_a_pool_includes_the_relu_of_the_convolution_before_it() -> None:
    model = build((Conv(4), Conv(5), Pool(), Conv(6), Flatten()), (8, 8, 3), 2)
    given = {layer.name: layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
    assert [layer.activation.__name__ for layer in given.values()] == ["relu", "linear", "relu"]
    assert [type(layer) for layer in model.layers].count(ReluPool) == 1


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_relu_after_the_pool_trains_as_relu_before_it(policy: str) -> None:
    """Bitwise, because ReLU keeps the order: the same value of a square gets the gradient, or none does."""
    values = np.random.default_rng(0).normal(size=(6, 7, 9, 4)).astype(np.float32)
    weights: list[list[np.ndarray]] = []
    for behind in (keras.Sequential([keras.layers.ReLU(), keras.layers.MaxPooling2D()]), ReluPool()):
        keras.utils.set_random_seed(0)
        inputs = keras.Input(values.shape[1:])
        model = keras.Model(inputs, behind(keras.layers.Conv2D(5, 3, dtype=policy)(inputs)))
        model.compile(optimizer=keras.optimizers.SGD(3.0), loss="mse")
        model.train_on_batch(values, np.ones((6, *model.output_shape[1:])))
        assert (np.asarray(keras.ops.cast(model(values), "float32")) >= 0).all()
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
