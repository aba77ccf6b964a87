"""train.variants: the same model in fewer bits, measured, self-tested and served."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import LABELS, Png, RunningServer, write_tiny_model

from serve.client import Client
from serve.model_file import check_seal, from_metadata
from train.data import Dataset
from train.variants import TOLERANCES, main, write_variant


def make_dataset() -> Dataset:
    """Images of one bright band, which the tiny model tells apart, and the band as the label."""
    labels = np.arange(30) % 3
    images = np.zeros((30, 12, 12, 3), np.uint8)
    for image, band in zip(images, labels, strict=True):
        image[band * 4 : band * 4 + 4] = 255
    return Dataset("bands", images, labels, images, labels, LABELS)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_variant_is_measured_sealed_and_served(
    precision: str, tmp_path: Path, png: Png, start_server: Callable[..., RunningServer]
) -> None:
    folder = write_tiny_model(tmp_path / "bands").parent
    spec = write_variant(folder, precision, make_dataset())
    assert (spec.precision, spec.test_accuracy, spec.test_count) == (precision, 1.0, 30)
    assert 0 < spec.recipe["variant_parity"]["largest_difference"] < TOLERANCES[precision]
    check_seal((folder / f"model.{precision}.onnx").read_bytes())
    with Client(start_server(tmp_path, precision=precision).address) as client:
        answer = client.classify(png(2), model="bands")
    assert (answer.best.label, answer.precision) == ("bottom", precision)


def test_an_int8_variant_holds_its_weights_in_eight_bits(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "bands").parent
    write_variant(folder, "int8", make_dataset())
    graph = onnx.load(folder / "model.int8.onnx").graph
    assert {node.op_type for node in graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    assert onnx.TensorProto.INT8 in {tensor.data_type for tensor in graph.initializer}


def test_the_float32_file_is_left_as_it_was(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "bands")
    before = path.read_bytes()
    write_variant(path.parent, "float16", make_dataset())
    assert path.read_bytes() == before
    metadata = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert "variant_parity" not in from_metadata(metadata).recipe


def test_a_folder_without_a_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--precision", "int8"]) == 1
    assert str(tmp_path) in capsys.readouterr().err
