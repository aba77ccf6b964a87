"""`train.export.familiarity.fit`: a graph gets the output, which is what NumPy computes, and no answer changes."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serve.errors import ModelFileError
from serve.inference.engine import load
from serve.model_file.spec import PrepareSpec
from tests.serve.inference.test_engine import CPU
from tests.support import LABELS, RGB, make_spec
from train.data.datasets import Dataset, Part
from train.evaluation.familiarity import WAYS, fit_distance, fit_table
from train.export.familiarity.fit import (
    FamiliarityImages,
    FeatureReader,
    add_familiarity,
    find_last_layer,
    measure_familiarity,
)
from train.export.familiarity.nodes import Layer, append_nodes, remove_familiarity
from train.export.onnx_file import measure_self_test, run_onnx, run_outputs, write_model_file
from train.export.variants import TOLERANCES, write_variant

PHOTO = PrepareSpec("photo", 1, {})
WIDTH = 6


def make_net(opset: int = 20, passes: int = 1) -> onnx.ModelProto:
    """A net with one hidden layer; with two passes, an image and its mirror image, whose logits are averaged."""
    random = np.random.default_rng(0)
    weights = {
        "hidden": random.normal(0, 2 / 432, (432, WIDTH)).astype(np.float32),
        "logits": random.normal(0, 1, (WIDTH, 3)).astype(np.float32),
        "rows": np.array([-1, 432]),
        "pair": np.array([passes, -1, 3]),
    }
    nodes = [
        *([helper.make_node("Concat", ["images"] * passes, ["all"], axis=0)]),
        helper.make_node("Reshape", ["all", "rows"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["floats", "hidden"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["features"]),
        helper.make_node("MatMul", ["features", "logits"], ["scores"]),
        helper.make_node("Reshape", ["scores", "pair"], ["pairs"]),
        helper.make_node("Softmax", ["pairs"], ["shares"], axis=2),
        helper.make_node("Split", ["shares"], [f"share {index}" for index in range(passes)], axis=0),
        helper.make_node("Reshape", ["share 0", "last"], ["probabilities"]),
    ]
    weights["last"] = np.array([-1, 3])
    nodes[-2].attribute.extend([helper.make_attribute("num_outputs", passes)] if opset >= 18 else [])
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *RGB.shape])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def draw_bands(count: int, seed: int) -> Part:
    """Images with one bright band of three, and noise; the band is the label."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = random.integers(0, 60, (count, *RGB.shape), np.uint8)
    for image, band in zip(images, labels, strict=True):
        image[band * 4 : band * 4 + 4] += 180
    return Part.whole(images, labels)


def gather(held_out: int = 300) -> FamiliarityImages:
    train, test, validation = draw_bands(600, 0), draw_bands(300, 1), draw_bands(held_out, 2)
    redrawn = 255 - (255 - validation.images) // 4 * 4
    return FamiliarityImages([(train.images, train.labels)], [validation.images, redrawn], test.images)


def run_familiarity(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    return np.concatenate([rows for (rows,) in run_outputs(model.SerializeToString(), images, ["familiarity"])])


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("name", WAYS)
def test_the_nodes_compute_what_numpy_does(name: str, passes: int, opset: int) -> None:
    net, part = make_net(opset, passes), draw_bands(600, 0)
    read = FeatureReader(net, find_last_layer(net))
    distance = fit_distance(read(part.images), part.labels, WAYS[name])
    table = fit_table(distance.measure(read(draw_bands(300, 1).images)))
    whole = append_nodes(net, Layer("features", read.passes, read.is_half), distance, table)
    onnx.checker.check_model(whole, full_check=True)
    images = np.concatenate(
        [draw_bands(300, 2).images, np.random.default_rng(3).integers(0, 256, (50, *RGB.shape), np.uint8)]
    )
    expected = table.look_up(distance.measure(read(images)))
    assert read.passes == passes
    assert run_familiarity(whole, images) == pytest.approx(expected, abs=2e-3)
    assert np.array_equal(run_onnx(whole.SerializeToString(), images), run_onnx(net.SerializeToString(), images))


def test_the_output_tells_strangers_and_turns_away_its_share() -> None:
    net, images = make_net(), gather(2000)
    whole, spec = add_familiarity(net, images, RGB, PHOTO, stranger_count=20)
    found = run_familiarity(whole, images.test)
    assert found.shape == (300,)
    assert spec.turned_away == pytest.approx((found < 0.01).mean(), abs=0.004)
    assert spec.turned_away < 0.04
    assert spec.held_out_count == 2000, "an image and its second view count once"
    assert measure_familiarity(whole, images, RGB, PHOTO, spec.method).held_out_count == 2000
    noise = np.random.default_rng(3).integers(0, 256, (50, *RGB.shape), np.uint8)
    assert (run_familiarity(whole, noise) < 0.01).mean() > 0.5
    assert set(spec.strangers) >= {"letters", "blends", "exchanged parts"}


def test_an_output_that_is_there_is_made_anew_and_can_be_removed() -> None:
    net, images = make_net(), gather()
    once, first = add_familiarity(net, images, RGB, PHOTO, stranger_count=5)
    twice, second = add_familiarity(once, images, RGB, PHOTO, stranger_count=5)
    assert twice.SerializeToString() == once.SerializeToString()
    assert first == second
    assert remove_familiarity(once).SerializeToString() == net.SerializeToString()


def test_too_few_held_out_images_are_refused() -> None:
    with pytest.raises(ModelFileError, match="wanted at least 200 held-out images, found 199"):
        add_familiarity(make_net(), gather(199), RGB, PHOTO)


def test_a_graph_without_a_layer_of_weights_is_refused() -> None:
    net = make_net()
    del net.graph.node[:]
    net.graph.node.append(helper.make_node("Softmax", ["images"], ["probabilities"]))
    with pytest.raises(ModelFileError, match="found no product before its output"):
        find_last_layer(net)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_variant_has_the_output_fitted_to_its_own_features(precision: str, tmp_path: Path) -> None:
    images = gather()
    whole, familiarity = add_familiarity(make_net(), images, RGB, PHOTO, stranger_count=5)
    spec = make_spec(self_test=measure_self_test(whole, RGB.shape), familiarity=familiarity)
    write_model_file(whole, spec, tmp_path)
    train, test = draw_bands(600, 0), draw_bands(300, 1)
    dataset = Dataset("bands", train, draw_bands(300, 2), test, LABELS)
    with pytest.raises(ModelFileError, match="wanted images for the familiarity"):
        write_variant(tmp_path, precision, dataset)
    written = write_variant(tmp_path, precision, dataset, dataclasses.replace(images))
    assert written.familiarity
    assert written.familiarity.turned_away < 0.05
    engine = load(tmp_path / f"model.{precision}.onnx", CPU)
    shares = engine.run(test.images[:16])["familiarity"]
    assert shares.dtype == np.float32
    assert 0.1 < shares.mean() < 0.9
