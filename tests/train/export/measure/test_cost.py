"""`train.export.measure`: counted multiply-adds against those that others publish, and measured time."""

import keras
import numpy as np
import onnx
import pytest

from tests.support import ROOT
from train.export.from_keras import convert
from train.export.graph import halve
from train.export.measure.cost import count_multiply_adds, time_image
from train.export.measure.published import PUBLISHED
from train.export.onnx_file import read_model_file, run_onnx
from train.export.passes.second_view import add_second_view
from train.export.quantize import make_int8
from train.nets.build import build, complete
from train.recipes.net import Conv, Dense, Flatten, NormConv, Pool

SHAPE = (8, 8, 3)
NET = (Conv(4, padding="valid"), NormConv(16, pooled=True), Pool(), Flatten(), Dense(5))
BY_HAND = 6 * 6 * 4 * 27 + 6 * 6 * 16 * 36 + 16 * 5 + 5 * 10
IMAGES = np.random.default_rng(0).integers(0, 256, (60, *SHAPE), np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build(NET, SHAPE, 10)


@pytest.fixture(scope="module")
def graph(model: keras.Model) -> onnx.ModelProto:
    return convert(model)


def test_multiply_adds_are_those_counted_by_hand(graph: onnx.ModelProto) -> None:
    assert count_multiply_adds(graph) == count_multiply_adds(halve(graph, 16)) == BY_HAND


def test_fewer_bits_need_as_many(graph: onnx.ModelProto) -> None:
    assert count_multiply_adds(make_int8(graph, IMAGES)) == BY_HAND


def test_both_views_of_all_images_count_twice(model: keras.Model) -> None:
    assert count_multiply_adds(convert(complete(model, mirrors=True))) == 2 * BY_HAND


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_second_view_counts_for_its_share(graph: onnx.ModelProto, share: float) -> None:
    assert count_multiply_adds(add_second_view(graph, 0.5), share) == round((1 + share) * BY_HAND)


@pytest.mark.parametrize(("name", "published"), [("ResNet-20", 40.81), ("ResNet-56", 125.75), ("airbench94", 118.0)])
def test_the_nets_of_others_have_their_published_multiply_adds(name: str, published: float) -> None:
    """In millions, by github.com/chenyaofo/pytorch-cifar-models; for airbench94 by its layers."""
    graph = next(net for net in PUBLISHED if net.name == name).make()
    assert count_multiply_adds(graph) / 1e6 == pytest.approx(published, rel=2e-3)
    onnx.checker.check_model(graph, full_check=True)
    probabilities = run_onnx(graph.SerializeToString(), np.zeros((2, 32, 32, 3), np.uint8))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_shipped_default_takes_few_multiply_adds_on_average_and_both_nets_for_a_hard_image() -> None:
    data, spec = read_model_file(ROOT / "models/cifar10/1/model.onnx")
    model = onnx.load_from_string(data)
    assert count_multiply_adds(model, spec.recipe["cascade"]["share"]) <= 180e6
    assert count_multiply_adds(model) == pytest.approx(799.8e6, rel=1e-3)


def test_time_is_that_of_one_image(graph: onnx.ModelProto) -> None:
    data = graph.SerializeToString()
    alone, together = (time_image(data, IMAGES, batch) for batch in (1, 32))
    assert 0 < together < alone < 1e5
