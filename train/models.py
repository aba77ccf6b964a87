"""A model's name -> keras.Model, not yet trained.

Enters: a name, the image's shape, the number of classes, a dtype policy. Leaves: a model that takes `images`
uint8 [N, H, W, C] and gives `probabilities` float32 [N, K]; its layer `logits` stands before the softmax.
Does not know: data, losses, how it is fitted. Plain Keras 3: any backend.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

Net = Callable[[], Sequence[keras.Layer]]


def build(name: str, shape: tuple[int, int, int], class_count: int, policy: str = "float32") -> keras.Model:
    """A fresh model. `policy` is a Keras dtype policy: `float32` or `mixed_bfloat16`.

    The logits and the softmax are float32 under every policy: bfloat16 has 8 bits, too few for probabilities.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        images = keras.Input(shape, dtype="uint8", name="images")
        values = layers.Rescaling(1 / 255)(images)
        for layer in NETS[name]():
            values = layer(values)
        logits = layers.Dense(class_count, dtype="float32", name="logits")(values)
        probabilities = layers.Softmax(dtype="float32", name="probabilities")(logits)
        return keras.Model(images, probabilities, name=name)
    finally:
        keras.config.set_dtype_policy(before)


def build_float32(model: keras.Model) -> keras.Model:
    """The same net with the same weights in float32, whatever policy it was trained under."""
    shape = model.input_shape[1:]
    twin = build(model.name, shape, model.output_shape[1])
    twin.set_weights(model.get_weights())
    return twin


def centre_first_layer(model: keras.Model, mean_colour: npt.NDArray[np.floating]) -> None:
    """Set the first layer's biases so that the training set's mean colour, float [C] in 0 to 1, gives 0 everywhere.

    Data-dependent initialisation (Krähenbühl et al. 2016), for inputs that are scaled and not centred.
    """
    first = next(layer for layer in model.layers if layer.weights)
    kernel = keras.ops.convert_to_numpy(first.kernel)
    by_colour = kernel.reshape(-1, len(mean_colour), kernel.shape[-1])  # the channel is the last but one in either kind
    first.bias.assign(-np.einsum("pcu,c->u", by_colour, mean_colour))


def predict(model: keras.Model, images: npt.NDArray[np.uint8], batch_size: int = 1000) -> npt.NDArray[np.float32]:
    """What a model gives for images uint8 [N, H, W, C], float32 [N, K]; without the tf.data pipeline of `predict`."""
    starts = range(0, len(images), batch_size)
    return np.concatenate([model.predict_on_batch(images[start : start + batch_size]) for start in starts])


def take_logits(model: keras.Model) -> keras.Model:
    """The part of a model before its softmax, sharing its weights: images -> float32 [N, K]."""
    return keras.Model(model.input, model.get_layer("logits").output, name=f"{model.name}-logits")


def _relu_dense(width: int) -> keras.Layer:
    return layers.Dense(width, activation="relu", kernel_initializer="he_normal")


def _relu_conv(filters: int, padding: str = "same") -> keras.Layer:
    return layers.Conv2D(filters, 3, padding=padding, activation="relu", kernel_initializer="he_normal")


def mnist_mlp() -> Sequence[keras.Layer]:
    """Flatten, Dense 512."""
    return [layers.Flatten(), _relu_dense(512)]


def mnist_cnn() -> Sequence[keras.Layer]:
    """One convolution of 32, Dense 128, dropout after each."""
    return [
        _relu_conv(32, padding="valid"),
        layers.MaxPooling2D(2),
        layers.Dropout(0.25),
        layers.Flatten(),
        _relu_dense(128),
        layers.Dropout(0.5),
    ]


def cifar10_mlp() -> Sequence[keras.Layer]:
    """Flatten, Dense 128, 64, 32."""
    return [layers.Flatten(), _relu_dense(128), _relu_dense(64), _relu_dense(32)]


def cifar10_cnn() -> Sequence[keras.Layer]:
    """Two pairs of convolutions (16, 32; 64, 128), Dense 512, dropout after each part."""
    return [
        _relu_conv(16),
        _relu_conv(32),
        layers.MaxPooling2D(2),
        layers.Dropout(0.25),
        _relu_conv(64),
        _relu_conv(128),
        layers.MaxPooling2D(2),
        layers.Dropout(0.25),
        layers.Flatten(),
        _relu_dense(512),
        layers.Dropout(0.5),
    ]


NETS: dict[str, Net] = {
    "mnist-mlp": mnist_mlp,
    "mnist-cnn": mnist_cnn,
    "cifar10-mlp": cifar10_mlp,
    "cifar10-cnn": cifar10_cnn,
}
