"""`train.export.weights`: the weights of a file in an untrained model of the same net."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from serve.errors import ModelFileError
from serve.model_file.spec import PrepareSpec
from train.data.datasets import Dataset
from train.evaluation.calibration import Calibration
from train.export.from_keras import export
from train.export.onnx_file import measure_self_test, read_model_file, write_model_file
from train.export.passes.cascade import Parts, join
from train.export.weights import read_weights
from train.nets.build import build, complete, predict, prepare_first_layer
from train.recipes.net import Conv, Dense, Flatten, GlobalMax, Net, NormConv, Pool, Residual, Whitening

SHAPE = (12, 12, 3)
NORMED = (Whitening(), NormConv(8, pooled=True), Residual(8), NormConv(24), GlobalMax())
PLAIN = (Conv(8), Pool(), Flatten(), Dense(8))
CALIBRATION = Calibration(0.7, 0.1, 0.01, smoothing=0.2)


def draw_images(count: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)


def make_model(net: Net, seed: int) -> keras.Model:
    """A model whose normalisations have seen images."""
    keras.utils.set_random_seed(seed)
    model = build(net, SHAPE, 3)
    prepare_first_layer(model, draw_images())
    for _ in range(30):
        model(draw_images(), training=True)
    return model


def write(model: keras.Model, folder: Path, **export_settings: object) -> Path:
    dataset = Dataset.of_test("noise", draw_images(), np.zeros(60, np.int64), {"en": ("a", "b", "c")})
    facts = {"prepare": PrepareSpec("photo", 1, {}), "recipe": {}}
    return export(model, dataset, folder, **facts, **export_settings).path


@pytest.mark.parametrize("mirrors", [False, True], ids=["one view", "both views"])
@pytest.mark.parametrize("net", [NORMED, PLAIN], ids=["normed", "plain"])
def test_a_model_with_the_weights_of_a_file_gives_its_answers(net: Net, mirrors: bool, tmp_path: Path) -> None:
    trained, fresh = make_model(net, 0), make_model(net, 1)
    path = write(complete(trained, mirrors=mirrors, calibration=CALIBRATION), tmp_path, halves_weights=True)
    read_weights(path, fresh, draw_images())
    np.testing.assert_allclose(predict(fresh, draw_images()), predict(trained, draw_images()), atol=2e-3)


def test_a_file_with_a_second_view_has_the_weights_of_one_net(tmp_path: Path) -> None:
    trained, fresh = make_model(PLAIN, 0), make_model(PLAIN, 1)
    path = write(complete(trained, below=0.34), tmp_path, second_view=(trained, 0.34))
    read_weights(path, fresh, draw_images())
    np.testing.assert_allclose(predict(fresh, draw_images()), predict(trained, draw_images()), atol=1e-4)


@pytest.mark.parametrize("which", [0, 1], ids=["first", "second"])
def test_of_a_cascade_the_net_with_the_same_kernels_is_taken(which: int, tmp_path: Path) -> None:
    nets = (PLAIN, NORMED)
    trained, fresh = [make_model(net, 0) for net in nets], make_model(nets[which], 1)
    data, spec = read_model_file(write(trained[0], tmp_path))
    other, _ = read_model_file(write(trained[1], tmp_path / "second"))
    joined = join(Parts(onnx.load_from_string(data), onnx.load_from_string(other), 0.5, 0.6, 1.2))
    answers = replace(measure_self_test(joined, SHAPE), tolerance=spec.self_test.tolerance)
    path = write_model_file(joined, replace(spec, self_test=answers), tmp_path / "joined")
    read_weights(path, fresh, draw_images())
    np.testing.assert_allclose(predict(fresh, draw_images()), predict(trained[which], draw_images()), atol=2e-3)


def test_training_begins_close_to_the_files_answers(tmp_path: Path) -> None:
    """In training a normalisation subtracts the mean of its batch, which the file does not have any more."""
    trained, fresh = make_model(NORMED, 0), make_model(NORMED, 1)
    read_weights(write(trained, tmp_path), fresh, draw_images())
    before, after = (np.asarray(model(draw_images(), training=True)) for model in (trained, fresh))
    np.testing.assert_allclose(after, before, atol=0.02)


def test_a_file_of_another_net_is_refused_with_both_shapes(tmp_path: Path) -> None:
    path = write(make_model(PLAIN, 0), tmp_path)
    with pytest.raises(ModelFileError, match=r"is of another net: wanted kernels .*, found .*"):
        read_weights(path, make_model(NORMED, 0), draw_images())


def test_a_file_with_other_operations_is_refused(tmp_path: Path) -> None:
    """The same kernels, and no normalisation: only the answers differ."""
    path = write(make_model((Conv(8), Conv(8), GlobalMax()), 0), tmp_path)
    with pytest.raises(ModelFileError, match="another net: wanted its logits"):
        read_weights(path, make_model((NormConv(8), NormConv(8), GlobalMax()), 0), draw_images())
