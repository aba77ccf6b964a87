"""`train.familiarity`: a file that ships gets the output, and its card the figures."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from serve.inference.engine import load as load_engine
from serve.model_file.spec import PrepareSpec
from tests.serve.inference.test_engine import CPU
from tests.support import ROOT, write_tiny_model
from train.commands.familiarity import gather_images, main
from train.data.datasets import default_folder, load
from train.export.onnx_file import read_model_file, run_onnx
from train.recipes.recipe import Crop

has_mnist = (default_folder() / "mnist" / "train-images-idx3-ubyte.gz").is_file()  # a failed fetch leaves the folder
needs_mnist = pytest.mark.skipif(not has_mnist, reason="wanted the dataset mnist, INKLING_DATA has none")


@pytest.mark.slow
@needs_mnist
def test_a_file_gets_the_output_and_answers_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mnist-mlp" / "1"
    shutil.copytree(ROOT / "models" / "mnist-mlp" / "1", folder)
    (folder / "README.md").write_text("# mnist-mlp\n\n## Training\n")
    before, _ = read_model_file(folder / "model.onnx")
    assert main([os.fspath(folder)]) == 0
    printed = capsys.readouterr().out
    after, spec = read_model_file(folder / "model.onnx")
    assert spec.familiarity
    assert f"below 0.01: {spec.familiarity.turned_away:.2%} of the test images" in printed
    assert "## Familiarity" in (folder / "README.md").read_text()
    images = load("mnist").test.images[:500]
    assert np.array_equal(run_onnx(before, images), run_onnx(after, images))
    shares = load_engine(folder / "model.onnx", CPU).run(images[:16])["familiarity"]
    assert 0.2 < shares.mean() < 0.8
    assert 0.002 < spec.familiarity.turned_away < 0.03


def test_a_file_of_an_unknown_dataset_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_model(tmp_path)
    before = path.read_bytes()
    assert main([os.fspath(path.parent)]) == 1
    assert "no dataset named 'none'" in capsys.readouterr().err
    assert path.read_bytes() == before


@needs_mnist
def test_no_image_is_both_fitted_to_and_held_out() -> None:
    """Nor is a test image either. The first held-out images are as they are."""
    dataset = load("mnist", None, 2000)
    images = gather_images(dataset, Crop(shift_pixels=2), PrepareSpec("digit", 1, {"box": 20}))
    assert np.array_equal(images.held_out[0], dataset.validation.images)
    assert [len(each) for each in images.held_out] == [2000, 2000]
    assert len(images.fitted) == 2
    fitted = {image.tobytes() for image in images.fitted[0][0]}
    assert not fitted & {image.tobytes() for image in (*dataset.validation.images, *images.test)}
