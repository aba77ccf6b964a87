"""A file of Keras 2 or 3, or a SavedModel folder -> a `Source` that TensorFlow runs as it came.

Enters: a path. Leaves: a `Source`, or Unconvertible with what to do instead. Does not know: images, labels.
"""

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

import train.nets.build  # noqa: F401  # registers our layers with Keras
from train.export.foreign.from_onnx import require_known_operations
from train.export.foreign.source import Array, Source, Tensor, Unconvertible, count_parameters, describe_value
from train.export.keras_graph import in_float32, name_precision, trace
from train.export.simplify import simplify

PACKAGES = ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime")
SAVED_MODEL_WAY = 'load it where it was trained and write a SavedModel folder with model.export("folder")'


class _DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """As Keras 2 wrote it, with a setting that Keras 3 does not take and that never had an effect."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> keras.Layer:
        """Keras 3's own layer."""
        return keras.layers.DepthwiseConv2D(**{key: value for key, value in config.items() if key != "groups"})


OLD_LAYERS = {"DepthwiseConv2D": _DepthwiseConv2D}
"""Layers of Keras 2 that Keras 3 does not load by itself. MobileNets have one."""


def from_keras_file(path: Path, suffix: str) -> Source:
    """Read a whole model in a file of Keras. Raises Unconvertible."""
    if suffix == ".h5":
        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                raise Unconvertible(
                    f"{path} holds weights without their net: wanted a whole model, by model.save(FILE)"
                )
            version = file.attrs.get("keras_version", b"")
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder, "model" + suffix)  # Keras goes by the name
        named.symlink_to(path.resolve())
        try:
            with warnings.catch_warnings(action="ignore"):  # of arguments that were usual when it was written
                model = keras.saving.load_model(named, compile=False, custom_objects=OLD_LAYERS)
        except Exception as error:  # Keras raises any kind of exception for layers that it does not know
            reason = str(error).strip().splitlines()[0]
            raise Unconvertible(
                f"Keras {keras.__version__} cannot load {path} ({reason}); {SAVED_MODEL_WAY}"
            ) from error
    kind = f"a Keras model in a {suffix} file"
    if suffix == ".h5" and version:
        kind += f" of Keras {version.decode() if isinstance(version, bytes) else version}"
    return from_keras_model(model, kind)


def from_keras_model(model: keras.Model, kind: str) -> Source:
    """A loaded Keras model. Raises Unconvertible if it takes several tensors."""
    inputs = [Tensor(each.name, str(each.dtype), tuple(each.shape)) for each in model.inputs]
    _require_one(inputs)
    precision = name_precision(model)
    notes = (f"computed in float32, in training {precision}",) if precision else ()

    def call(images: Any) -> Mapping[str, Any]:
        outputs = model(images, training=False)
        if isinstance(outputs, Mapping):
            return outputs
        flat = keras.tree.flatten(outputs)
        return dict(zip(_name_outputs(model, len(flat)), flat, strict=True))

    with in_float32(model):  # what is traced so stays so
        return _trace(call, inputs[0], kind, notes)


def _name_outputs(model: keras.Model, count: int) -> list[str]:
    names = list(getattr(model, "output_names", ()))
    return names if len(set(names)) == count else [f"output_{index}" for index in range(count)]


def from_saved_model(folder: Path) -> Source:
    """Read the serving signature of a SavedModel. Raises Unconvertible."""
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises any kind of exception
        raise Unconvertible(f"TensorFlow cannot load {folder}: {str(error).splitlines()[0]}") from error
    names = list(loaded.signatures)
    name = next((name for name in ("serving_default", "serve", *names) if name in names), "")
    if not name:
        raise Unconvertible(
            f"{folder} has no signature that can be served; write it with model.export({str(folder)!r})"
        )
    arguments = loaded.signatures[name].structured_input_signature[1]
    inputs = [Tensor(key, each.dtype.name, _read_shape(each.shape)) for key, each in arguments.items()]
    _require_one(inputs)

    def call(images: Any) -> Mapping[str, Any]:
        # By `loaded`, for a signature alone does not keep its variables.
        return loaded.signatures[name](**{inputs[0].name: images})  # type: ignore[no-any-return]

    return _trace(call, inputs[0], f"a SavedModel, signature {name}", ())


def _read_shape(shape: Any) -> tuple[int | None, ...] | None:
    return None if shape.rank is None else tuple(shape.as_list())


def _require_one(inputs: list[Tensor]) -> None:
    if len(inputs) != 1:
        found = ", ".join(map(str, inputs)) or "none"
        raise Unconvertible(f"wanted a model of one input, the images; found {len(inputs)} inputs: {found}")
    if inputs[0].shape is None:
        raise Unconvertible(f"wanted an input whose shape is known, found {inputs[0]}")


def _trace(call: Callable[[Any], Mapping[str, Any]], images: Tensor, kind: str, notes: tuple[str, ...]) -> Source:
    """Convert a function of one tensor that returns tensors by name."""
    signature = tf.TensorSpec(images.shape, images.dtype, name="images")
    function = tf.function(call, input_signature=[signature], autograph=False)
    try:
        graph = simplify(trace(function, signature))
    except Exception as error:  # tf2onnx and TensorFlow raise any kind of exception
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unconvertible(f"tf2onnx cannot convert the model: {reason}") from error
    del graph.graph.value_info[:]
    require_known_operations(graph)

    compiled = tf.function(call, input_signature=[signature], autograph=False, jit_compile=True)

    def run(batch: Array) -> dict[str, Array]:
        try:
            found = function(tf.constant(batch))
        except tf.errors.UnimplementedError:  # channels first: on a CPU, TensorFlow has these operations only compiled
            found = compiled(tf.constant(batch))
        return {name: np.asarray(value) for name, value in found.items()}

    outputs = tuple(map(describe_value, graph.graph.output))
    images = Tensor("images", images.dtype, images.shape)
    return Source(kind, graph, images, outputs, run, count_parameters(graph), PACKAGES, notes)
