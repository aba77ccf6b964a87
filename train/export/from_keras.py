"""A fitted Keras model and facts about it -> an ONNX graph with the same answers, in a model.onnx.

Enters: a keras.Model that takes uint8 images, a dataset with a test set, facts for the metadata.
Leaves: `<folder>/model.onnx`, or an exception and no file. Does not know: how the model was fitted, or how a file is
sealed and checked (`onnx_file.py`). Importing this module imports no TensorFlow.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from serve.errors import ModelFileError
from serve.model_file.spec import COLOUR_CHANNELS, InputSpec, ModelSpec, PrepareSpec
from train.data.datasets import Dataset
from train.evaluation.metrics import measure_accuracy
from train.export.graph import halve
from train.export.onnx_file import Probabilities, measure_self_test, run_onnx, write_model_file
from train.export.second_view import add_second_view
from train.export.simplify import simplify

if TYPE_CHECKING:
    import keras

COLOURS = {channels: colour for colour, channels in COLOUR_CHANNELS.items()}
RECORDED_PACKAGES = ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy")
OPSET = 18  # the highest that tf2onnx 1.17 writes
LARGEST_DIFFERENCE = 1e-5
TIE = 2e-5  # two classes closer than twice LARGEST_DIFFERENCE may swap
MOST_CHANGED = 0.002  # share of the images whose class may change when weights are rounded


class ParityFailed(ModelFileError):
    """The ONNX file does not give the probabilities of the Keras model."""


@dataclass(frozen=True, slots=True)
class Parity:
    """The difference between two models on the same images, such as a Keras model and its ONNX graph."""

    largest_difference: float
    """Largest difference of a probability, over all images and classes."""
    changed_classes: int
    """Images whose top class differs although the top two probabilities are at least TIE apart."""
    image_count: int


@dataclass(frozen=True, slots=True)
class Exported:
    """The file of an export, and what was measured on the way."""

    path: Path
    spec: ModelSpec
    parity: Parity
    probabilities: Probabilities
    """Probabilities float32 [N, K] of the test set, by the ONNX file."""


def export(
    model: "keras.Model",
    dataset: Dataset,
    folder: Path,
    *,
    prepare: PrepareSpec,
    recipe: Mapping[str, Any],
    source_commit: str = "unknown",
    halves_weights: bool = False,
    second_view: "tuple[keras.Model, float] | None" = None,
) -> Exported:
    """Convert a float32 model, compare both on the test set, and write `folder`/model.onnx.

    `prepare`, `recipe` and `source_commit` go into the metadata unchanged. With `halves_weights`, large weights are
    rounded to 16 bits after the comparison, and `recipe` says by how much that changed the probabilities. With
    `second_view`, the same model with one view and the confidence below which the graph looks again, the graph saves
    the second views that the model computes for nothing. Raises ModelFileError if the shapes of model and dataset
    differ, and ParityFailed.
    """
    from train.nets.build import predict  # not above: it imports Keras, as convert() does

    require_shapes(model, dataset)
    onnx_model = add_second_view(convert(second_view[0]), second_view[1]) if second_view else convert(model)
    probabilities = run_onnx(onnx_model.SerializeToString(), dataset.test.images)
    parity = measure_parity(predict(model, dataset.test.images), probabilities)
    require_parity(parity)
    if halves_weights:
        onnx_model, exact = halve(onnx_model), probabilities
        probabilities = run_onnx(onnx_model.SerializeToString(), dataset.test.images)
        moved = measure_parity(exact, probabilities)
        require_few_changes(moved)
        recipe = {**recipe, "rounding_parity": asdict(moved)}
    spec = ModelSpec(
        name=model.name,
        dataset=dataset.name,
        labels=dataset.labels,
        input=InputSpec(dataset.shape, "uint8", COLOURS[dataset.shape[2]]),
        prepare=prepare,
        precision="float32",
        test_accuracy=measure_accuracy(probabilities, dataset.test.labels),
        test_count=len(dataset.test),
        recipe=recipe,
        parameters=model.count_params(),
        created=datetime.now(UTC).replace(microsecond=0),
        source_commit=source_commit,
        versions={package: version(package) for package in RECORDED_PACKAGES},
        self_test=measure_self_test(onnx_model, dataset.shape),
    )
    return Exported(write_model_file(onnx_model, spec, folder), spec, parity, probabilities)


def require_shapes(model: "keras.Model", dataset: Dataset) -> None:
    """Raise ModelFileError unless a model takes the dataset's images and gives a probability for each class."""
    class_count = max(2, len(next(iter(dataset.labels.values()))))  # one class alone would always have probability 1
    wanted, found = ((None, *dataset.shape), (None, class_count)), (model.input_shape, model.output_shape)
    if found != wanted:
        raise ModelFileError("wanted a model from {} to {}, got one from {} to {}".format(*wanted, *found))


