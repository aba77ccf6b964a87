"""`train.nets.winograd`: values and gradients are those of Keras' convolution, and only training uses it."""

import keras
import numpy as np
import pytest
from keras import layers

from train.nets.winograd import LEAST_WORK, WinogradConv2D, convolve

CHANNELS, FILTERS = 128, 128


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU, the algorithm is not used."""
    monkeypatch.setattr("train.nets.winograd.find_gpu_capability", lambda: None)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def convolve_plainly(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The convolution by its definition, in float64."""
    padded = np.pad(values.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # [N, H, W, C, 3, 3]
    return np.einsum("nhwcpq,pqcf->nhwf", windows, kernel)


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 7, 8, 15])
@pytest.mark.parametrize("width", [1, 4, 6, 9])
def test_the_results_are_those_of_the_definition_at_every_size(height: int, width: int) -> None:
    values, kernel = draw(3, height, width, 5), draw(3, 3, 5, 7)
    np.testing.assert_allclose(convolve(values, kernel), convolve_plainly(values, kernel), atol=2e-4)


@pytest.mark.parametrize("count", [1, 2, 11])
def test_images_of_a_batch_do_not_mix(count: int) -> None:
    values, kernel = draw(count, 6, 6, 4), draw(3, 3, 4, 4)
    alone = np.concatenate([np.asarray(convolve(each[None], kernel)) for each in values])
    # A batch may sum in another order than one image: on AVX2 the last bits differ. Images that mix differ by ones.
    np.testing.assert_allclose(convolve(values, kernel), alone, atol=5e-5)


@pytest.mark.parametrize(("height", "width"), [(15, 15), (7, 9), (3, 3)])
def test_in_bfloat16_the_results_are_within_5_percent(height: int, width: int) -> None:
    values, kernel = draw(4, height, width, 32), draw(3, 3, 32, 16)
    got = convolve(keras.ops.cast(values, "bfloat16"), keras.ops.cast(kernel, "bfloat16"))
    expected = convolve_plainly(values, kernel)
    error = np.asarray(keras.ops.cast(got, "float32")) - expected
    assert keras.backend.standardize_dtype(got.dtype) == "bfloat16"
    assert 1e-4 < np.sqrt(np.mean(error**2) / np.mean(expected**2)) < 0.05


def test_a_bfloat16_step_moves_the_kernel_as_a_float32_step() -> None:
    values, targets = draw(6, 7, 5, CHANNELS), draw(6, FILTERS)
    moved = []
    for policy in ("float32", "mixed_bfloat16"):
        model = make_model(WinogradConv2D, dtype=policy)
        before = model.get_weights()[0].copy()
        model.train_on_batch(values, targets)
        moved.append((model.get_weights()[0] - before).ravel())
    assert np.dot(*moved) / np.prod([np.linalg.norm(each) for each in moved]) > 0.98
    assert not np.array_equal(*moved)


def make_model(kind: type[layers.Conv2D], **settings: object) -> keras.Model:
    """A convolution and a mean, whose weights depend only on the seed."""
    keras.utils.set_random_seed(0)
    values = keras.Input((7, 5, CHANNELS))
    convolution = kind(FILTERS, 3, padding="same", activation="relu", **settings)
    model = keras.Model(values, layers.GlobalAveragePooling2D()(convolution(values)))
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse")
    return model


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_training_step_equals_keras_own(use_bias: bool) -> None:
    values, targets = draw(6, 7, 5, CHANNELS), draw(6, FILTERS)
    own, ours = make_model(layers.Conv2D, use_bias=use_bias), make_model(WinogradConv2D, use_bias=use_bias)
    before = [array.copy() for array in own.get_weights()]
    losses = [float(model.train_on_batch(values, targets)) for model in (own, ours)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for old, expected, got in zip(before, own.get_weights(), ours.get_weights(), strict=True):
        assert np.abs(expected - old).max() > 1e-3
        np.testing.assert_allclose(got - old, expected - old, atol=1e-5)
    assert not np.array_equal(own.get_weights()[0], ours.get_weights()[0]), "bitwise equal: not the algorithm"


def test_gradients_pass_through_a_convolution() -> None:
    """The kernel of the first of two convolutions moves by the gradient of the second."""
    values, targets = draw(4, 6, 6, CHANNELS), draw(4, FILTERS)
    moved = []
    for kind in (layers.Conv2D, WinogradConv2D):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6, 6, CHANNELS))
        first = kind(FILTERS, 3, padding="same")(inputs)
        model = keras.Model(inputs, layers.GlobalMaxPooling2D()(kind(FILTERS, 3, padding="same")(first)))
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
        before = model.get_weights()[0].copy()
        model.train_on_batch(values, targets)
        moved.append(model.get_weights()[0] - before)
    assert np.abs(moved[0]).max() > 1e-4
    np.testing.assert_allclose(moved[1], moved[0], atol=1e-5)
    assert not np.array_equal(*moved), "bitwise equal: not the algorithm"


def test_outside_training_it_is_bitwise_keras_own() -> None:
    values = draw(6, 7, 5, CHANNELS)
    own, ours = make_model(layers.Conv2D), make_model(WinogradConv2D)
    np.testing.assert_array_equal(own.predict_on_batch(values), ours.predict_on_batch(values))


@pytest.mark.parametrize(
    ("channels", "settings"),
    [
        (CHANNELS, {"kernel_size": 5}),
        (CHANNELS, {"padding": "valid"}),
        (CHANNELS, {"strides": 2}),
        (CHANNELS, {"dilation_rate": 2}),
        (2 * CHANNELS, {"groups": 2}),
        (CHANNELS, {"data_format": "channels_first"}),
        (CHANNELS, {"dtype": "mixed_float16"}),
        (LEAST_WORK // FILTERS - 1, {}),
    ],
)
def test_any_other_convolution_trains_as_keras_own(channels: int, settings: dict[str, object]) -> None:
    layer = WinogradConv2D(**{"filters": FILTERS, "kernel_size": 3, "padding": "same"} | settings)
    layer.build((None, channels, 8, 8) if "data_format" in settings else (None, 8, 8, channels))
    assert not layer.is_suitable()


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_wide_convolution_is_suitable_without_a_gpu(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = WinogradConv2D(FILTERS, 3, padding="same", dtype=policy)
    layer.build((None, 8, 8, LEAST_WORK // FILTERS))
    assert layer.is_suitable()
    monkeypatch.setattr("train.nets.winograd.find_gpu_capability", lambda: (8, 0))
    assert not layer.is_suitable()
