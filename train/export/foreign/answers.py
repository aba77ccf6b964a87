"""What a model's outputs are -> probabilities, in NumPy and at the end of a graph.

Enters: outputs float [N, K] of a model, or an ONNX graph that ends with them. Leaves: the name of their kind, the
probabilities, or a graph that gives these. Does not know: where a model came from, files.
"""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from serve.errors import ModelFileError
from serve.model_file.spec import OUTPUT
from train.evaluation.metrics import Floats

PROBABILITIES, LOGITS, SIGMOIDS, SIGMOID, LOGIT = "probabilities", "logits", "sigmoids", "sigmoid", "logit"
KINDS = {
    PROBABILITIES: "rows from 0 to 1 that sum to 1",
    LOGITS: "scores of any size, made probabilities by a softmax",
    SIGMOIDS: "a share from 0 to 1 for each class, divided by their sum",
    SIGMOID: "one share from 0 to 1, that of the second of two classes",
    LOGIT: "one score of any size, that of the second of two classes, made a share by a sigmoid",
}
"""What the outputs may be, and what is done about it."""
SUM_TOLERANCE = 1e-3
LINEAR = {"Gemm", "MatMul", "Add", "Sub", "Conv", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "LinearRegressor"}
"""Operations whose results are scores, whatever their size."""
MOVING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "DequantizeLinear"}
_LEAST = float(np.finfo(np.float32).tiny)


class NotProbabilities(ModelFileError):
    """The outputs of a model are no probabilities."""


def name_answers(outputs: Floats, graph: onnx.GraphProto) -> str:
    """The kind of outputs float [N, K] of a graph. Raises NotProbabilities for values that are not finite.

    Scores of a few images may all lie between 0 and 1, so the operation that makes them counts, too.
    """
    if not np.isfinite(outputs).all():
        raise NotProbabilities("wanted finite outputs for every image, the model gives NaN or infinity")
    are_shares = bool((outputs >= -SUM_TOLERANCE).all() and (outputs <= 1 + SUM_TOLERANCE).all())
    if are_shares and outputs.shape[1] > 1 and np.abs(outputs.sum(axis=1) - 1).max() <= SUM_TOLERANCE:
        return PROBABILITIES
    are_shares &= find_last_operation(graph) not in LINEAR
    if outputs.shape[1] == 1:
        return SIGMOID if are_shares else LOGIT
    return SIGMOIDS if are_shares else LOGITS


def find_last_operation(graph: onnx.GraphProto) -> str:
    """The operation that makes the values of a graph's first output, before they are moved or cast."""
    makers = {output: node for node in graph.node for output in node.output}
    node = makers.get(graph.output[0].name)
    while node is not None and node.op_type in MOVING:
        node = makers.get(node.input[0])
    return node.op_type if node is not None else ""


def require_kind(kind: str, outputs: Floats, graph: onnx.GraphProto) -> None:
    """Raise NotProbabilities, with their kind, if outputs float [N, K] are said to be probabilities and are none."""
    if kind == PROBABILITIES and (found := name_answers(outputs, graph)) != PROBABILITIES:
        raise NotProbabilities(
            f"the outputs are {found}: wanted {KINDS[PROBABILITIES]}; end the model with a softmax, or pass "
            f'answers="{found}" to have what is missing added to the graph'
        )


def require_values(kind: str, outputs: Floats) -> None:
    """Raise NotProbabilities if outputs float [N, K] cannot be of a kind that somebody says they are."""
    is_bounded = kind in (PROBABILITIES, SIGMOIDS, SIGMOID)
    if is_bounded and (outputs.min() < -SUM_TOLERANCE or outputs.max() > 1 + SUM_TOLERANCE):
        found = f"from {outputs.min():.3g} to {outputs.max():.3g}"
        raise NotProbabilities(f"the outputs are no {kind}: wanted {KINDS[kind]}, got values {found}")
    if kind == PROBABILITIES and np.abs(outputs.sum(axis=1) - 1).max() > SUM_TOLERANCE:
        raise NotProbabilities(f"the outputs are no {kind}: wanted {KINDS[kind]}, got rows of another sum")


