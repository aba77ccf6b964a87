"""`train.nets.fused_layers`: values and gradients are those of the formulas, and only training is fused."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from train.nets.fused_layers import Dropout, Gelu, Norm, draw_words, gelu, is_suitable, slope_of_gelu

EPSILON = 1e-5


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU, the layers are not fused."""
    monkeypatch.setattr("train.nets.fused_layers.find_gpu_capability", lambda: None)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def train(layer: keras.Layer, values: np.ndarray, targets: np.ndarray) -> tuple[list[np.ndarray], float]:
    """Train a dense layer and `layer` for a step: the weights after it, and the loss before it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(values.shape[1:])
    model = keras.Model(inputs, layer(layers.Dense(targets.shape[-1])(inputs)))
    model.compile(optimizer=keras.optimizers.SGD(5.0), loss="mse")
    loss = float(model.train_on_batch(values, targets))
    return [np.asarray(array, np.float32) for array in model.get_weights()], loss


class Formula(layers.Layer):
    """GELU as a formula, which TensorFlow differentiates."""

    def call(self, values: object) -> object:
        """Values float [...] -> the same shape."""
        return gelu(values)


def test_the_slope_of_gelu_is_its_difference_quotient() -> None:
    values, step = np.linspace(-6, 6, 97), 1e-6
    quotient = (np.asarray(gelu(values + step)) - np.asarray(gelu(values - step))) / (2 * step)
    np.testing.assert_allclose(slope_of_gelu(values), quotient, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3, 3, 5), (7, 2)])
def test_a_step_through_gelu_equals_a_step_through_its_formula(shape: tuple[int, ...]) -> None:
    values, targets = draw(*shape), draw(*shape[:-1], 6)
    (expected, expected_loss), (got, loss) = (train(layer, values, targets) for layer in (Formula(), Gelu()))
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for wanted, found in zip(expected, got, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3, 4, 6), (40, 6), (8, 5, 6)])
@pytest.mark.parametrize(("trainable", "scale"), [(True, False), (False, False), (True, True)])
def test_a_step_through_the_norm_equals_a_step_through_keras_own(
    shape: tuple[int, ...], trainable: bool, scale: bool
) -> None:
    values, targets = draw(*shape), draw(*shape[:-1], 8)
    settings = {"momentum": 0.8, "epsilon": EPSILON, "scale": scale, "trainable": trainable}
    kinds = (layers.BatchNormalization, Norm)
    (expected, expected_loss), (got, loss) = (train(kind(**settings), values, targets) for kind in kinds)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert [array.shape for array in got] == [array.shape for array in expected]
    for wanted, found in zip(expected, got, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    is_moved = any(np.abs(moments - start).max() > 1e-3 for moments, start in zip(got[-2:], (0, 1), strict=True))
    assert is_moved == trainable


@pytest.mark.parametrize(("kind", "settings"), [(Gelu, {}), (Norm, {"scale": False})])
def test_in_bfloat16_the_results_are_those_of_float32_rounded(
    kind: type[keras.Layer], settings: dict[str, bool]
) -> None:
    values = ops.cast(draw(64, 3, 3, 8), "bfloat16")
    got = kind(**settings, dtype="mixed_bfloat16")(values, training=True)
    expected = kind(**settings)(ops.cast(values, "float32"), training=True)
    assert keras.backend.standardize_dtype(got.dtype) == "bfloat16"
    np.testing.assert_allclose(ops.cast(got, "float32"), expected, rtol=2**-8, atol=2**-12)


def drop(rate: float, values: object, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """The result of dropout, and the gradient of its sum."""
    import tensorflow as tf  # has no types

    layer = Dropout(rate, seed=3, dtype=dtype)
    with tf.GradientTape() as tape:
        tape.watch(values)
        results = layer(values, training=True)
    slopes = tape.gradient(results, values)
    return np.asarray(ops.cast(results, "float32")), np.asarray(ops.cast(slopes, "float32"))


@pytest.mark.parametrize("rate", [0.15, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(500, 101), (3, 11, 7, 131)])  # also an odd number of values
def test_dropout_zeroes_its_share_of_the_values_and_scales_the_others(rate: float, shape: tuple[int, ...]) -> None:
    results, slopes = drop(rate, ops.convert_to_tensor(np.full(shape, 2, np.float32)))
    assert np.mean(results == 0) == pytest.approx(rate, abs=5 * (rate * (1 - rate) / results.size) ** 0.5)
    np.testing.assert_allclose(results[results != 0], 2 / (1 - rate), rtol=1e-4)
    np.testing.assert_allclose(slopes, results / 2)  # 0 for dropped values, the scale for the others


def test_dropout_in_bfloat16_is_that_of_float32_rounded() -> None:
    values = ops.convert_to_tensor(draw(64, 3, 3, 8))
    expected, _ = drop(0.3, values)
    got, _ = drop(0.3, ops.cast(values, "bfloat16"), "mixed_bfloat16")
    np.testing.assert_allclose(got, expected, rtol=2**-7, atol=2**-12)


def test_dropout_differs_from_call_to_call_and_repeats_for_a_seed() -> None:
    values = ops.ones((40, 40))
    one, same = (Dropout(0.5, seed=5) for _ in range(2))
    first, second = one(values, training=True), one(values, training=True)
    np.testing.assert_array_equal(first, same(values, training=True))
    assert 0.4 < np.mean(np.asarray(first) != np.asarray(second)) < 0.6


@pytest.mark.parametrize(("word", "high_bits"), [("uint8", 0), ("uint16", 8)])
def test_the_random_words_of_dropout_are_uniform_and_independent(word: str, high_bits: int) -> None:
    words = np.asarray(draw_words((1 << 20,), np.array([1, 2], np.int32), word)).astype(np.int64)
    counts = np.bincount(words >> high_bits, minlength=256)
    assert len(counts) == 256
    assert abs(counts - 4096).max() < 6 * 4096**0.5
    for step in range(1, 5):
        assert abs(np.corrcoef(words[:-step], words[step:])[0, 1]) < 0.006


def test_a_rate_of_0_or_of_1_drops_nothing_or_all() -> None:
    values = ops.ones((5, 5))
    np.testing.assert_array_equal(Dropout(0.0)(values, training=True), values)
    np.testing.assert_array_equal(Dropout(1.0)(values, training=True), ops.zeros_like(values))


def test_outside_training_all_layers_are_bitwise_the_formulas() -> None:
    values = draw(6, 3, 3, 4)
    norm, own = Norm(scale=False), layers.BatchNormalization(scale=False)
    np.testing.assert_array_equal(norm(values), own(values))
    np.testing.assert_array_equal(Gelu()(values), gelu(values))
    np.testing.assert_array_equal(Dropout(0.5)(values), values)


def test_a_gpu_trains_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_suitable() == (keras.backend.backend() == "tensorflow")
    monkeypatch.setattr("train.nets.fused_layers.find_gpu_capability", lambda: (8, 0))
    assert not is_suitable()
