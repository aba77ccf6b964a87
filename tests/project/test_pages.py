"""README.md and the pages beside it: every fenced command is run by a test, or listed here with the reason why not."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from serve.client.client import Client
from serve.config import PREFIX, ServerConfig
from tests.support import ROOT, RunningServer

PAGES = ("README.md", "docs/benchmarks/serving.md", "docs/training/notebooks.md")

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
    "python -m train.speed": "tests/train/commands/test_speed.py",
    "python -m train.data": "tests/train/data/test_datasets.py [a small dataset]",
    "python -m serve": "tests/serve/process/test_server.py [a free port]",
    "python -m serve.client": "tests/serve/client/test_command.py",
    "python -m serve.evaluate": "tests/serve/client/test_evaluate.py",
    "python -m serve.health": "tests/serve/process/test_server.py",
    "python -m serve.bench": "tests/serve/bench/test_bench.py [--short]",
}
NOT_RUN = {
    "make serve": "it runs until it is stopped; tests/serve/process/test_server.py starts the same command",
    "make train-mnist": "an hour of training; tests/train/commands/test_recipe.py runs the same command on a small dataset",
    "make train-cifar": "as make train-mnist, and longer",
    "make bench": "minutes of load; make bench-short runs the same code",
    "docker": "needs a container engine; tests/project/test_image.py builds and runs the Dockerfile where there is one",
    "python3 -m venv": "what make does; CI runs make in a fresh clone",
    ". .venv/bin/activate": "belongs to the line before it",
    "pip install": "what make does; CI runs make in a fresh clone",
}


def read_lines() -> list[str]:
    """The commands of every sh block, one per line, without comments; lines that end in a backslash are joined."""
    text = "".join((ROOT / page).read_text() for page in PAGES)
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [command for line in lines if (command := line.partition("  #")[0].strip()) and not command.startswith("#")]


def read_commands() -> list[str]:
    """The same, without the variables set for one command (`NAME=value python -m serve`)."""
    return [re.sub(r"^(\w+=\S* +)+", "", line) for line in read_lines()]


def begins_with(command: str, start: str) -> bool:
    """Whether the first words of a command are those: `python -m serve` is not the start of `python -m serve.bench`."""
    return command.split()[: len(start.split())] == start.split()


def read_examples() -> list[str]:
    """The Python of the README: how to ask, and how to export a model that one has."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_example_that_asks_runs(
    start_server: Callable[..., RunningServer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server with the shipped models."""
    example, _ = read_examples()
    monkeypatch.chdir(ROOT)
    exec(example.replace("127.0.0.1:50051", start_server(ROOT / "models").address), {})  # noqa: S102  # our own README
    label, probability, total_us = capsys.readouterr().out.split()
    assert label.isalpha()
    assert 0 < float(probability) <= 1
    assert int(total_us) > 0


def test_the_example_that_exports_leaves_a_model_that_is_served(
    start_server: Callable[..., RunningServer],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A tiny net and noise in place of the flowers."""
    _, example = read_examples()
    monkeypatch.chdir(tmp_path)
    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
    keras.Sequential([keras.Input((64, 64, 3)), *layers]).save("flowers.keras")
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (20, 64, 64, 3), np.uint8), random.integers(0, 3, 20)
    np.savez("flowers-test.npz", images=images, labels=labels)
    exec(example, {})  # noqa: S102  # our own README
    accuracy, difference = map(float, capsys.readouterr().out.split())
    assert 0 <= accuracy <= 1
    assert difference < 1e-5
    with Client(start_server(tmp_path / "runs").address) as client:
        answer = client.classify((ROOT / "samples/objects/cat-chelsea.jpg").read_bytes(), model="flowers")
    assert answer.best.label in {"daisy", "rose", "tulip"}


@pytest.mark.parametrize("command", read_commands())
def test_every_command_is_run_by_a_test_or_has_a_reason(command: str) -> None:
    known = [start for start in {**RUN_BY, **NOT_RUN} if begins_with(command, start)]
    assert known, f"nothing runs {command!r}, and no reason says why"


@pytest.mark.parametrize("name", sorted({name for line in read_lines() for name in re.findall(r"\b([A-Z_]+)=", line)}))
def test_every_variable_of_a_command_is_a_setting(name: str) -> None:
    assert name in {f"{PREFIX}{field.name.upper()}" for field in dataclasses.fields(ServerConfig)}


@pytest.mark.parametrize("start", sorted({**RUN_BY, **NOT_RUN}))
def test_every_entry_is_still_in_the_readme(start: str) -> None:
    assert any(begins_with(command, start) for command in read_commands())


@pytest.mark.parametrize("place", sorted({place.split()[0] for place in RUN_BY.values() if place.startswith("tests/")}))
def test_every_test_that_is_named_exists(place: str) -> None:
    assert (ROOT / place).is_file()


@pytest.mark.parametrize("command", [command for command in read_commands() if command.startswith("python -m ")])
def test_every_flag_of_a_command_exists(command: str) -> None:
    words = command.split()
    flags = {word for word in words if word.startswith("--")}
    helped = subprocess.run(
        [sys.executable, *words[1:3], "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert not {flag for flag in flags if flag not in helped}
