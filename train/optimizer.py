"""A recipe's optimizer, as data -> Keras' optimizer.

Enters: `Adam` or `Muon` of `recipe.py`, a schedule of rates. Leaves: a keras.Optimizer. Does not know: nets.
"""

import re
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from train.recipe import Adam, Muon


def make_optimizer(settings: Adam | Muon, schedule: LearningRateSchedule) -> keras.optimizers.Optimizer:
    """The optimizer that a recipe asks for."""
    if isinstance(settings, Adam):
        return keras.optimizers.Adam(schedule, beta_2=settings.beta_2)
    return ConvMuon(
        schedule,
        momentum=settings.momentum,
        adam_lr_ratio=settings.adam_share,
        weight_decay=None,
        adam_weight_decay=None,
        rms_rate=None,
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
        """The nearest matrix with orthogonal rows, in the shape of the kernel [H, W, channels, filters]."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        super()._muon_update_step(gradient, variable, lr, m)
        length = ops.sqrt(ops.sum(ops.square(variable)))
        self.assign(variable, variable * variable.shape[-1] ** 0.5 / length)
