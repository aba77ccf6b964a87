"""A net described as data -> an untrained keras.Model.

Enters: a net of `recipes/net.py`, the image's shape, the number of classes, a dtype policy. Leaves: a model from
`images` uint8 [N, H, W, C] to `probabilities` float32 [N, K]; the layer `logits` comes before the softmax.
Does not know: losses, how it is fitted, data except for the first layer. Plain Keras 3: any backend.
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from train.data.datasets import Images, choose_batch_size
from train.evaluation.calibration import LEAST_LEFT, Calibration
from train.evaluation.passes.second_view import combine
from train.nets.fused_layers import Dropout, Gelu, Norm
from train.nets.winograd import WinogradConv2D
from train.recipes.net import (
    Conv,
    Dense,
    Drop,
    Flatten,
    GlobalAverage,
    GlobalMax,
    Net,
    NormConv,
    Part,
    Pool,
    Residual,
    Whitening,
)

WHITENING_IMAGES = 5000
WHITENING_FLOOR = 5e-4  # share of the mean variance that is added to each, so that noise is not amplified
NORM_MOMENTUM, NORM_EPSILON = 0.8, 1e-5


@keras.saving.register_keras_serializable("inkling")
class Dirac(keras.initializers.Initializer):
    """Filter i passes channel i on, as far as there are channels. Other filters are random (He et al. 2015)."""

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """A kernel of `shape` [H, W, channels, filters]."""
        kernel = keras.ops.convert_to_numpy(keras.initializers.HeUniform()(shape)).copy()
        through = np.arange(min(shape[2], shape[3]))
        kernel[..., through] = 0
        kernel[shape[0] // 2, shape[1] // 2, through, through] = 1
        return ops.convert_to_tensor(kernel, dtype)


@keras.saving.register_keras_serializable("inkling")
class ReluPool(layers.MaxPooling2D):
    """ReLU, then max pooling. In training ReLU comes after the pool, with the same result and fewer values."""

    def call(self, values: Any, training: bool = False) -> Any:
        """Float [N, H, W, C] -> [N, H', W', C]."""
        return ops.relu(super().call(values)) if training else super().call(ops.relu(values))


def build(
    net: Net, shape: tuple[int, int, int], class_count: int, policy: str = "float32", name: str = "net"
) -> keras.Model:
    """A model with random weights. `policy` is a Keras dtype policy, `float32` or `mixed_bfloat16`.

    Logits and softmax are always float32, because the 8 bits of bfloat16 are too few for probabilities.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        images = keras.Input(shape, dtype="uint8", name="images")
        values = layers.Rescaling(1 / 255)(images)
        for part, following in zip(net, (*net[1:], None), strict=True):
            values = _add(part, values, shape[2], isinstance(following, Pool))
        logits = layers.Dense(class_count, dtype="float32", name="logits")(values)
        probabilities = layers.Softmax(dtype="float32", name="probabilities")(logits)
        model = keras.Model(images, probabilities, name=name)
    finally:
        keras.config.set_dtype_policy(before)
    return model


def _add(part: Part, values: Any, channels: int, is_pooled: bool) -> Any:  # noqa: PLR0911  # a table, one line a part
    """Apply a part to values. `channels` is that of the image. A pool includes the ReLU of a convolution."""
    match part:
        case Conv(filters, kernel, padding):
            activation = None if is_pooled else "relu"
            return WinogradConv2D(
                filters, kernel, padding=padding, activation=activation, kernel_initializer="he_normal"
            )(values)
        case Whitening(kernel):
            filters = 2 * kernel * kernel * channels
            return Gelu()(layers.Conv2D(filters, kernel, name="whitening", trainable=False)(values))
        case NormConv(filters, pooled):
            return Gelu()(_add_norm_conv(filters, values, pooled))
        case Residual(filters):
            inner = Gelu()(_add_norm_conv(filters, values))
            return Gelu()(layers.Add()([values, _add_norm_conv(filters, inner)]))
        case Pool(size):
            return ReluPool(size)(values)
        case Drop(rate):
            return Dropout(rate)(values)
        case Dense(width):
            return layers.Dense(width, activation="relu", kernel_initializer="he_normal")(values)
        case Flatten():
            return layers.Flatten()(values)
        case GlobalAverage():
            return layers.GlobalAveragePooling2D()(values)
        case GlobalMax():
            return layers.GlobalMaxPooling2D()(values)


def _add_norm_conv(filters: int, values: Any, pooled: bool = False) -> Any:
    values = WinogradConv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=Dirac())(values)
    values = layers.MaxPooling2D(2)(values) if pooled else values
    return Norm(momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, scale=False)(values)


