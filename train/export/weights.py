"""A model.onnx and an untrained Keras model of the same net -> the Keras model with the file's weights.

Enters: the path of a file that `from_keras.py` wrote, a keras.Model of `nets/build.py`, some training images.
Leaves: the same model, from which a training can go on. Does not know: recipes, how a model is fitted.

The file has every batch normalisation folded into the convolution before it, so it no longer has the mean that was
subtracted. The mean of the training images replaces it. Then the model gives the file's answers, and training, which
subtracts the mean of each batch, begins close to them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from serve.errors import ModelFileError
from train.data.datasets import Images
from train.export.familiarity.nodes import remove_familiarity
from train.export.graph import Links, restore
from train.export.onnx_file import open_session, read_model_file
from train.export.passes.cascade import split
from train.export.passes.second_view import remove_second_view
from train.nets.build import predict, take_logits

Array = npt.NDArray[np.float32]
IMAGE_COUNT = 500
LARGEST_DIFFERENCE = 0.01
"""Of a logit, between the file and the model with its weights. Logits are around 10, and float32 rounds them."""


@dataclass(frozen=True)
class Product:
    """A convolution or a matrix product of a graph, with its weights in Keras' layout."""

    kernel: Array
    biases: Array
    result: str
    """The value that it makes, biases included."""


def read_weights(path: Path, model: keras.Model, images: Images) -> None:
    """Set the weights of a float32 model, in place, to those of a file; images uint8 [N, H, W, C] are of training.

    Of a cascade's nets, the one with this model's kernels is taken.
    Raises ModelFileError if the file is damaged, is of another net, or the model's logits are not the file's.
    """
    data, _ = read_model_file(path)
    whole = restore(onnx.load_from_string(data))
    parts = split(whole)
    nets = [
        remove_second_view(remove_familiarity(each))[0] for each in ((parts.second, parts.first) if parts else (whole,))
    ]
    wanted = _list_kernels(model)
    graph = next((net for net in nets if [each.kernel.shape for each in list_products(net.graph)] == wanted), nets[0])
    products = list_products(graph.graph)
    _assign(path, model, products)
    chosen = images[:IMAGE_COUNT]
    restore_means(model, chosen)
    expected = run_to(graph, products[-1].result, chosen)
    difference = float(np.abs(predict(take_logits(model), chosen) - expected).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelFileError(
            f"{path} is of another net: wanted its logits within {LARGEST_DIFFERENCE} from its weights in the recipe's "
            f"net, found a difference of {difference:.3g}"
        )


def list_products(graph: onnx.GraphProto) -> list[Product]:
    """Each convolution and each matrix product with weights, in the order of the graph."""
    links, products = Links(graph), []
    for node in graph.node:
        weights = [numpy_helper.to_array(links.weights[name]) for name in node.input[1:] if name in links.weights]
        if not weights or node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        kernel, *biases = weights
        kernel = kernel.transpose(2, 3, 1, 0) if node.op_type == "Conv" else kernel
        sum_ = None if biases else links.user(node, "Add")
        added = links.weight(sum_) if sum_ else None
        biases = biases if added is None else [added]
        last = sum_ if sum_ and added is not None else node
        zeros = np.zeros(kernel.shape[-1], np.float32)
        products.append(Product(kernel, biases[0].reshape(-1) if biases else zeros, last.output[0]))
    return products


def run_to(model: onnx.ModelProto, value: str, images: Images) -> Array:
    """A value inside a graph for images uint8 [N, H, W, C]: its first N rows, float32 [N, ...].

    A graph that averages mirror images has 2 N rows there, the images themselves first.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:]
    cut.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    (found,) = open_session(cut.SerializeToString()).run([value], {"images": images})
    return np.asarray(found[: len(images)])


def _assign(path: Path, model: keras.Model, products: list[Product]) -> None:
    layers = [layer for layer in model.layers if hasattr(layer, "kernel")]
    wanted, found = _list_kernels(model), [product.kernel.shape for product in products]
    if found != wanted:
        raise ModelFileError(f"{path} is of another net: wanted kernels {wanted}, found {found}")
    norms = iter(_list_norms(model))
    for layer, product in zip(layers, products, strict=True):
        layer.kernel.assign(product.kernel)
        if layer.use_bias:
            layer.bias.assign(product.biases)
        else:
            norm = next(norms)
            norm.beta.assign(product.biases)
            norm.moving_mean.assign(np.zeros_like(product.biases))
            norm.moving_variance.assign(np.full_like(product.biases, 1 - norm.epsilon))


def _list_kernels(model: keras.Model) -> list[tuple[int, ...]]:
    """The shapes of a model's kernels, layer by layer."""
    return [tuple(layer.kernel.shape) for layer in model.layers if hasattr(layer, "kernel")]


def restore_means(model: keras.Model, images: Images) -> None:
    """Give each normalisation the mean of its values for images uint8 [N, H, W, C], without a change of its results."""
    norms = _list_norms(model)
    if not norms:
        return
    before = keras.Model(model.input, [norm.input for norm in norms])
    for norm, values in zip(norms, before.predict_on_batch(images), strict=True):
        means = np.asarray(values, np.float32).mean(axis=(0, 1, 2))
        norm.beta.assign(keras.ops.convert_to_numpy(norm.beta) + means - keras.ops.convert_to_numpy(norm.moving_mean))
        norm.moving_mean.assign(means)


def _list_norms(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