def convert(model: "keras.Model") -> onnx.ModelProto:
    """Convert a model to a graph without metadata: `images` uint8 [N, H, W, C] -> `probabilities` float32 [N, K]."""
    import keras  # not above: files can be written and checked without TensorFlow

    if keras.backend.backend() != "tensorflow":
        return _convert_under_tensorflow(model)
    import tensorflow as tf
    import tf2onnx

    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name="images")
    # tf2onnx cannot read a Keras 3 model itself. A function that returns a dict keeps the name of the output.
    # AutoGraph has nothing to rewrite here, and would need the source of this line.
    answer = tf.function(
        lambda images: {"probabilities": model(images, training=False)}, input_signature=[images], autograph=False
    )
    onnx_model, _ = tf2onnx.convert.from_function(
        answer, input_signature=[images], opset=OPSET, custom_op_handlers={"Erfc": (_write_erfc, [])}
    )
    return simplify(_clean(onnx_model, model.name))


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
        command = [sys.executable, "-m", "train.export.from_keras", str(saved), str(converted)]
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], check=True)  # noqa: S603  # our own module
        return onnx.load(converted)


def measure_parity(expected: Probabilities, found: Probabilities) -> Parity:
    """Compare probabilities float [N, K] of two models for the same images."""
    lowest, highest = np.sort(expected, axis=1)[:, -2:].T
    changed = expected.argmax(axis=1) != found.argmax(axis=1)
    return Parity(
        largest_difference=float(np.abs(expected - found).max()),
        changed_classes=int(np.sum(changed & (highest - lowest >= TIE))),
        image_count=len(expected),
    )


def require_parity(parity: Parity) -> None:
    """Raise ParityFailed if a graph differs too much from its Keras model."""
    # `not <=`, so that NaN fails too.
    if not parity.largest_difference <= LARGEST_DIFFERENCE or parity.changed_classes:
        raise ParityFailed(
            f"the ONNX graph differs from the Keras model: wanted probabilities within {LARGEST_DIFFERENCE} and the "
            f"same classes, found a difference of {parity.largest_difference:.3g} and another class in "
            f"{parity.changed_classes} of {parity.image_count} images; nothing was written"
        )


def require_few_changes(moved: Parity) -> None:
    """Raise ParityFailed if rounding the weights changed the class of too many images."""
    if not moved.changed_classes <= MOST_CHANGED * moved.image_count:
        raise ParityFailed(
            f"16 bits are too few for these weights: wanted another class in at most {MOST_CHANGED:.1%} of the images, "
            f"found {moved.changed_classes} in {moved.image_count}; nothing was written"
        )


def main(arguments: Sequence[str]) -> None:
    """Convert the file `arguments[0]` to the graph `arguments[1]`, for `_convert_under_tensorflow`."""
    import keras

    import train.nets.build  # noqa: F401  # registers our layers with Keras

    saved, converted = arguments
    onnx.save(convert(keras.saving.load_model(saved)), converted)


if __name__ == "__main__":
    main(sys.argv[1:])
