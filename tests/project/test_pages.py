"""The pages: each block of their Python is run by a test here, and README's output names samples with their labels."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from serve.client.client import Client
from tests.served import served
from tests.support import ROOT, RunningServer

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"{page.relative_to(ROOT)}" for page in (ROOT / "docs").rglob("*.md"))]
EXAMPLES = {
    "README.md": "test_the_example_that_asks_runs",
    "docs/serving/client.md": "test_the_example_that_asks_about_many_images_runs",
    "docs/serving/open-inference.md": "test_the_example_with_tritonclient_runs",
    "docs/training/convert.md": "test_the_way_from_pytorch_to_a_service_can_be_gone",
    "docs/serving/score.md": "test_the_example_that_scores_runs",
    "docs/training/own-keras-model.md": "test_the_example_that_exports_leaves_a_model_that_is_served",
}
"""The pages with Python, and the test here that runs it. A page has one block of it."""


def find_blocks(language: str, *pages: str) -> list[str]:
    """The fenced blocks of a language in some pages."""
    text = "".join((ROOT / page).read_text() for page in pages)
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run_example(page: str, **replaced: str) -> None:
    """Run the Python of a page with a server's address in place of the usual one."""
    (example,) = find_blocks("python", page)
    for old, new in replaced.items():
        example = example.replace({"address": "127.0.0.1:50051"}[old], new)
    exec(example, {})  # noqa: S102  # our own page


def test_every_page_with_python_has_a_test_that_runs_it() -> None:
    assert {page: len(find_blocks("python", page)) for page in PAGES if find_blocks("python", page)} == dict.fromkeys(
        EXAMPLES, 1
    )
    assert set(EXAMPLES.values()) <= globals().keys()


def test_the_example_that_asks_runs(
    start_server: Callable[..., RunningServer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server with the shipped models."""
    monkeypatch.chdir(ROOT)
    run_example("README.md", address=start_server(ROOT / "models").address)
    label, probability, total_us = capsys.readouterr().out.split()
    assert label == "cat"
    assert 0 < float(probability) <= 1
    assert int(total_us) > 0


def test_the_example_that_asks_about_many_images_runs(
    start_server: Callable[..., RunningServer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server with the shipped models: a line for each JPEG of the samples."""
    monkeypatch.chdir(ROOT)
    run_example("docs/serving/client.md", address=start_server(ROOT / "models").address)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(list((ROOT / "samples/objects").glob("*.jpg")))
    assert all(label.isalpha() and 0 < float(probability) <= 1 for label, probability in lines)


def test_the_example_that_scores_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the shipped model: the label of each digit is in its file's name."""
    monkeypatch.chdir(ROOT)
    run_example("docs/serving/score.md")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(list((ROOT / "samples/digits").glob("*.png")))
    assert all(path[0] == label and 0 < float(probability) <= 1 for path, label, probability in lines)


@pytest.mark.skipif("INKLING_TRITON_PYTHON" not in os.environ, reason="needs INKLING_TRITON_PYTHON, with tritonclient")
def test_the_example_with_tritonclient_runs(start_server: Callable[..., RunningServer]) -> None:
    """In a process of its own, on a server with the shipped models: a line for each PNG, and one for the tensor."""
    (example,) = find_blocks("python", "docs/serving/open-inference.md")
    example = example.replace("127.0.0.1:50051", start_server(ROOT / "models").address)
    command = [os.environ["INKLING_TRITON_PYTHON"], "-c", example]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *answers, shape = done.stdout.splitlines()
    files = sorted((ROOT / "samples/digits").glob("*.png"))
    assert [answer.split()[0] for answer in answers] == [file.name[0] for file in files]
    assert shape == "(2, 10)"


def test_the_example_that_exports_leaves_a_model_that_is_served(
    start_server: Callable[..., RunningServer],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A tiny net and noise in place of the flowers."""
    monkeypatch.chdir(tmp_path)
    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
    keras.Sequential([keras.Input((64, 64, 3)), *layers]).save("flowers.keras")
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (20, 64, 64, 3), np.uint8), random.integers(0, 3, 20)
    np.savez("flowers-test.npz", images=images, labels=labels)
    run_example("docs/training/own-keras-model.md")
    accuracy, difference = map(float, capsys.readouterr().out.split())
    assert 0 <= accuracy <= 1
    assert difference < 1e-5
    with Client(start_server(tmp_path / "runs").address) as client:
        answer = client.classify((ROOT / "samples/objects/cat-chelsea.jpg").read_bytes(), model="flowers")
    assert answer.best.label in {"daisy", "rose", "tulip"}


@pytest.mark.slow
def test_the_way_from_pytorch_to_a_service_can_be_gone(tmp_path: Path) -> None:
    """The page's Python and its commands, one after the other, in a folder of their own."""
    pytest.importorskip("torch", reason="needs PyTorch, of the extra [test-convert]")
    pytest.importorskip("onnxscript", reason="needs onnxscript, of the extra [test-convert]")
    page = "docs/training/convert.md"
    (tmp_path / "labels.txt").write_text("daisy\nrose\ntulip\n")
    for turns, label in enumerate(("daisy", "rose", "tulip")):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number, file in enumerate(sorted((ROOT / "samples/objects").glob("*.jpg"))[:4]):
            Image.open(file).rotate(90 * turns).save(tmp_path / "pictures" / label / f"{number}.jpg")
    (program,) = find_blocks("python", page)
    install, convert, serve, ask = (line for block in find_blocks("sh", page) for line in block.splitlines())
    assert install == 'pip install --editable ".[cpu,train]"'  # as it is for these tests
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(command: list[str]) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run([sys.executable, "-c", program])
    assert "test accuracy" in run([sys.executable, *convert.split()[1:]])
    with served(tmp_path / "runs", folder=tmp_path) as server:
        assert serve.split() == ["python", "-m", "serve", "--models", "runs"]
        answer = run([sys.executable, *ask.split()[1:], "--address", server.address])
    assert any(label in answer for label in ("daisy", "rose", "tulip"))


def test_the_output_in_the_readme_names_samples_with_their_labels() -> None:
    """Eight rows of `make demo`, and the one answer."""
    rows = [line.split()[:2] for block in find_blocks("text", "README.md") for line in block.splitlines()]
    assert len(rows) == 8 + 1
    assert all((ROOT / file).is_file() and re.split(r"[-.]", Path(file).name)[0] == label for file, label in rows)
