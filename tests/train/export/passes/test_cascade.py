"""`train.export.passes.cascade`: the second net answers where the first is unsure, and nowhere else."""

import keras
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from serve.errors import ModelFileError
from serve.model_file.familiarity import FAMILIARITY
from serve.model_file.spec import OUTPUT
from train.data.datasets import Dataset, Part
from train.evaluation.calibration import measure_calibration_error
from train.evaluation.familiarity import Table
from train.evaluation.passes.cascade import answer_by_both, choose_cascade
from train.evaluation.passes.joint_familiarity import WAYS, JointFamiliarity, Seen, combine
from train.export.graph import halve
from train.export.keras_graph import convert
from train.export.measure.cost import count_multiply_adds
from train.export.onnx_file import run_onnx, run_outputs
from train.export.passes.cascade import AXES_AS_INPUT, Parts, join, split
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
    return Parts(first, second, float(confidence[widest : widest + 2].mean()), 0.6, 1.3)


def test_both_nets_answer_where_the_first_is_unsure(parts: Parts) -> None:
    graph = join(parts)
    onnx.checker.check_model(graph, full_check=True)
    first, second = (run(each, draw_images()) for each in (parts.first, parts.second))
    is_unsure = first.max(axis=1) < parts.below
    assert 0 < is_unsure.sum() < COUNT
    raised = (0.4 * first + 0.6 * second) ** 1.3
    wanted = np.where(is_unsure[:, None], raised / raised.sum(axis=1, keepdims=True), first)
    np.testing.assert_allclose(run(graph, draw_images()), wanted, atol=1e-6)
    np.testing.assert_allclose(answer_by_both(first, second, *parts[2:5]), wanted, atol=1e-6)


@pytest.mark.parametrize(("below", "answering"), [(0.0, 0), (1.1, 1)], ids=["none", "all"])
@pytest.mark.parametrize("count", [1, COUNT])
def test_none_or_all_of_a_batch_may_be_unsure(parts: Parts, below: float, answering: int, count: int) -> None:
    images = draw_images()[:count]
    found = run(join(parts._replace(below=below, weight=1.0, power=1.0)), images)
    np.testing.assert_allclose(found, run(parts[answering], images), atol=1e-6)


def test_an_answer_does_not_depend_on_the_images_beside_it(parts: Parts) -> None:
    graph = join(parts)
    alone = np.concatenate([run(graph, draw_images()[at : at + 1]) for at in range(COUNT)])
    np.testing.assert_allclose(run(graph, draw_images()), alone, atol=1e-5)


def test_a_cascade_is_taken_apart_into_its_nets(parts: Parts) -> None:
    halved = Parts(*(halve(each, least_size=16) for each in parts[:2]), *parts[2:])
    for each in (parts, halved, parts._replace(second=add_second_view(parts.second, 0.5))):
        found = split(join(each))
        assert found is not None
        assert found[2:5] == tuple(float(np.float32(number)) for number in parts[2:5])
        for before, after in zip(each[:2], found[:2], strict=True):
            onnx.checker.check_model(after, full_check=True)
            assert [node.name for node in after.graph.node] == [node.name for node in before.graph.node]
            np.testing.assert_array_equal(run(after, draw_images()), run(before, draw_images()))
    assert split(parts.first) is None


@pytest.mark.parametrize("way", WAYS)
def test_the_familiarity_of_both_nets_becomes_one_by_a_way_and_a_table(parts: Parts, way: str) -> None:
    table = Table(np.array([0.0, 0.3, 0.8, 1.0]), np.array([1.0, 0.6, 0.2, 0.0]))
    joint = JointFamiliarity(way, table)
    graph = join(parts._replace(first=add_highest(parts.first), second=add_highest(parts.second), familiarity=joint))
    onnx.checker.check_model(graph, full_check=True)
    first, second = (run(each, draw_images()).max(axis=1) for each in parts[:2])
    (found,) = next(run_outputs(graph.SerializeToString(), draw_images(), [FAMILIARITY]))
    values = combine(Seen(first, second, first < parts.below), way)
    np.testing.assert_allclose(found, table.look_up(1 - values), atol=1e-5)
    taken_apart = split(graph)
    assert taken_apart is not None
    for before, after in zip((parts.first, parts.second), taken_apart[:2], strict=True):
        onnx.checker.check_model(after, full_check=True)
        assert [output.name for output in after.graph.output] == [OUTPUT, FAMILIARITY]
        assert [node.name for node in after.graph.node] == [node.name for node in add_highest(before).graph.node]


def test_there_is_no_familiarity_without_a_way(parts: Parts) -> None:
    graph = join(parts._replace(first=add_highest(parts.first)))
    onnx.checker.check_model(graph, full_check=True)
    assert [output.name for output in graph.graph.output] == [OUTPUT]


def add_highest(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose output `familiarity` is the highest probability."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "familiarity/axis"))
    node = helper.make_node("ReduceMax", [OUTPUT, "familiarity/axis"], [FAMILIARITY], "familiarity/max", keepdims=0)
    if copy.opset_import[0].version < AXES_AS_INPUT:
        node = helper.make_node("ReduceMax", [OUTPUT], [FAMILIARITY], "familiarity/max", keepdims=0, axes=[1])
    copy.graph.node.append(node)
    copy.graph.output.append(helper.make_tensor_value_info(FAMILIARITY, onnx.TensorProto.FLOAT, ["N"]))
    return copy


def test_the_second_net_counts_for_its_share(parts: Parts) -> None:
    first, second = (count_multiply_adds(each) for each in parts[:2])
    assert count_multiply_adds(join(parts), 0.25) == round(first + 0.25 * second)


def test_a_cascade_is_not_converted_as_a_whole(parts: Parts) -> None:
    part = Part.whole(draw_images(), np.zeros(COUNT, np.int64))
    with pytest.raises(ModelFileError, match="found a cascade; convert both nets"):
        convert_variant(join(parts), "int8", Dataset("noise", part, part, part, {"en": ("a", "b", "c")}))


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
    found = choose_cascade(first, second, labels, 0.25, weight=1.0)
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
    np.testing.assert_array_equal(answer_by_both(first, second, found.below, 1.0, found.power).argmax(axis=1), answers)


def test_the_power_makes_unsure_means_as_sure_as_they_are_right() -> None:
    """Both nets know the class equally well, so that their mean is right more often than it says."""
    random = np.random.default_rng(2)
    labels = random.integers(0, 3, 4000)
    nets = [np.eye(3)[labels] + random.normal(0, 0.9, (4000, 3)) for _ in range(2)]
    first, second = (np.exp(each / 0.81) / np.exp(each / 0.81).sum(axis=1, keepdims=True) for each in nets)
    found = choose_cascade(first, second, labels, 0.9, weight=0.5)
    errors = [
        measure_calibration_error(answer_by_both(first, second, found.below, 0.5, power), labels)
        for power in (1.0, found.power)
    ]
    assert found.power > 1.2
    assert errors[1] < 0.5 * errors[0]
