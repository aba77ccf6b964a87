"""`train.export.passes.second_view`: a graph looks again at unsure images, and answers as the Keras model."""

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from serve.errors import ModelFileError
from serve.model_file.spec import PrepareSpec
from tests.support import make_graph
from train.data.datasets import Dataset, Part
from train.evaluation.calibration import Calibration, apply_softmax
from train.evaluation.passes.second_view import measure_confidence
from train.export.from_keras import convert, export
from train.export.graph import halve
from train.export.onnx_file import run_onnx
from train.export.passes.second_view import PREFIX, add_second_view, remove_second_view
from train.export.variants import convert as convert_variant
from train.nets.build import build, complete, predict, take_logits
from train.recipes.net import Conv, Dense, Flatten, GlobalMax, Net, NormConv, Pool, Residual, Whitening

SHAPE = (12, 12, 3)
NORMED = (Whitening(), NormConv(8, pooled=True), Residual(8), GlobalMax())
PLAIN = (Conv(8), Pool(), Flatten(), Dense(8))
CALIBRATION = Calibration(0.7, 0.1, 0.01, smoothing=0.2)
COUNT = 40


def draw_images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8)


def make_model(net: Net) -> tuple[keras.Model, float]:
    """A model, and a threshold in the widest gap between the confidences of the middle third of its answers."""
    keras.utils.set_random_seed(0)
    model = build(net, SHAPE, 3)
    confidence = np.sort(measure_confidence(predict(take_logits(model), draw_images())))
    gaps = np.diff(confidence[COUNT // 3 : 2 * COUNT // 3])
    widest = COUNT // 3 + int(gaps.argmax())
    return model, float(confidence[widest : widest + 2].mean())


def run(graph: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    return run_onnx(graph.SerializeToString(), images)


@pytest.mark.parametrize("net", [NORMED, PLAIN], ids=["normed", "plain"])
def test_unsure_images_get_the_mean_of_both_views_and_others_one(net: Net) -> None:
    model, below = make_model(net)
    graph = add_second_view(convert(complete(model, calibration=CALIBRATION)), below)
    onnx.checker.check_model(graph, full_check=True)
    found = run(graph, draw_images())
    once, twice, both = (
        predict(complete(model, calibration=CALIBRATION, **how), draw_images())
        for how in ({}, {"mirrors": True}, {"below": below})
    )
    is_unsure = measure_confidence(predict(take_logits(model), draw_images())) < below
    np.testing.assert_allclose(found, np.where(is_unsure[:, None], twice, once), atol=1e-5)
    np.testing.assert_allclose(found, both, atol=1e-5)
    assert 0 < is_unsure.sum() < COUNT


@pytest.mark.parametrize(("below", "mirrors"), [(0.0, False), (1.1, True)], ids=["none", "all"])
@pytest.mark.parametrize("count", [1, COUNT])
def test_none_or_all_of_a_batch_may_be_unsure(below: float, mirrors: bool, count: int) -> None:
    model, _ = make_model(NORMED)
    images = draw_images()[:count]
    expected = predict(complete(model, mirrors=mirrors), images)
    np.testing.assert_allclose(run(add_second_view(convert(model), below), images), expected, atol=1e-5)


def test_an_answer_does_not_depend_on_the_images_beside_it() -> None:
    model, below = make_model(NORMED)
    graph = add_second_view(convert(model), below)
    alone = np.concatenate([run(graph, draw_images()[at : at + 1]) for at in range(COUNT)])
    np.testing.assert_allclose(run(graph, draw_images()), alone, atol=1e-5)


def test_both_views_share_their_weights() -> None:
    model, below = make_model(NORMED)
    once = convert(model)
    twice = add_second_view(once, below)
    sizes = [sum(np.prod(tensor.dims) for tensor in graph.graph.initializer) for graph in (once, twice)]
    assert sizes[1] < sizes[0] + 10


def test_a_second_view_can_be_taken_away_again() -> None:
    model, below = make_model(NORMED)
    once = convert(complete(model, calibration=CALIBRATION))
    back, found = remove_second_view(add_second_view(once, below))
    assert found == np.float32(below)
    assert not [node for node in back.graph.node if node.name.startswith(PREFIX)]
    np.testing.assert_array_equal(run(back, draw_images()), run(once, draw_images()))
    assert remove_second_view(once)[1] is None


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_a_variant_has_the_threshold_and_converted_weights_for_both_views(precision: str) -> None:
    model, below = make_model(NORMED)
    part = Part.whole(draw_images(), np.zeros(COUNT, np.int64))
    dataset = Dataset("noise", part, part, part, {"en": ("a", "b", "c")})
    graph = halve(add_second_view(convert(model), below), least_size=64)
    variant = convert_variant(graph, precision, dataset)
    onnx.checker.check_model(variant, full_check=True)
    once, found = remove_second_view(variant)
    assert found == np.float32(below)
    for images in (draw_images(), draw_images()[:1]):
        first, mirrored = (run(once, views).astype(np.float64) for views in (images, images[:, :, ::-1]))
        both = apply_softmax((np.log(first) + np.log(mirrored)) / 2)
        expected = np.where(first.max(axis=1, keepdims=True) < below, both, first)
        np.testing.assert_allclose(run(variant, images), expected, atol=5e-3)


def test_a_graph_without_a_product_of_weights_is_refused() -> None:
    graph = make_graph(SHAPE)
    graph.graph.node[2].op_type = "Add"
    with pytest.raises(ModelFileError, match="product with weights"):
        add_second_view(graph, 0.5)


def test_an_exported_file_looks_again_and_passes_its_parity_check(tmp_path: Path) -> None:
    model, below = make_model(NORMED)
    dataset = Dataset.of_test("noise", draw_images(), np.zeros(COUNT, np.int64), {"en": ("a", "b", "c")})
    exported = export(
        complete(model, below=below),
        dataset,
        tmp_path,
        prepare=PrepareSpec("photo", 1, {}),
        recipe={},
        second_view=(model, below),
    )
    assert remove_second_view(onnx.load(exported.path))[1] == np.float32(below)
    np.testing.assert_allclose(exported.probabilities, predict(complete(model, below=below), draw_images()), atol=1e-5)