def make_probabilities(outputs: Floats, kind: str) -> npt.NDArray[np.float64]:
    """Outputs float [N, K] of a kind -> probabilities float64 [N, K], or [N, 2] for one output."""
    values = outputs.astype(np.float64)
    if kind == LOGITS:
        values = np.exp(values - values.max(axis=1, keepdims=True))
    if kind == LOGIT:
        values = 1 / (1 + np.exp(-values))
    if kind in (SIGMOID, LOGIT):
        return np.concatenate([1 - values, values], axis=1)
    return values / values.sum(axis=1, keepdims=True) if kind in (LOGITS, SIGMOIDS) else values


def add_probabilities(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """A copy of a graph whose only output, float32 [N, K] of a kind, has become `probabilities`."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    values, count = graph.output[0].name, graph.output[0].type.tensor_type.shape.dim[1].dim_value
    if kind == PROBABILITIES and values == OUTPUT:
        return whole
    if values == OUTPUT:
        values = _rename(graph, OUTPUT, "outputs")
    nodes, weights = _END[kind](values)
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    del graph.output[:]
    shape: list[str | int | None] = ["N", 2 if kind in (SIGMOID, LOGIT) else count]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))
    return whole


def add_temperature(model: onnx.ModelProto, temperature: float) -> onnx.ModelProto:
    """A copy of a graph with output `probabilities` whose logits are divided by a temperature."""
    calibrated = onnx.ModelProto()
    calibrated.CopyFrom(model)
    graph = calibrated.graph
    last = next(node for node in graph.node if OUTPUT in node.output)
    scale = numpy_helper.from_array(np.array(1 / temperature, np.float32), "calibration/inverse")
    graph.initializer.append(scale)
    if last.op_type == "Softmax":
        graph.node.remove(last)
        logits, before = last.input[0], []
    else:
        inner = _rename(graph, OUTPUT, "uncalibrated")
        least = numpy_helper.from_array(np.array(_LEAST, np.float32), "calibration/least")
        graph.initializer.append(least)
        before = [
            helper.make_node("Max", [inner, least.name], ["calibration/kept"]),
            helper.make_node("Log", ["calibration/kept"], ["calibration/logits"]),
        ]
        logits = "calibration/logits"
    graph.node.extend([
        *before,
        helper.make_node("Mul", [logits, scale.name], ["calibration/scaled"]),
        helper.make_node("Softmax", ["calibration/scaled"], [OUTPUT], axis=1),
    ])  # fmt: skip
    return calibrated


def find_logits(probabilities: Floats) -> npt.NDArray[np.float64]:
    """Logits float64 [N, K] whose softmax is these probabilities, as far as float32 can tell."""
    return np.log(np.maximum(probabilities.astype(np.float64), _LEAST))


def _rename(graph: onnx.GraphProto, old: str, new: str) -> str:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    return new


def _softmax(values: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    return [helper.make_node("Softmax", [values], [OUTPUT], axis=1)], []


def _keep(values: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    return [helper.make_node("Identity", [values], [OUTPUT])], []


def _share(values: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    normalized = helper.make_node("LpNormalization", [values], [OUTPUT], axis=1, p=1)
    return [normalized], []


def _pair(values: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    one = numpy_helper.from_array(np.array(1, np.float32), "answers/one")
    nodes = [
        helper.make_node("Sub", [one.name, values], ["answers/first"]),
        helper.make_node("Concat", ["answers/first", values], [OUTPUT], axis=1),
    ]
    return nodes, [one]


def _squash(values: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    nodes, weights = _pair("answers/second")
    return [helper.make_node("Sigmoid", [values], ["answers/second"]), *nodes], weights


_END = {PROBABILITIES: _keep, LOGITS: _softmax, SIGMOIDS: _share, SIGMOID: _pair, LOGIT: _squash}
"""The nodes that make probabilities of each kind, and their constants."""
