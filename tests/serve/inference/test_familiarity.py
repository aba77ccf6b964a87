"""serve.inference: the second output is checked when a file is loaded, and each answer when it is given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serve.errors import InvalidMetadata, SelfTestFailed
from serve.inference.engine import load
from tests.serve.inference.test_engine import CPU
from tests.support import FAMILIAR, RGB, add_brightness, make_graph, make_spec, write_tiny_model
from train.export.onnx_file import measure_self_test, seal_model


def test_a_file_with_familiarity_gives_both_outputs(tmp_path: Path) -> None:
    engine = load(write_tiny_model(tmp_path, brightness=1), CPU)
    images = np.full((3, *RGB.shape), [[[[0]]], [[[51]]], [[[255]]]], np.uint8)
    outputs = engine.run(images)
    assert outputs["probabilities"].shape == (3, 3)
    assert outputs["familiarity"] == pytest.approx([0, 0.2, 1], abs=1e-5)


def test_an_output_without_its_key_is_refused(tmp_path: Path) -> None:
    graph = add_brightness(make_graph(RGB.shape))
    test = replace(measure_self_test(graph, RGB.shape), familiarity=None)
    path = tmp_path / "model.onnx"
    path.write_bytes(seal_model(graph, make_spec(self_test=test)))
    with pytest.raises(InvalidMetadata, match=r"wanted the metadata key inkling\.familiarity with the output"):
        load(path, CPU)


def test_a_key_without_its_output_is_refused(tmp_path: Path) -> None:
    graph = make_graph(RGB.shape)
    test = replace(measure_self_test(graph, RGB.shape), familiarity=(0.5,) * 4)
    path = tmp_path / "model.onnx"
    path.write_bytes(seal_model(graph, make_spec(self_test=test, familiarity=FAMILIAR)))
    with pytest.raises(InvalidMetadata, match=r"wanted an output familiarity tensor\(float\) \[N\] with the key"):
        load(path, CPU)


@pytest.mark.parametrize("scale", [0.9, float("nan")])
def test_another_familiarity_than_at_export_fails_the_self_test(tmp_path: Path, scale: float) -> None:
    test = measure_self_test(add_brightness(make_graph(RGB.shape)), RGB.shape)
    path = tmp_path / "model.onnx"
    graph = add_brightness(make_graph(RGB.shape), scale)
    path.write_bytes(seal_model(graph, make_spec(self_test=test, familiarity=FAMILIAR)))
    with pytest.raises(SelfTestFailed, match="got a difference of"):
        load(path, CPU)
