"""A fitted Keras model and facts about it -> an ONNX graph with the same answers, in a model.onnx.

Enters: a keras.Model that takes uint8 images, a dataset with a test set, facts for the metadata.
Leaves: `<folder>/model.onnx`, or an exception and no file. Does not know: how the model was fitted, how a graph is made
(`keras_graph.py`), or how a file is sealed and checked (`onnx_file.py`). Importing this module imports no TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serve.errors import ModelFileError
from serve.model_file.folder import NAME_RULE, follows_name_rule
from serve.model_file.spec import COLOUR_CHANNELS, InputSpec, ModelSpec, PrepareSpec
from serve.packages import find_version
from train.data.datasets import Dataset, choose_batch_size
from train.evaluation.metrics import measure_accuracy
from train.export.familiarity.fit import FamiliarityImages, add_familiarity
from train.export.foreign.answers import PROBABILITIES, add_probabilities, make_probabilities, require_kind
from train.export.graph import halve
from train.export.keras_graph import convert, in_float32, name_precision
from train.export.measure.parity import (
    LARGEST_DIFFERENCE,
    Parity,
    find_limit,
    measure_parity,
    require_few_changes,
    require_parity,
)
from train.export.onnx_file import Probabilities, measure_self_test, run_onnx, write_model_file
from train.export.passes.second_view import add_second_view

if TYPE_CHECKING:
    import keras

COLOURS = {channels: colour for colour, channels in COLOUR_CHANNELS.items()}
RECORDED_PACKAGES = ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy")


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
    answers: str = PROBABILITIES,
    limit: float | None = None,
    second_view: "tuple[keras.Model, float] | None" = None,
    familiarity: FamiliarityImages | None = None,
) -> Exported:
    """Convert a model in float32, compare both on the test set, and write `folder`/model.onnx.

    `prepare`, `recipe` and `source_commit` go into the metadata unchanged. With `halves_weights`, large weights are
    rounded to 16 bits after the comparison, and `recipe` says by how much that changed the probabilities. `answers`
    says what the outputs are, if they are no probabilities: "logits", "sigmoids", "sigmoid" or "logit". `limit` is the
    largest difference of a probability; without it, it depends on how sure the answers are. With `second_view`, the
    same model with one view and the confidence below which the graph looks again, the graph saves the second views that
    the model computes for nothing. With `familiarity`, it gets that output. Raises ModelFileError if model and dataset
    do not fit each other or the familiarity cannot be fitted, and ParityFailed.
    """
    dataset = read_dataset(dataset)
    require_shapes(model, dataset, answers)
    outputs = predict_in_float32(model, dataset.test.images)
    onnx_model = convert(second_view[0] if second_view else model, dataset.shape)
    require_kind(answers, outputs, onnx_model.graph)
    expected, onnx_model = make_probabilities(outputs, answers), add_probabilities(onnx_model, answers)
    onnx_model = add_second_view(onnx_model, second_view[1]) if second_view else onnx_model
    probabilities = run_onnx(onnx_model.SerializeToString(), dataset.test.images)
    parity = measure_parity(expected, probabilities, find_limit(expected) if limit is None else limit)
    require_parity(parity)
    recipe = recipe if limit == LARGEST_DIFFERENCE else {**recipe, "parity": asdict(parity)}
    if precision := name_precision(model):
        recipe = {**recipe, "computed_in": f"float32, in training {precision}"}
    if halves_weights:
        onnx_model, exact = halve(onnx_model), probabilities
        probabilities = run_onnx(onnx_model.SerializeToString(), dataset.test.images)
        moved = measure_parity(exact, probabilities)
        require_few_changes(moved)
        recipe = {**recipe, "rounding_parity": asdict(moved)}
    target = InputSpec(dataset.shape, "uint8", COLOURS[dataset.shape[2]])
    familiarity_spec = None
    if familiarity:
        onnx_model, familiarity_spec = add_familiarity(onnx_model, familiarity, target, prepare)
    spec = ModelSpec(
        name=model.name,
        dataset=dataset.name,
        labels=dataset.labels,
        input=target,
        prepare=prepare,
        precision="float32",
        test_accuracy=measure_accuracy(probabilities, dataset.test.labels),
        test_count=len(dataset.test),
        recipe=recipe,
        parameters=model.count_params(),
        created=datetime.now(UTC).replace(microsecond=0),
        source_commit=source_commit,
        versions={package: find_version(package) for package in RECORDED_PACKAGES},
        self_test=measure_self_test(onnx_model, dataset.shape),
        familiarity=familiarity_spec,
    )
    return Exported(write_model_file(onnx_model, spec, folder), spec, parity, probabilities)


def read_dataset(dataset: Dataset) -> Dataset:
    """A dataset with arrays and tuples in their places. Raises ModelFileError if its test set cannot be used."""
    images, labels = np.asarray(dataset.test.images), np.asarray(dataset.test.labels)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ModelFileError(
            f"wanted images uint8 [N, H, W, C] with pixels from 0 to 255, got {images.dtype} {list(images.shape)}; "
            "put their scaling into the model as its first layer"
        )
    if not len(images) or labels.shape != images.shape[:1]:
        raise ModelFileError(
            "wanted at least one test image to compare the graph on, and a label for each, "
            f"got {len(images)} images and labels of shape {list(labels.shape)}"
        )
    if images.shape[3] not in COLOURS:
        raise ModelFileError(f"wanted images of 1 (grey) or 3 channels (RGB), got images of {images.shape[3]}")
    names = {language: tuple(each) for language, each in dataset.labels.items()}
    test = replace(dataset.test, images=images, labels=labels)
    return replace(dataset, test=test, labels=names)


def require_shapes(model: "keras.Model", dataset: Dataset, answers: str = PROBABILITIES) -> None:
    """Raise ModelFileError unless a model has a name, takes the images, and gives a number for each class."""
    if not follows_name_rule(model.name):
        raise ModelFileError(f"wanted a model whose name is {NAME_RULE}; got {model.name!r}")
    class_count = max(2, len(next(iter(dataset.labels.values()))))  # one class alone would always have probability 1
    count = 1 if answers in ("sigmoid", "logit") else class_count
    wanted, found = ((None, *dataset.shape), (None, count)), find_shapes(model, dataset)
    if found != wanted:
        raise ModelFileError("wanted a model from {} to {}, got one from {} to {}".format(*wanted, *found))


def find_shapes(model: "keras.Model", dataset: Dataset) -> tuple[Any, Any]:
    """The shapes of a model's input and output. A subclassed model takes any, and says its output when it is called."""
    try:
        return model.input_shape, model.output_shape
    except (AttributeError, ValueError):
        return (None, *dataset.shape), (None, *model(dataset.test.images[:1], training=False).shape[1:])


def predict_in_float32(model: "keras.Model", images: Any) -> Probabilities:
    """A model's outputs float32 [N, K] for images uint8 [N, H, W, C], computed in float32."""
    import keras  # not above: it imports a backend

    from train.nets.build import predict

    if not name_precision(model):
        return predict(model, images)
    size = choose_batch_size(images)  # uncompiled, for a compiled function keeps the precision that it was made with
    with in_float32(model):
        batches = (images[start : start + size] for start in range(0, len(images), size))
        return np.concatenate([keras.ops.convert_to_numpy(model(batch, training=False)) for batch in batches])
