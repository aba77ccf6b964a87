"""A recipe's optimizer, described as data -> a Keras optimizer.

Enters: `Adam` or `Muon` of `recipes/recipe.py`, a learning rate schedule. Leaves: a keras.Optimizer.
Does not know: nets, or what is trained.
"""

import re
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from train.nets.fused_layers import is_suitable
from train.recipes.recipe import Adam, Muon


def make_optimizer(
    settings: Adam | Muon, schedule: LearningRateSchedule, averaging: float = 0.0
) -> keras.optimizers.Optimizer:
    """Make the optimizer of a recipe. With `averaging`, a decay per step, it also keeps an average of the weights."""
    averages = {"use_ema": True, "ema_momentum": averaging} if averaging else {}
    if isinstance(settings, Adam):
        return OnePassAdam(schedule, beta_2=settings.beta_2, **averages)
    return ConvMuon(
        schedule,
        momentum=settings.momentum,
        adam_lr_ratio=settings.adam_share,
        weight_decay=None,
        adam_weight_decay=None,
        rms_rate=None,
        **averages,
    )


class OnePassAdam(keras.optimizers.Adam):
    """Keras' Adam, which TensorFlow takes in one pass over the weights on a CPU, where Keras' formulas take ten."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move a variable (TensorFlow's own), its momentum and its velocity by a gradient of its shape."""
        if not is_suitable():
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf  # the backend that is loaded already

        place, step = self._get_variable_index(variable), ops.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=ops.power(ops.cast(self.beta_1, variable.dtype), step),
            beta2_power=ops.power(ops.cast(self.beta_2, variable.dtype), step),
            lr=ops.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=ops.cast(gradient, variable.dtype),
        )


class ConvMuon(keras.optimizers.Muon):
    """Muon for the kernels of convolutions, which Keras' Muon does not take, and Adam for all other variables.

    A kernel [H, W, channels, filters] is treated as a matrix of filters. After each step its norm becomes the square
    root of the number of filters. So the rate is a share of the kernel. A normalisation after the convolution
    cancels that norm; without the reset it would grow, and training would slow down (Jordan's airbench94_muon, 2024).
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return not re.search(r"conv2d.*/kernel$", variable.path)

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """A kernel float [H, W, channels, filters] -> nearly the closest one with orthogonal columns or rows."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        if matrix.shape[0] >= matrix.shape[1]:
            return ops.reshape(self._orthogonalize(matrix, steps), x.shape)
        return ops.reshape(ops.transpose(self._orthogonalize(ops.transpose(matrix), steps)), x.shape)

    def _orthogonalize(self, matrix: Any, steps: int) -> Any:
        """A matrix float [M, N], M >= N -> [M, N]: Keras' iteration on the products [N, N] of the columns.

        Each step multiplies the matrix by a polynomial in these products. So the small polynomials are multiplied
        first, and the long matrix only once.
        """
        matrix = matrix / (ops.norm(matrix) + 1e-7)
        products, unit = ops.matmul(ops.transpose(matrix), matrix), ops.eye(matrix.shape[1])
        whole = unit
        for _ in range(steps):
            step = self.muon_a * unit + self.muon_b * products + self.muon_c * ops.matmul(products, products)
            whole = ops.matmul(whole, step)
            products = ops.matmul(ops.matmul(step, products), step)
        return ops.matmul(matrix, whole)

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        super()._muon_update_step(gradient, variable, lr, m)
        length = ops.sqrt(ops.sum(ops.square(variable)))
        self.assign(variable, variable * variable.shape[-1] ** 0.5 / length)
