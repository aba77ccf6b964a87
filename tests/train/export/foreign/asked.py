"""A trained model -> converted by the command, served, and asked: its probabilities beside the model's own."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from serve.client.client import Client
from serve.images.pixels import to_png
from serve.model_file.spec import ModelSpec
from tests.support import RunningServer
from train.commands.converting.command import main
from train.export.measure.parity import find_limit
from train.export.onnx_file import read_model_file

Images = npt.NDArray[np.uint8]
Answers = npt.NDArray[np.floating]
Ask = Callable[..., ModelSpec]
COUNT = 6


def draw(shape: Sequence[int], count: int = COUNT) -> Images:
    """Coarse noise uint8 [count, *shape], as pictures are more than fine noise."""
    random = np.random.default_rng(0)
    height, width, channels = shape
    blocks = random.integers(0, 256, (count, -(-height // 4), -(-width // 4), channels), np.uint8)
    return blocks.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]


def softmax(logits: Answers) -> Answers:
    """Logits [N, K] -> probabilities."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def write_labels(folder: Path, count: int) -> Path:
    """A file with a label for each of `count` classes."""
    path = folder / "labels.json"
    path.write_text(json.dumps({str(index): f"class {index}" for index in range(count)}))
    return path


@pytest.fixture
def ask(start_server: Callable[..., RunningServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """A function that converts, serves and asks, and compares all probabilities with those expected."""

    def convert_and_ask(path: Path, images: Images, expected: Answers, *flags: str) -> ModelSpec:
        labels = write_labels(tmp_path, expected.shape[1])
        code = main([str(path), "--name", "mine", "--labels", str(labels), "--out", str(tmp_path / "runs"), *flags])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        assert "unverified" in printed.out
        server = start_server(tmp_path / "runs")
        try:
            with Client(server.address) as client:
                replies = [client.classify(to_png(image), model="mine", top_k=expected.shape[1]) for image in images]
        finally:
            server.stop()
        found = np.zeros(expected.shape)
        for row, reply in zip(found, replies, strict=True):
            for each in reply.classes:
                assert each.label == f"class {each.index}"
                row[each.index] = each.probability
        difference, spec = np.abs(found - expected).max(), read_model_file(tmp_path / "runs/mine/1/model.onnx")[1]
        limit = max(find_limit(expected), spec.recipe["parity"]["limit"])
        assert difference <= limit, f"{difference} over {limit}"
        assert np.ptp(expected, axis=1).max() > 0.05, "answers that are all alike would prove nothing"
        with capsys.disabled():
            print(f"\n  {path.name}: served probabilities within {difference:.1e} of the model's own")
        return spec

    return convert_and_ask


@pytest.fixture
def refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that gives the sentence with which a model is refused."""

    def convert_and_fail(path: Path, classes: int, *flags: str) -> str:
        labels = write_labels(tmp_path, classes)
        code = main([str(path), "--name", "mine", "--labels", str(labels), "--out", str(tmp_path / "runs"), *flags])
        printed = capsys.readouterr()
        assert code == 1, printed.out
        assert not (tmp_path / "runs" / "mine").exists()
        return printed.err

    return convert_and_fail
