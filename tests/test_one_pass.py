"""`train.one_pass`: GELU and the norm are what the formulas give, forwards and backwards, and only where they train."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from train.one_pass import Gelu, Norm, gelu, is_suitable, slope_of_gelu

EPSILON = 1e-5


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one, the formulas are trained as they are."""
    monkeypatch.setattr("train.one_pass.find_gpu_capability", lambda: None)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def train(layer: keras.Layer, values: np.ndarray, targets: np.ndarray) -> tuple[list[np.ndarray], float]:
    """One step of a dense layer with `layer` behind it: the weights it leaves, and the loss before it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(values.shape[1:])
    model = keras.Model(inputs, layer(layers.Dense(targets.shape[-1])(inputs)))
    model.compile(optimizer=keras.optimizers.SGD(5.0), loss="mse")
    loss = float(model.train_on_batch(values, targets))
    return [np.asarray(array, np.float32) for array in model.get_weights()], loss


class Formula(layers.Layer):
    """GELU as it is written, which TensorFlow differentiates by itself."""

    def call(self, values: object) -> object:
        """Float [...] -> the same shape."""
        return gelu(values)


def test_the_slope_of_gelu_is_its_difference_quotient() -> None:
    values, step = np.linspace(-6, 6, 97), 1e-6
    quotient = (np.asarray(gelu(values + step)) - np.asarray(gelu(values - step))) / (2 * step)
    np.testing.assert_allclose(slope_of_gelu(values), quotient, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3, 3, 5), (7, 2)])
def test_a_step_through_gelu_moves_weights_as_one_through_its_formula(shape: tuple[int, ...]) -> None:
    values, targets = draw(*shape), draw(*shape[:-1], 6)
    (expected, expected_loss), (got, loss) = (train(layer, values, targets) for layer in (Formula(), Gelu()))
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for wanted, found in zip(expected, got, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3, 4, 6), (40, 6), (8, 5, 6)])
@pytest.mark.parametrize(("trainable", "scale"), [(True, False), (False, False), (True, True)])
def test_a_step_through_the_norm_moves_weights_and_moments_as_keras_own_does(
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


def test_outside_training_both_are_the_formulas_to_the_last_bit() -> None:
    values = draw(6, 3, 3, 4)
    norm, own = Norm(scale=False), layers.BatchNormalization(scale=False)
    np.testing.assert_array_equal(norm(values), own(values))
    np.testing.assert_array_equal(Gelu()(values), gelu(values))


def test_a_gpu_trains_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_suitable() == (keras.backend.backend() == "tensorflow")
    monkeypatch.setattr("train.one_pass.find_gpu_capability", lambda: (8, 0))
    assert not is_suitable()