def build_float32(model: keras.Model, net: Net) -> keras.Model:
    """A copy of the model, with the same weights, that computes in float32."""
    twin = build(net, model.input_shape[1:], model.output_shape[1], name=model.name)
    twin.set_weights(model.get_weights())
    return twin


def complete(
    model: keras.Model, *, mirrors: bool = False, calibration: Calibration | None = None, below: float = 0.0
) -> keras.Model:
    """The model with its calibration, as it is exported. It shares the weights; without changes it is `model` itself.

    With `mirrors` the logits are the mean of those of each image and of its mirror image; with `below` only where the
    confidence of the first ones is below that. This model computes both anyway, the exported graph does not.
    """
    if not (mirrors or calibration or below):
        return model
    images = keras.Input(model.input_shape[1:], dtype="uint8", name="images")
    logits = _average_mirrored(model, images, below) if mirrors or below else take_logits(model)(images)
    if calibration:
        logits = _undo_smoothing(logits, calibration.smoothing) / calibration.temperature
    return keras.Model(images, layers.Softmax(dtype="float32", name="probabilities")(logits), name=model.name)


def _average_mirrored(model: keras.Model, images: Any, below: float) -> Any:
    both = ops.concatenate([images, images[:, :, ::-1]], axis=0)
    logits = ops.reshape(take_logits(model)(both), (2, -1, model.output_shape[1]))
    means = ops.mean(logits, axis=0)
    if not below:
        return means
    confidence = ops.max(ops.softmax(logits[0]), axis=1, keepdims=True)
    return ops.where(confidence < below, means, logits[0])


def _undo_smoothing(logits: Any, smoothing: float) -> Any:
    """The same as `undo_smoothing` of train/evaluation/calibration.py, inside a model."""
    if not smoothing:
        return logits
    shares = ops.softmax(logits)
    return ops.log(ops.maximum(shares - smoothing / logits.shape[1], LEAST_LEFT * shares))


def prepare_first_layer(model: keras.Model, images: Images) -> None:
    """Initialise the first layer from training images uint8 [N, H, W, C], in place.

    A whitening layer gets its kernels. Inputs are scaled and not centred, so biases are set so that the mean colour
    gives 0 everywhere. This is data-dependent initialisation (Krähenbühl et al. 2016).
    """
    first = next(layer for layer in model.layers if layer.weights)
    if first.name == "whitening":
        first.kernel.assign(find_whitening(images[:WHITENING_IMAGES], first.kernel_size[0]))
    if first.bias is not None:
        centre_layer(first, images.mean(axis=(0, 1, 2)) / 255)


def find_whitening(images: Images, size: int) -> npt.NDArray[np.float32]:
    """Whitening kernels float32 [size, size, C, filters] for patches of images uint8 [N, H, W, C] scaled to 0 to 1."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))  # [N, h, w, C, size, size]
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * images.shape[3]).astype(np.float32) / 255
    variances, directions = np.linalg.eigh(np.cov(patches, rowvar=False))
    kernels = directions / np.sqrt(variances + WHITENING_FLOOR * variances.mean())
    return np.concatenate([kernels, -kernels], axis=1).reshape(size, size, images.shape[3], -1).astype(np.float32)


def centre_layer(layer: keras.Layer, mean_colour: npt.NDArray[np.floating]) -> None:
    """Set a layer's biases, in place, so that an image of this colour, float [C] from 0 to 1, gives 0 everywhere."""
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    by_colour = kernel.reshape(-1, len(mean_colour), kernel.shape[-1])  # the channel is always last but one
    layer.bias.assign(-np.einsum("pcu,c->u", by_colour, mean_colour))


def predict(model: keras.Model, images: Images) -> npt.NDArray[np.float32]:
    """The output float32 [N, K] for images uint8 [N, H, W, C], without the tf.data pipeline of `Model.predict`."""
    batch_size = choose_batch_size(images)
    starts = range(0, len(images), batch_size)
    return np.concatenate([model.predict_on_batch(images[start : start + batch_size]) for start in starts])


def take_logits(model: keras.Model) -> keras.Model:
    """The model from images to logits float32 [N, K]. It shares the weights."""
    return keras.Model(model.input, model.get_layer("logits").output, name=f"{model.name}-logits")


def predict_logits(
    model: keras.Model, images: Images, mirrors: bool = False, below: float = 0.0
) -> npt.NDArray[np.float32]:
    """The logits float32 [N, K] for images uint8 [N, H, W, C], averaged with mirror images as in `complete`."""
    logits = take_logits(model)
    plain = predict(logits, images)
    if not (mirrors or below):
        return plain
    mirrored = predict(logits, images[:, :, ::-1])
    return np.asarray(combine(plain, mirrored, below) if below else (plain + mirrored) / 2, np.float32)
