"""Batch normalisation, GELU and dropout in one pass over the values each way, for training by TensorFlow on a CPU.

Enters: values float32 or bfloat16 [N, ..., C]. Leaves: what the formulas give of them, to the rounding of their type.
Does not know: nets, or what is trained. Left alone, TensorFlow goes over all values once for each operation of a
formula and again for its derivative. Here XLA makes one loop of GELU and of dropout, and the norm is oneDNN's. Other
backends make loops of all that they compile.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from train.nets.precision import find_gpu_capability


def is_suitable() -> bool:
    """Whether TensorFlow trains here, and on a CPU."""
    return keras.backend.backend() == "tensorflow" and find_gpu_capability() is None


def gelu(values: Any) -> Any:
    """GELU (Hendrycks & Gimpel 2016) by erf: ONNX has it and not erfc, by which Keras' own is written."""
    return 0.5 * values * (1 + ops.erf(values / 2**0.5))


def slope_of_gelu(values: Any) -> Any:
    """The derivative of GELU: the normal distribution, and the values times its density."""
    density = ops.exp(-0.5 * ops.square(values)) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + ops.erf(values / 2**0.5)) + values * density


@keras.saving.register_keras_serializable("inkling")
class Gelu(layers.Layer):
    """GELU, which TensorFlow trains in one pass; else, and in all that is exported, as it is written."""

    def call(self, values: Any, training: bool = False) -> Any:
        """Float [...] -> the same shape."""
        return compile_gelu()(values) if training and is_suitable() else gelu(values)


@keras.saving.register_keras_serializable("inkling")
class Norm(layers.BatchNormalization):
    """Keras' BatchNormalization, which TensorFlow trains in one pass where it has no scales; else its own."""

    def call(self, values: Any, training: bool = False) -> Any:
        """Float [N, H, W, C] -> the same shape; in training, the moving mean and variance follow."""
        fits = self.center and not self.scale and not self.renorm and self.axis in (-1, 3) and len(values.shape) == 4
        if not (training and self.trainable and fits and is_suitable()):
            return super().call(values, training=training)
        import tensorflow as tf  # the backend that is loaded already

        none = ops.zeros(0)
        results, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=values, scale=ops.ones_like(self.beta), offset=self.beta, mean=none, variance=none, epsilon=self.epsilon
        )
        count = ops.cast(ops.size(values) / values.shape[-1], "float32")
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance * (count - 1) / count)  # Keras' is that of the batch itself
        return results

    def _follow(self, moving: Any, found: Any) -> None:
        moving.assign(moving * self.momentum + found * (1 - self.momentum))


@keras.saving.register_keras_serializable("inkling")
class Dropout(layers.Dropout):
    """Keras' Dropout, which TensorFlow trains with 8 or 16 random bits a value; else its own, which draws 32.

    A rate that is no multiple of 1 / 256 is met to 1 / 65,536, and what is kept is scaled by the rate that was met.
    """

    def call(self, values: Any, training: bool = False) -> Any:
        """Float [...] -> the same shape."""
        if not (training and self.rate > 0 and is_suitable()):
            return super().call(values, training=training)
        word = "uint8" if (256 * self.rate).is_integer() else "uint16"
        seed = ops.cast(self.seed_generator.next(), "int32")
        return compile_dropout(self.rate, word)(values, draw_words(ops.shape(values), seed, word))


def draw_words(shape: Any, seed: Any, word: str) -> Any:
    """Random integers of a shape and a type, `uint8` or `uint16`, of a seed int32 [2]: each number drawn is several."""
    import tensorflow as tf  # the backend that is loaded already

    count, together = tf.reduce_prod(shape), 4 // tf.as_dtype(word).size
    drawn = tf.random.stateless_uniform([-(-count // together)], seed, minval=None, maxval=None, dtype=tf.int32)
    return tf.reshape(tf.reshape(tf.bitcast(drawn, word), [-1])[:count], shape)


@functools.cache
def compile_dropout(rate: float, word: str) -> Callable[[Any, Any], Any]:
    """Dropout by random words of a type with its derivative by TensorFlow: a loop each, by the same words."""
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
    """GELU with its derivative by TensorFlow: a loop each, and nothing kept between them but the values."""
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
