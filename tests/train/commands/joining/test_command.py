"""`python -m train.cascade`: two files become one that is served as any other, and other pairs are refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from serve.errors import ModelFileError
from serve.inference.engine import load as load_engine
from tests.serve.inference.test_engine import CPU
from tests.support import ROOT, write_tiny_model
from tests.train.commands.test_familiarity import needs_mnist
from train.commands.familiarity import main as add_familiarity
from train.commands.joining.command import main
from train.commands.joining.files import read_whole
from train.commands.variants import main as convert_variant
from train.data.datasets import load
from train.evaluation.passes.joint_familiarity import WAYS
from train.export.onnx_file import read_model_file, run_onnx, run_outputs
from train.export.passes.cascade import split

MODELS = ROOT / "models"
FIRST, SECOND = (MODELS / name / "1" / "model.onnx" for name in ("mnist-mlp", "mnist-cnn"))


@pytest.mark.slow
@needs_mnist
def test_two_files_become_one_that_a_server_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main([os.fspath(FIRST), os.fspath(SECOND), "--out", os.fspath(tmp_path), "--share", "0.1", "--weight", "1"])
        == 0
    )
    printed = capsys.readouterr().out
    folder = tmp_path / "mnist-cnn" / "1"
    data, spec = read_model_file(folder / "model.onnx")
    cascade, images = spec.recipe["cascade"], load("mnist").test.images[:2000]
    assert f"asked about {cascade['share']:.1%}" in printed
    assert cascade["share"] == pytest.approx(0.1, abs=0.005)
    assert cascade["accuracy_of_first"] < cascade["accuracy"]
    assert spec.parameters == sum(read_model_file(path)[1].parameters for path in (FIRST, SECOND))
    first, second = (run_onnx(path.read_bytes(), images) for path in (FIRST, SECOND))
    unsure = first.max(axis=1, keepdims=True) < np.float32(cascade["below"])
    raised = second ** cascade["power"]
    wanted = np.where(unsure, raised / raised.sum(axis=1, keepdims=True), first)
    answers = load_engine(folder / "model.onnx", CPU).run(images[:64])["probabilities"]
    np.testing.assert_allclose(answers, wanted[:64], atol=1e-5)
    parts = split(onnx.load_from_string(data))
    assert parts is not None
    np.testing.assert_allclose(run_onnx(parts.second.SerializeToString(), images), second, atol=1e-6)
    card = (folder / "README.md").read_text()
    assert "Two nets share the work." in card
    assert "`python -m train.cascade` joined two nets" in card
    assert "The probabilities are not calibrated, as those of the first net are not." in card


@pytest.mark.slow
@needs_mnist
def test_the_familiarity_of_two_files_becomes_one_that_is_a_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [shutil.copytree(path.parent, tmp_path / path.parent.parent.name) for path in (FIRST, SECOND)]
    for folder in folders:
        (folder / "README.md").write_text("# A model\n\n## Training\n")
        assert add_familiarity([os.fspath(folder)]) == 0
    names = [os.fspath(folder / "model.onnx") for folder in folders]
    assert main([*names, "--out", os.fspath(tmp_path / "runs"), "--share", "0.3"]) == 0
    data, spec = read_model_file(tmp_path / "runs" / "mnist-cnn" / "1" / "model.onnx")
    assert spec.familiarity
    way = next(way for way in WAYS if spec.familiarity.method.endswith(way))
    assert f"familiarity: {way}, where both were asked" in capsys.readouterr().out
    held_out = load("mnist", validation_count=5000).validation.images
    found = np.concatenate([shares for (shares,) in run_outputs(data, held_out, ["familiarity"])])
    for share in (0.01, 0.1, 0.5, 0.9):
        assert np.mean(found < share) == pytest.approx(share, abs=0.005)
    with pytest.raises(ModelFileError, match="wanted familiarity there and from both files"):
        read_whole(tmp_path / "runs" / "mnist-cnn" / "1", *(read_model_file(path)[1] for path in (FIRST, SECOND)))
    assert main([names[0], os.fspath(SECOND), "--out", os.fspath(tmp_path / "runs")]) == 0
    assert "familiarity: none, for only one of the files gives it" in capsys.readouterr().out


def test_files_of_other_questions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = MODELS / "cifar10-mlp" / "1" / "model.onnx"
    assert main([os.fspath(FIRST), os.fspath(other), "--out", os.fspath(tmp_path)]) == 1
    assert "wanted two files of the same dataset, got mnist and cifar10" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_smaller_files_are_not_joined_beside_a_cascade_of_another_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before anything is measured."""
    small, folder = os.fspath(SECOND.with_name("model.int8.onnx")), MODELS / "cifar10" / "1"
    assert main([small, small, "--into", os.fspath(folder)]) == 1
    assert "wanted two files of the same dataset, got cifar10 and mnist" in capsys.readouterr().err


def test_a_file_of_a_dataset_that_is_not_published_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = os.fspath(write_tiny_model(tmp_path / "models"))
    assert main([path, path, "--out", os.fspath(tmp_path / "runs")]) == 1
    assert "no dataset named 'none'" in capsys.readouterr().err


@pytest.mark.slow
@needs_mnist
def test_smaller_files_are_joined_beside_the_float32_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = shutil.copytree(FIRST.parent, tmp_path / "first")
    assert convert_variant([os.fspath(first), "--precision", "int8"]) == 0
    assert main([os.fspath(FIRST), os.fspath(SECOND), "--out", os.fspath(tmp_path)]) == 0
    folder, small = tmp_path / "mnist-cnn" / "1", [first / "model.int8.onnx", SECOND.with_name("model.int8.onnx")]
    names = [os.fspath(path) for path in small]
    assert main(names) == 1
    assert "wanted --into with files in fewer bits alone" in capsys.readouterr().err
    assert main([*names, "--into", os.fspath(folder)]) == 0
    _, spec = read_model_file(folder / "model.int8.onnx")
    assert spec.precision == "int8"
    assert spec.recipe["variant_parity"]["changed_classes"] < 300
    assert spec.test_accuracy == pytest.approx(read_model_file(folder / "model.onnx")[1].test_accuracy, abs=0.005)
    assert main([*names, "--into", os.fspath(FIRST.parent)]) == 1
    assert "wanted a cascade, found a file of one net" in capsys.readouterr().err
    before = (folder / "model.int8.onnx").read_bytes()
    assert main([names[1], names[1], "--into", os.fspath(folder)]) == 1
    assert "wanted two files of the same parameters" in capsys.readouterr().err
    assert (folder / "model.int8.onnx").read_bytes() == before


@pytest.mark.parametrize("share", ["0", "1", "-0.5", "nan"])
def test_a_share_of_none_or_all_is_bad_usage(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([os.fspath(FIRST), os.fspath(SECOND), f"--share={share}"])
    assert "--share: wanted a number between 0 and 1" in capsys.readouterr().err
