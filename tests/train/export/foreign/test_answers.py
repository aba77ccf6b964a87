"""`train.export.foreign.answers`: what outputs are by their values, and how they become probabilities."""

import numpy as np
import numpy.typing as npt
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

from train.export.foreign.answers import (
    KINDS,
    NotProbabilities,
    add_probabilities,
    add_temperature,
    find_logits,
    make_probabilities,
    name_answers,
)
from train.export.onnx_file import run_onnx

SCORES = np.array([[3, -2, 1], [0.5, 0.25, -40]], np.float32)


def make_graph(operation: str, columns: int = 3, output: str = "answers") -> onnx.ModelProto:
    """A graph that sends bytes [N, 1, 1, columns] less 100 through an operation, and moves the result."""
    offset = numpy_helper.from_array(np.array(-100, np.float32), "offset")
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["floats", "offset"], ["moved"]),
        helper.make_node(operation, ["moved"], ["made"]),
        helper.make_node("Flatten", ["made"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "bytes",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 1, 1, columns])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", columns])],
        [offset],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, levels: npt.ArrayLike) -> npt.NDArray[np.float32]:
    rows = np.asarray(levels, np.uint8)
    return run_onnx(model.SerializeToString(), rows.reshape(len(rows), 1, 1, -1))


@pytest.mark.parametrize(
    ("outputs", "operation", "kind"),
    [
        ([[0.2, 0.3, 0.5]], "Softmax", "probabilities"),
        ([[0.2, 0.3, 0.5]], "Identity", "probabilities"),
        ([[3.0, -2.0, 1.0]], "Identity", "logits"),
        ([[0.2, 0.9, 0.9]], "Sigmoid", "sigmoids"),
        ([[0.7]], "Sigmoid", "sigmoid"),
        ([[7.0]], "Identity", "logit"),
    ],
)
def test_outputs_are_known_by_their_values(outputs: list[list[float]], operation: str, kind: str) -> None:
    assert name_answers(np.array(outputs), make_graph(operation).graph) == kind


def test_scores_that_happen_to_lie_between_0_and_1_are_known_by_what_makes_them() -> None:
    graph = make_graph("Identity").graph
    assert name_answers(np.array([[0.2, 0.9, 0.9]]), graph) == "logits", "the sum before is linear"
    assert name_answers(np.array([[0.7]]), graph) == "logit"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(NotProbabilities, match="the model gives NaN or infinity"):
        name_answers(np.array([[value, 1.0]]), make_graph("Identity").graph)


@pytest.mark.parametrize(
    ("kind", "operation", "columns"),
    [
        ("probabilities", "Softmax", 3),
        ("logits", "Identity", 3),
        ("sigmoids", "Sigmoid", 3),
        ("sigmoid", "Sigmoid", 1),
        ("logit", "Identity", 1),
    ],
)
def test_a_graph_gives_the_probabilities_that_numpy_gives(kind: str, operation: str, columns: int) -> None:
    """Also a graph that calls its outputs probabilities, whatever they are."""
    assert kind in KINDS
    levels = np.random.default_rng(0).integers(90, 110, (5, columns))
    for output in ("answers", "probabilities"):
        bare = make_graph(operation, columns, output)
        session = onnx.reference.ReferenceEvaluator(bare)
        (outputs,) = session.run(None, {"images": levels.astype(np.uint8).reshape(5, 1, 1, -1)})
        whole = add_probabilities(bare, kind)
        onnx.checker.check_model(whole, full_check=True)
        found = run(whole, levels)
        np.testing.assert_allclose(found, make_probabilities(outputs, kind), atol=5e-5)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("kind", "operation"), [("logits", "Identity"), ("sigmoids", "Sigmoid")])
def test_a_temperature_divides_the_logits(kind: str, operation: str) -> None:
    """Before the softmax where there is one, else by the logarithm of the probabilities."""
    levels = np.random.default_rng(0).integers(95, 105, (5, 3))
    plain = add_probabilities(make_graph(operation), kind)
    found = run(add_temperature(plain, 2.5), levels)
    wanted = make_probabilities(find_logits(run(plain, levels)) / 2.5, "logits")
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_log_probabilities_are_logits() -> None:
    probabilities = make_probabilities(SCORES, "logits")
    np.testing.assert_allclose(make_probabilities(np.log(probabilities), "logits"), probabilities)
