"""A graph, and images that belong and that do not -> the same graph with a second output, `familiarity` float32 [N].

Enters: an onnx.ModelProto that gives probabilities; training, held-out and test images uint8 [N, H, W, C]. Leaves: a
copy with nodes behind the values that its last layer takes, and the `FamiliaritySpec` for its metadata.
Does not know: Keras, how images are drawn anew, or files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from serve.errors import ModelFileError
from serve.model_file.familiarity import FAMILIARITY, FamiliaritySpec, StrangerFigures
from serve.model_file.spec import OUTPUT, InputSpec, PrepareSpec
from train.data.datasets import Images
from train.data.strangers import make_strangers
from train.evaluation.familiarity import LEAST_HELD_OUT, Distance, Table, choose_way, fit_table, measure_roc_auc
from train.evaluation.metrics import Integers
from train.export.familiarity.nodes import Layer, append_nodes, remove_familiarity
from train.export.onnx_file import run_outputs

THRESHOLD = 0.01  # of the figures in the card
STRANGERS = 250  # made images of each kind

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FamiliarityImages:
    """What a familiarity is fitted to and measured on. All are inputs of the model, uint8 [N, H, W, C]."""

    fitted: Sequence[tuple[Images, Integers]]
    """Training images with their labels: as they are, and drawn anew as people draw."""
    held_out: Sequence[Images]
    """Held-out images as they are, and then drawn anew, any number of times. The first count half in the table."""
    test: Images
    """Test images, on which only a figure of the card is measured."""


def add_familiarity(
    model: onnx.ModelProto,
    images: FamiliarityImages,
    target: InputSpec,
    prepare: PrepareSpec,
    stranger_count: int = STRANGERS,
) -> tuple[onnx.ModelProto, FamiliaritySpec]:
    """Choose, fit and calibrate a distance, and write it into a copy. An output that is there is made anew.

    Raises ModelFileError if the graph has no last layer of which the values are known, or too few images are held out.
    """
    bare = remove_familiarity(model)
    layer = find_last_layer(bare)
    if len(images.held_out[0]) < LEAST_HELD_OUT:
        raise ModelFileError(f"wanted at least {LEAST_HELD_OUT} held-out images, found {len(images.held_out[0])}")
    made = make_strangers(images.held_out[0], target, prepare, count=stranger_count)
    read = FeatureReader(bare, layer)
    labels = np.concatenate([labels for _, labels in images.fitted])
    known = weigh_views([read(each) for each in images.held_out])
    strangers = {kind: read(each) for kind, each in made.items()}
    try:
        name, distance = choose_way(
            (read(np.concatenate([each for each, _ in images.fitted])), labels), known, list(strangers.values())
        )
        table = fit_table(distance.measure(known))
    except ValueError as error:
        raise ModelFileError(f"the familiarity cannot be fitted: {error}") from error
    spec = FamiliaritySpec(
        method=name,
        held_out_count=len(images.held_out[0]),
        threshold=THRESHOLD,
        turned_away=_measure_share_below(table, distance, read(images.test)),
        strangers={
            kind: StrangerFigures(
                measure_roc_auc(distance.measure(known), distance.measure(features)),
                _measure_share_below(table, distance, features),
            )
            for kind, features in strangers.items()
        },
    )
    return append_nodes(bare, Layer(layer, read.passes, read.is_half), distance, table), spec


def measure_familiarity(
    model: onnx.ModelProto, images: FamiliarityImages, target: InputSpec, prepare: PrepareSpec, method: str
) -> FamiliaritySpec:
    """The figures of an output `familiarity` that a graph has."""
    data = model.SerializeToString()

    def read(given: Images) -> npt.NDArray[np.float32]:
        return np.concatenate([batch for (batch,) in run_outputs(data, given, [FAMILIARITY])])

    known = np.concatenate([read(each) for each in images.held_out])
    made = {
        kind: read(each) for kind, each in make_strangers(images.held_out[0], target, prepare, count=STRANGERS).items()
    }
    return FamiliaritySpec(
        method=method,
        held_out_count=len(images.held_out[0]),
        threshold=THRESHOLD,
        turned_away=float((read(images.test) < THRESHOLD).mean()),
        strangers={
            kind: StrangerFigures(measure_roc_auc(-known, -found), float((found < THRESHOLD).mean()))
            for kind, found in made.items()
        },
    )


def weigh_views(views: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """What was found of each view of the held-out images, as a table takes it: the first counts as all others do."""
    plain, *redrawn = views
    return np.concatenate([plain] * max(1, len(redrawn)) + redrawn)


def _measure_share_below(table: Table, distance: Distance, features: Features) -> float:
    return float((table.look_up(distance.measure(features)) < THRESHOLD).mean())


def find_last_layer(model: onnx.ModelProto) -> str:
    """The name of the values that the last product with weights takes. Raises ModelFileError."""
    makers = {name: node for node in model.graph.node for name in node.output}
    name = OUTPUT
    while node := makers.get(name):
        if node.op_type in ("Gemm", "MatMul"):
            return node.input[0]
        name = next((each for each in node.input if each in makers), "")
    raise ModelFileError("wanted a graph that ends with a layer of weights, found no product before its output")


class FeatureReader:
    """Runs a graph up to its last layer: images uint8 [N, H, W, C] -> features float32 [N, D]."""

    def __init__(self, model: onnx.ModelProto, layer: str) -> None:
        probe = onnx.ModelProto()
        probe.CopyFrom(model)
        del probe.graph.output[:]
        probe.graph.output.append(helper.make_empty_tensor_value_info(layer))
        self._data, self._layer = probe.SerializeToString(), layer
        shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim[1:]]
        (found,) = next(run_outputs(self._data, np.zeros((1, *shape), np.uint8), [layer]))
        if found.ndim != 2:
            raise ModelFileError(f"wanted features [N, D] before the last layer, found {list(found.shape)}")
        self.passes = len(found)
        """How often an image passes the net: twice, if its mirror image does too. Features are the mean."""
        self.is_half = found.dtype == np.float16

    def __call__(self, images: Images) -> Features:
        """The features of images."""
        batches = (batch for (batch,) in run_outputs(self._data, images, [self._layer]))
        shaped = (batch.astype(np.float32).reshape(self.passes, -1, batch.shape[1]) for batch in batches)
        return np.concatenate([each.mean(axis=0) for each in shaped])
