"""The pages: every fenced command is run by a test, or listed here with the reason why not; its names exist."""

import dataclasses
import re
import subprocess
import sys
from functools import cache

import pytest

from serve.config import CONFIG_VARIABLE, PREFIX, ServerConfig
from tests.project.test_pages import PAGES, find_blocks
from tests.support import ROOT

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
    "python -m tests.people.photographs": "tests/people/test_photographs.py [two stamps]",
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
