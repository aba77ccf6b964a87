"""A recipe's optimizer, as data -> Keras' optimizer.

Enters: `Adam` or `Muon` of `recipe.py`, a schedule of rates. Leaves: a keras.Optimizer. Does not know: nets.
"""

import re
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from train.nets.fused_layers import is_suitable
from train.recipes.recipe import Adam, Muon


def make_optimizer(settings: Adam | Muon, schedule: LearningRateSchedule) -> keras.optimizers.Optimizer:
    """The optimizer that a recipe asks for."""
    if isinstance(settings, Adam):
        return OnePassAdam(schedule, beta_2=settings.beta_2)
    return ConvMuon(
        schedule,
        momentum=settings.momentum,
        adam_lr_ratio=settings.adam_share,
        weight_decay=None,
        adam_weight_decay=None,
        rms_rate=None,
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
    """Keras' Muon, which takes matrices alone, for the kernels of convolutions alone; Adam has all else.

    A kernel [H, W, channels, filters] is a matrix of filters. Each step makes it as long as it has filters, so that a
    rate is a share of it: what a norm follows does not depend on its length, and would be trained ever slower as it
    grew (Jordan's airbench94_muon, 2024).
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return not re.search(r"conv2d.*/kernel$", variable.path)

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """The nearest matrix with orthogonal columns, or rows, in the kernel's shape [H, W, channels, filters]."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        if matrix.shape[0] >= matrix.shape[1]:
            return ops.reshape(self._orthogonalize(matrix, steps), x.shape)
        return ops.reshape(ops.transpose(self._orthogonalize(ops.transpose(matrix), steps)), x.shape)

    def _orthogonalize(self, matrix: Any, steps: int) -> Any:
        """[M, N] of M >= N -> [M, N]: Keras' iteration, taken on the products of the columns with each other, [N, N].

        Each step multiplies the matrix by a polynomial in those products, so that the polynomials can be multiplied
        first, and the long matrix once.
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
