"""A Keras model, or a function of TensorFlow -> an ONNX graph with the same answers in float32.

Enters: a keras.Model, or a `tf.function` that returns tensors by name. Leaves: an onnx.ModelProto without metadata.
Does not know: what the answers mean, files that are served. Importing this module imports no TensorFlow.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from train.export.simplify import simplify

if TYPE_CHECKING:
    import keras

OPSET = 18  # the highest that tf2onnx 1.17 writes


def convert(model: "keras.Model", shape: Sequence[int] = ()) -> onnx.ModelProto:
    """Convert a model to a graph without metadata: `images` uint8 [N, H, W, C] -> `probabilities` float32 [N, K].

    `shape` is that of one image, for a subclassed model, which does not say it.
    """
    import keras  # not above: files can be written and checked without TensorFlow

    if keras.backend.backend() != "tensorflow":
        return _convert_under_tensorflow(model)
    import tensorflow as tf

    images = tf.TensorSpec((None, *(shape or model.input_shape[1:])), tf.uint8, name="images")
    with in_float32(model):
        # A function that returns a dict keeps the name of the output.
        # AutoGraph has nothing to rewrite here, and would need the source of this line.
        answer = tf.function(
            lambda images: {"probabilities": model(images, training=False)}, input_signature=[images], autograph=False
        )
        onnx_model = trace(answer, images)
    return simplify(_clean(onnx_model, model.name))


def trace(answer: Any, images: Any) -> onnx.ModelProto:
    """Convert a `tf.function` of the one tensor `images`. tf2onnx cannot read a Keras 3 model itself."""
    import tf2onnx  # not above: it imports TensorFlow

    onnx_model: onnx.ModelProto
    onnx_model, _ = tf2onnx.convert.from_function(
        answer, input_signature=[images], opset=OPSET, custom_op_handlers={"Erfc": (_write_erfc, [])}
    )
    _add_captures(onnx_model.graph, answer.get_concrete_function(images))
    return onnx_model


def _add_captures(graph: onnx.GraphProto, function: Any) -> None:
    """Make initialisers of the tensors that a function captured, which tf2onnx leaves as further inputs.

    Keras' `Normalization` and `preprocess_input` hold their constants so. Variables are frozen by tf2onnx itself.
    """
    captured = {inner.name: outer for outer, inner in function.graph.captures}
    for value in [value for value in graph.input if value.name in captured]:
        graph.initializer.append(numpy_helper.from_array(captured[value.name].numpy(), value.name))
        graph.input.remove(value)


@contextmanager
def in_float32(model: "keras.Model") -> Iterator[None]:
    """Let all layers of a model compute in float32, in which their weights are, and put their policies back."""
    mixed = {layer: layer.dtype_policy for layer in list_layers(model) if layer.compute_dtype != "float32"}
    for layer in mixed:
        layer.dtype_policy = "float32"
    try:
        yield
    finally:
        for layer, policy in mixed.items():
            layer.dtype_policy = policy


def name_precision(model: "keras.Model") -> str:
    """The dtype policy of the first layer that computes in another type than float32; empty without one."""
    return next((layer.dtype_policy.name for layer in list_layers(model) if layer.compute_dtype != "float32"), "")


def list_layers(model: "keras.Model") -> list[Any]:
    """A model, its layers, and the layers inside of these that hold weights."""
    import keras

    found: dict[int, Any] = {}
    open_ = [model]
    while open_:
        layer = open_.pop()
        if id(layer) not in found:
            found[id(layer)] = layer
            inner = keras.tree.flatten([getattr(layer, "layers", ()), list(vars(layer).values())])
            open_ += [each for each in inner if isinstance(each, keras.Layer)]
    return list(found.values())


def _write_erfc(graph: Any, node: Any, name: str, _: list[Any]) -> None:
    """Write erfc(x) of Keras' GELU as 1 - erf(x), as ONNX has no erfc. tf2onnx calls this with its own graph."""
    erf, one = graph.make_node("Erf", node.input), graph.make_const(f"{name}/one", np.array(1, np.float32))
    shapes, kinds = node.output_shapes, node.output_dtypes
    graph.remove_node(name)
    graph.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=node.output, shapes=shapes, dtypes=kinds)


def _clean(onnx_model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    graph = onnx_model.graph
    graph.name = name
    del graph.value_info[:]  # they can be inferred, and contain another name of the batch dimension
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return onnx_model


def _convert_under_tensorflow(model: "keras.Model") -> onnx.ModelProto:
    """Convert in another process with TensorFlow as backend, because tf2onnx reads only TensorFlow's functions."""
    with tempfile.TemporaryDirectory() as folder:
        saved, converted = Path(folder, "model.keras"), Path(folder, "model.onnx")
        model.save(saved)
        command = [sys.executable, "-m", "train.export.keras_graph", str(saved), str(converted)]
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], check=True)  # noqa: S603  # our own module
        return onnx.load(converted)


def main(arguments: Sequence[str]) -> None:
    """Convert the file `arguments[0]` to the graph `arguments[1]`, for `_convert_under_tensorflow`."""
    import keras

    import train.nets.build  # noqa: F401  # registers our layers with Keras

    saved, converted = arguments
    onnx.save(convert(keras.saving.load_model(saved)), converted)


if __name__ == "__main__":
    main(sys.argv[1:])
