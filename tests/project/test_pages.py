"""The pages: every fenced command is run by a test, or listed here with the reason why not; so is all their Python."""

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from serve.client.client import Client
from serve.config import CONFIG_VARIABLE, PREFIX, ServerConfig
from tests.served import served
from tests.support import ROOT, RunningServer

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"{page.relative_to(ROOT)}" for page in (ROOT / "docs").rglob("*.md"))]

# Which test runs it. Where a test runs the same code with other arguments, the words that differ are in brackets.
RUN_BY = {
    "make demo": "tests/project/test_demo.py",
    "make test": "this suite",
    "make check": "CI",
    "make lint": "CI, as a part of make check",
    "python -m train.mnist": "tests/train/commands/test_recipe.py [a small dataset]",
    "python -m train.cifar": "tests/train/commands/test_usage.py [a file that is no dataset]",
    "python -m train.folder": "tests/train/commands/test_folder.py [a small folder]",
    "python -m train.study": "tests/train/studies/test_study.py [a small dataset]",
    "python -m train.measure": "tests/train/commands/measuring/test_command.py [tiny models, no time]",
    "python -m train.speed": "tests/train/commands/test_speed.py",
    "python -m train.convert": "tests/project/test_pages.py",
    "python -m train.variants": "tests/train/commands/test_variants.py [a small model]",
    "python -m train.cascade": "tests/train/commands/joining/test_command.py",
    "python -m train.familiarity": "tests/train/commands/test_familiarity.py",
    "python -m tests.strangers.measure": "tests/strangers/test_measure.py [fewer images]",
    "python -m tests.people.measure": "tests/people/test_measure.py [fewer images]",
    "python -m train.data": "tests/train/data/test_datasets.py [a small dataset]",
    "python -m serve": "tests/serve/process/test_server.py [a free port]",
    "python -m serve.client": "tests/serve/client/test_command.py",
    "python -m serve.evaluate": "tests/serve/client/test_evaluate.py",
    "python -m serve.health": "tests/serve/process/test_server.py",
    "curl": "tests/serve/web/test_http_page.py [and on the port of metrics tests/serve/telemetry/test_metrics.py]",
    "python -m serve.web": "tests/serve/web/test_rest.py [a free port]",
    "python -m serve.bench.peers.http_door": "tests/serve/bench/test_http_door.py [a tiny model]",
    "python -m serve.score": "tests/serve/score/test_command.py [a tiny model]",
    "python -m serve.score.speed": "tests/serve/score/test_speed.py [few images]",
    "python -m serve.bench": "tests/serve/bench/test_bench.py [--short]",
    "perf_analyzer": "tests/serve/api/test_open_inference_triton.py [a free port and shorter intervals]",
}
NOT_RUN = {
    "make web": "it runs until it is stopped; tests/serve/process/web/test_keeper.py starts the same command",
    "make serve": "it runs until it is stopped; tests/serve/process/test_server.py starts the same command",
    "make train-mnist": "an hour; tests/train/commands/test_recipe.py runs the same command on a small dataset",
    "make train-cifar": "as make train-mnist, and longer",
    "git worktree add": "a folder with the code of another commit; which one, the reader knows",
    "make bench": "minutes of load; make bench-short runs the same code",
    "make image": "needs docker; tests/project/test_image.py holds what it adds against the Dockerfile",
    "docker": "needs a container engine; tests/project/test_image.py builds and runs the Dockerfile where there is one",
    "python3 -m venv": "what make does; CI runs make in a fresh clone",
    ". .venv/bin/activate": "belongs to the line before it",
    "pip install": "what make does; CI runs make in a fresh clone",
}
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


def read_lines() -> list[str]:
    """The commands of every sh block, one per line, without comments; lines that end in a backslash are joined."""
    blocks = find_blocks("sh", *PAGES)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [command for line in lines if (command := line.partition("  #")[0].strip()) and not command.startswith("#")]


def read_commands() -> list[str]:
    """The same, each once, without the variables set for one command (`NAME=value python -m serve`)."""
    return list(dict.fromkeys(re.sub(r"^(\w+=\S* +)+", "", line) for line in read_lines()))


def begins_with(command: str, start: str) -> bool:
    """Whether the first words of a command are those: `python -m serve` is not the start of `python -m serve.bench`."""
    return command.split()[: len(start.split())] == start.split()


@cache
def read_help(module: str) -> str:
    """What a command prints for `--help`."""
    command = [sys.executable, "-m", module, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


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
    for label in ("daisy", "rose", "tulip"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number, file in enumerate(sorted((ROOT / "samples/objects").glob("*.jpg"))[:4]):
            Image.open(file).rotate(90 * len(label)).save(tmp_path / "pictures" / label / f"{number}.jpg")
    (program,) = find_blocks("python", page)
    convert, serve, ask = (line for block in find_blocks("sh", page) for line in block.splitlines())
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


@pytest.mark.parametrize("command", read_commands())
def test_every_command_is_run_by_a_test_or_has_a_reason(command: str) -> None:
    known = [start for start in {**RUN_BY, **NOT_RUN} if begins_with(command, start)]
    assert known, f"nothing runs {command!r}, and no reason says why"


def test_every_variable_of_a_command_is_a_setting() -> None:
    settings = {f"{PREFIX}{field.name.upper()}" for field in dataclasses.fields(ServerConfig)} | {CONFIG_VARIABLE}
    assert {name for line in read_lines() for name in re.findall(r"\b([A-Z_]+)=", line)} <= settings


def test_every_variable_that_a_page_names_exists() -> None:
    settings = {f"{PREFIX}{field.name.upper()}" for field in dataclasses.fields(ServerConfig)} | {CONFIG_VARIABLE}
    named = {name for page in PAGES for name in re.findall(rf"{PREFIX}[A-Z_]+\b", (ROOT / page).read_text())}
    assert "INKLING_SERVE_WORKERS" in named
    assert named <= settings


@pytest.mark.parametrize("start", sorted({**RUN_BY, **NOT_RUN}))
def test_every_entry_is_still_in_a_page(start: str) -> None:
    assert any(begins_with(command, start) for command in read_commands())


@pytest.mark.parametrize("place", sorted({place.split()[0] for place in RUN_BY.values() if place.startswith("tests/")}))
def test_every_test_that_is_named_exists(place: str) -> None:
    assert (ROOT / place).is_file()


@pytest.mark.parametrize("command", [command for command in read_commands() if command.startswith("python -m ")])
def test_every_flag_of_a_command_exists(command: str) -> None:
    words = command.split()
    assert {word for word in words if word.startswith("--")} <= set(
        re.findall(r"--[a-z][a-z0-9-]*", read_help(words[2]))
    )


def test_every_target_of_make_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE))
    assert {"demo", "docs"} <= named <= targets
