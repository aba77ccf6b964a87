"""Batch normalisation, GELU and dropout in one pass over the values, for training with TensorFlow on a CPU.

Enters: values float32 or bfloat16 [N, ..., C]. Leaves: the result of the formula, up to rounding in their type.
Does not know: nets, or what is trained.

By itself TensorFlow makes one pass for each operation of a formula, and more for its derivative. Here XLA compiles
GELU and dropout to one loop each, and the norm is oneDNN's. Other backends fuse operations themselves.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from train.nets.precision import find_gpu_capability


def is_suitable() -> bool:
    """Whether the backend is TensorFlow on a CPU."""
    return keras.backend.backend() == "tensorflow" and find_gpu_capability() is None


def gelu(values: Any) -> Any:
    """GELU (Hendrycks & Gimpel 2016) of float [...], same shape. It uses erf, as ONNX lacks the erfc of Keras' GELU."""
    return 0.5 * values * (1 + ops.erf(values / 2**0.5))


def slope_of_gelu(values: Any) -> Any:
    """The derivative of GELU at float [...], same shape: the normal distribution plus the values times its density."""
    density = ops.exp(-0.5 * ops.square(values)) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + ops.erf(values / 2**0.5)) + values * density


@keras.saving.register_keras_serializable("inkling")
class Gelu(layers.Layer):
    """GELU in one pass in training with TensorFlow; otherwise, and in exported graphs, the plain formula."""

    def call(self, values: Any, training: bool = False) -> Any:
        """Values float [...] -> the same shape and dtype."""
        return compile_gelu()(values) if training and is_suitable() else gelu(values)


@keras.saving.register_keras_serializable("inkling")
class Norm(layers.BatchNormalization):
    """BatchNormalization in one pass in training with TensorFlow, if it has no scales; otherwise Keras' own."""

    def call(self, values: Any, training: bool = False) -> Any:
        """Values float [N, H, W, C] -> the same shape. In training it updates the moving mean and variance."""
        fits = self.center and not self.scale and not self.renorm and self.axis in (-1, 3) and len(values.shape) == 4
        if not (training and self.trainable and fits and is_suitable()):
            return super().call(values, training=training)
        import tensorflow as tf  # not above: only the TensorFlow backend needs it

        none = ops.zeros(0)
        results, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=values, scale=ops.ones_like(self.beta), offset=self.beta, mean=none, variance=none, epsilon=self.epsilon
        )
        count = ops.cast(ops.size(values) / values.shape[-1], "float32")
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance * (count - 1) / count)  # Keras divides by N, oneDNN by N - 1
        return results

    def _follow(self, moving: Any, found: Any) -> None:
        moving.assign(moving * self.momentum + found * (1 - self.momentum))


@keras.saving.register_keras_serializable("inkling")
class Dropout(layers.Dropout):
    """Dropout with 8 or 16 random bits a value in training with TensorFlow; otherwise Keras' own, which draws 32.

    A rate that is no multiple of 1 / 256 is rounded to 1 / 65,536. The scale of the kept values is that of the rounded
    rate.
    """

    def call(self, values: Any, training: bool = False) -> Any:
        """Values float [...] -> the same shape and dtype."""
        if not (training and self.rate > 0 and is_suitable()):
            return super().call(values, training=training)
        word = "uint8" if (256 * self.rate).is_integer() else "uint16"
        seed = ops.cast(self.seed_generator.next(), "int32")
        return compile_dropout(self.rate, word)(values, draw_words(ops.shape(values), seed, word))


def draw_words(shape: Any, seed: Any, word: str) -> Any:
    """Random integers of a shape and a dtype, `uint8` or `uint16`, from a seed int32 [2]. Each draw yields several."""
    import tensorflow as tf  # not above: only the TensorFlow backend needs it

    count, together = tf.reduce_prod(shape), 4 // tf.as_dtype(word).size
    drawn = tf.random.stateless_uniform([-(-count // together)], seed, minval=None, maxval=None, dtype=tf.int32)
    return tf.reshape(tf.reshape(tf.bitcast(drawn, word), [-1])[:count], shape)


@functools.cache
def compile_dropout(rate: float, word: str) -> Callable[[Any, Any], Any]:
    """Dropout and its derivative, each compiled to one loop, that read the same random words of a dtype."""
    import tensorflow as tf

    words = int(tf.as_dtype(word).max) + 1
    dropped = round(rate * words)
    scale = words / (words - dropped) if dropped < words else 0.0

    def drop(values: Any, drawn: Any) -> Any:
        return ops.where(ops.cast(drawn, "int32") < dropped, ops.zeros_like(values), values * scale)

    compiled = tf.function(drop, jit_compile=True)
    return tf.custom_gradient(  # type: ignore[no-any-return]  # TensorFlow has no types
        lambda values, drawn: (compiled(values, drawn), lambda error: (compiled(error, drawn), None))
    )


@functools.cache
def compile_gelu() -> Callable[[Any], Any]:
    """GELU and its derivative, each compiled to one loop. Only the values are kept for the derivative."""
    import tensorflow as tf

    forwards = tf.function(_round_gelu, jit_compile=True)
    backwards = tf.function(_pass_back, jit_compile=True)
    return tf.custom_gradient(  # type: ignore[no-any-return]  # TensorFlow has no types
        lambda values: (forwards(values), functools.partial(backwards, values))
    )


def _round_gelu(values: Any) -> Any:
    return ops.cast(gelu(ops.cast(values, "float32")), values.dtype)


def _pass_back(values: Any, error: Any) -> Any:
    return ops.cast(ops.cast(error, "float32") * slope_of_gelu(ops.cast(values, "float32")), values.dtype)
