"""`train.nets.optimizer`: the variables that Muon takes, and the step of a kernel."""

import keras
import numpy as np
import pytest

from train.nets.build import build
from train.nets.optimizer import make_optimizer
from train.recipes.net import Conv, Flatten, NormConv
from train.recipes.recipe import Adam, Muon

CONSTANT = keras.optimizers.schedules.PiecewiseConstantDecay([10**6], [0.1, 0.1])


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build((NormConv(8, pooled=True), Conv(6), Flatten()), (8, 8, 3), 4)


def is_convolutions_kernel(path: str) -> bool:
    return "conv2d" in path and path.endswith("kernel")


def step(model: keras.Model, settings: Adam | Muon) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The values of all variables before and after a step along a random gradient."""
    random = np.random.default_rng(0)
    variables = model.trainable_variables
    before = [np.asarray(variable) for variable in variables]
    gradients = [keras.ops.convert_to_tensor(random.normal(size=each.shape).astype("float32")) for each in before]
    make_optimizer(settings, CONSTANT).apply(gradients, variables)
    return {each.path: (old, np.asarray(each)) for each, old in zip(variables, before, strict=True)}


def test_muon_keeps_the_norm_of_a_convolutions_kernel(model: keras.Model) -> None:
    moved = step(model, Muon(adam_share=0.01))
    kernels = [after for path, (_, after) in moved.items() if is_convolutions_kernel(path)]
    assert len(kernels) == 2
    for after in kernels:
        assert np.linalg.norm(after) == pytest.approx(after.shape[-1] ** 0.5, rel=1e-5)


def test_other_variables_take_adams_step_at_its_share_of_the_rate(model: keras.Model) -> None:
    moved = step(model, Muon(adam_share=0.01))
    others = [pair for path, pair in moved.items() if not is_convolutions_kernel(path)]
    assert len(others) == 4  # biases of a norm and a convolution, kernel and biases of the logits
    for before, after in others:
        np.testing.assert_allclose(np.abs(after - before), 0.1 * 0.01, rtol=0.05)  # the first step of Adam is the rate


def test_muons_first_step_is_orthogonal(model: keras.Model) -> None:
    optimizer = make_optimizer(Muon(), CONSTANT)
    gradient = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype("float32")
    turned = np.asarray(optimizer.zeropower_via_newtonschulz5(gradient, 5)).reshape(27, 8)
    lengths = np.linalg.svd(turned, compute_uv=False)
    assert turned.shape == (27, 8)
    assert lengths.min() > 0.5
    assert lengths.max() < 1.5


@pytest.mark.parametrize("shape", [(3, 3, 3, 8), (1, 1, 4, 9), (3, 3, 16, 64)])
def test_muons_steps_equal_keras_own(shape: tuple[int, ...]) -> None:
    optimizer = make_optimizer(Muon(), CONSTANT)
    gradient = np.random.default_rng(0).normal(size=shape).astype("float32")
    expected = keras.optimizers.Muon().zeropower_via_newtonschulz5(gradient.reshape(-1, shape[-1]), 5)
    turned = np.asarray(optimizer.zeropower_via_newtonschulz5(gradient, 5))
    np.testing.assert_allclose(turned, np.asarray(expected).reshape(shape), atol=1e-4)


def test_adam_has_the_recipes_second_decay() -> None:
    optimizer = make_optimizer(Adam(beta_2=0.98), CONSTANT)
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert optimizer.beta_2 == 0.98


@pytest.mark.parametrize("has_gpu", [False, True])
def test_adam_in_one_pass_takes_keras_own_steps(has_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.nets.fused_layers.find_gpu_capability", lambda: (8, 0) if has_gpu else None)
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=(7, 5)), random.normal(size=(3, 7, 5)) * [[[1]], [[1e-3]], [[10]]]
    optimizers = make_optimizer(Adam(beta_2=0.99), CONSTANT), keras.optimizers.Adam(CONSTANT, beta_2=0.99)
    for gradient in gradients.astype("float32"):
        moved = [_take_step(optimizer, start, gradient) for optimizer in optimizers]
        np.testing.assert_allclose(*moved, rtol=1e-5, atol=1e-6)
    for one, other in zip(*(optimizer.variables for optimizer in optimizers), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def _take_step(optimizer: keras.optimizers.Optimizer, start: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The weights that an optimizer has come to: of its first step, from `start`."""
    if not optimizer.built:
        optimizer.build([keras.Variable(start, dtype="float32")])
    optimizer.apply([keras.ops.convert_to_tensor(gradient)])
    return np.asarray(optimizer._trainable_variables[0])
