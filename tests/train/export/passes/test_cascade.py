"""`train.export.passes.cascade`: the second net answers where the first is unsure, and nowhere else."""

import keras
import numpy as np
import onnx
import pytest
from onnx import helper

from serve.errors import ModelFileError
from serve.model_file.spec import OUTPUT
from train.data.datasets import Dataset, Part
from train.evaluation.cascade import answer_by_both, choose_cascade
from train.export.graph import halve
from train.export.keras_graph import convert
from train.export.measure.cost import count_multiply_adds
from train.export.onnx_file import run_onnx
from train.export.passes.cascade import Parts, join, split
from train.export.passes.second_view import add_second_view
from train.export.variants import convert as convert_variant
from train.nets.build import build
from train.recipes.net import Conv, Flatten, GlobalMax, NormConv, Pool

SHAPE, COUNT = (12, 12, 3), 40


def draw_images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8)


def run(graph: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    return run_onnx(graph.SerializeToString(), images)


@pytest.fixture(scope="module")
def parts() -> Parts:
    """Two nets whose layers have the same names, and a threshold in the widest gap of the middle third."""
    keras.utils.set_random_seed(0)
    nets = (Conv(4), Conv(4), Pool(), Flatten()), (NormConv(8), NormConv(8), GlobalMax())
    first, second = (convert(build(net, SHAPE, 3)) for net in nets)
    confidence = np.sort(run(first, draw_images()).max(axis=1))
    gaps = np.diff(confidence[COUNT // 3 : 2 * COUNT // 3])
    widest = COUNT // 3 + int(gaps.argmax())
    return Parts(first, second, float(confidence[widest : widest + 2].mean()))


def test_the_second_net_answers_where_the_first_is_unsure(parts: Parts) -> None:
    graph = join(parts)
    onnx.checker.check_model(graph, full_check=True)
    first, second = (run(each, draw_images()) for each in (parts.first, parts.second))
    is_unsure = first.max(axis=1) < parts.below
    assert 0 < is_unsure.sum() < COUNT
    np.testing.assert_allclose(run(graph, draw_images()), np.where(is_unsure[:, None], second, first), atol=1e-6)


@pytest.mark.parametrize(("below", "answering"), [(0.0, 0), (1.1, 1)], ids=["none", "all"])
@pytest.mark.parametrize("count", [1, COUNT])
def test_none_or_all_of_a_batch_may_be_unsure(parts: Parts, below: float, answering: int, count: int) -> None:
    images = draw_images()[:count]
    found = run(join(parts._replace(below=below)), images)
    np.testing.assert_allclose(found, run(parts[answering], images), atol=1e-6)


def test_an_answer_does_not_depend_on_the_images_beside_it(parts: Parts) -> None:
    graph = join(parts)
    alone = np.concatenate([run(graph, draw_images()[at : at + 1]) for at in range(COUNT)])
    np.testing.assert_allclose(run(graph, draw_images()), alone, atol=1e-5)


def test_a_cascade_is_taken_apart_into_its_nets(parts: Parts) -> None:
    halved = Parts(*(halve(each, least_size=16) for each in parts[:2]), parts.below)
    for each in (parts, halved, parts._replace(second=add_second_view(parts.second, 0.5))):
        found = split(join(each))
        assert found is not None
        assert found.below == np.float32(parts.below)
        for before, after in zip(each[:2], found[:2], strict=True):
            onnx.checker.check_model(after, full_check=True)
            assert [node.name for node in after.graph.node] == [node.name for node in before.graph.node]
            np.testing.assert_array_equal(run(after, draw_images()), run(before, draw_images()))
    assert split(parts.first) is None


def test_what_was_added_to_a_cascade_stays_with_its_first_net(parts: Parts) -> None:
    graph = join(parts)
    graph.graph.node.append(helper.make_node("ReduceMax", ["cascade/first"], ["familiarity"], "familiarity/max"))
    graph.graph.output.append(helper.make_tensor_value_info("familiarity", onnx.TensorProto.FLOAT, None))
    found = split(graph)
    assert found is not None
    assert [[output.name for output in each.graph.output] for each in found[:2]] == [[OUTPUT, "familiarity"], [OUTPUT]]
    np.testing.assert_array_equal(run(found.second, draw_images()), run(parts.second, draw_images()))


def test_the_second_net_counts_for_its_share(parts: Parts) -> None:
    first, second = (count_multiply_adds(each) for each in parts[:2])
    assert count_multiply_adds(join(parts), 0.25) == round(first + 0.25 * second)


def test_each_net_is_converted_by_itself(parts: Parts) -> None:
    part = Part.whole(draw_images(), np.zeros(COUNT, np.int64))
    dataset = Dataset("noise", part, part, part, {"en": ("a", "b", "c")})
    found = split(convert_variant(join(parts), "int8", dataset))
    assert found is not None
    for before, after in zip(parts[:2], found[:2], strict=True):
        assert any("QuantizeLinear" in node.op_type or "Integer" in node.op_type for node in after.graph.node)
        alone = convert_variant(before, "int8", dataset)
        np.testing.assert_allclose(run(after, draw_images()), run(alone, draw_images()), atol=1e-5)


def test_a_net_of_an_older_operation_set_is_raised(parts: Parts) -> None:
    """The second net has an operation that only newer sets have."""
    versions = [each.opset_import[0].version for each in parts[:2]]
    assert versions[0] < versions[1] == join(parts).opset_import[0].version


def test_a_net_that_cannot_be_raised_is_refused(parts: Parts) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(parts.first)
    other.graph.node.append(helper.make_node("Unheard", ["images"], ["nothing"]))
    with pytest.raises(ModelFileError, match=r"wanted two nets of opset .* no converter takes"):
        join(parts._replace(first=other))


def test_a_net_with_a_branch_is_refused(parts: Parts) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(parts.second)
    empty = helper.make_graph([], "empty", [], [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, None)])
    other.graph.node.append(helper.make_node("If", ["condition"], ["either"], then_branch=empty, else_branch=empty))
    with pytest.raises(ModelFileError, match="without branches and loops, found the operation If"):
        join(parts._replace(second=other))


def test_the_least_sure_share_of_the_held_out_images_is_asked_again() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 400)
    first, second = (random.dirichlet([0.7] * 3, 400) for _ in range(2))
    found = choose_cascade(first, second, labels, 0.25)
    asked = np.argsort(first.max(axis=1))[:100]
    assert found.share == 0.25
    assert set(asked) == set(np.flatnonzero(first.max(axis=1) < found.below))
    answers = first.argmax(axis=1)
    answers[asked] = second.argmax(axis=1)[asked]
    assert found.accuracy == np.mean(answers == labels)
    assert (found.accuracy_of_first, found.accuracy_of_second) == (
        np.mean(first.argmax(axis=1) == labels),
        np.mean(second.argmax(axis=1) == labels),
    )
    np.testing.assert_array_equal(answer_by_both(first, second, found.below).argmax(axis=1), answers)
