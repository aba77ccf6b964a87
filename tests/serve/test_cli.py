"""`inkling`: the doors of the project under one name, as they are under `python -m`."""

import subprocess
import sys
import tomllib

import pytest

from serve.cli import COMMANDS
from tests.support import ROOT

START = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["inkling"].split(":")
SCRIPT = "import sys; from {} import {} as main; sys.exit(main())".format(*START)
"""What an installer writes into the file `inkling`."""
HEAVY = {"argparse", "asyncio", "grpc", "google", "importlib.metadata", "logging", "numpy", "PIL", "tensorflow"}


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def inkling(*words: str) -> "subprocess.CompletedProcess[str]":
    return run("-c", SCRIPT, *words)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_the_help_of_its_module(name: str) -> None:
    ours, door = inkling(*name.split(), "--help"), run("-m", COMMANDS[name].module, "--help")
    assert ours.returncode == door.returncode == 0
    assert f"usage: python -m {COMMANDS[name].module} " in ours.stdout
    assert ours.stdout == door.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_refuses_an_unknown_flag_as_its_module_does(name: str) -> None:
    ours, door = inkling(*name.split(), "--no-such-flag"), run("-m", COMMANDS[name].module, "--no-such-flag")
    assert ours.returncode == door.returncode == 2
    assert ours.stderr == door.stderr


def test_a_command_ends_with_the_exit_code_of_its_module() -> None:
    assert inkling("health", "--address", "127.0.0.1:1").returncode == 1
    assert inkling("classify", "--address", "127.0.0.1:1", "samples/digits/0-marker.png").returncode == 1


def test_serve_without_a_folder_of_models_says_how_to_get_one() -> None:
    done = inkling("serve", "--workers", "1", "--models", "nowhere")
    assert done.returncode == 2
    assert "nowhere is not a folder" in done.stderr
    assert "inkling train mnist --out nowhere" in done.stderr


@pytest.mark.parametrize("words", [(), ("trian",), ("trian", "--help"), ("train",), ("train", "nets"), ("--nonsense",)])
def test_an_unknown_command_ends_with_2_and_the_known_ones(words: tuple[str, ...]) -> None:
    done = inkling(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"wanted one of these commands, got {' '.join(words)!r}" in done.stderr
    assert all(f"  {name} " in done.stderr for name in COMMANDS)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_lists_every_command_with_what_it_does(flag: str) -> None:
    done = inkling(flag)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert len(rows) == len(COMMANDS)
    assert all(f"  {name} " in done.stdout and command.summary in done.stdout for name, command in COMMANDS.items())


def test_the_help_of_train_lists_what_can_be_trained() -> None:
    done = inkling("train", "--help")
    assert done.returncode == 0
    named = [name for name in COMMANDS if f"  {name} " in done.stdout]
    assert named == ["train mnist", "train cifar", "train folder"]


def test_the_version_is_that_of_the_installed_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    done = inkling("--version")
    assert (done.returncode, done.stdout) == (0, f"inkling {project['version']}\n")


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(flag: str) -> None:
    listed = run("-X", "importtime", "-c", SCRIPT, flag).stderr
    imported = {line.split("|")[-1].strip() for line in listed.splitlines()}
    assert "serve.cli" in imported
    heavy = HEAVY - {"importlib.metadata"} if flag == "--version" else HEAVY  # that is where the version stands
    assert not {name for name in imported if name in heavy or name.partition(".")[0] in heavy}


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.extras])
def test_a_command_whose_packages_are_missing_says_what_to_install(name: str) -> None:
    """Without the folder of installed packages (-S) nothing but Python's own and this checkout can be imported."""
    done = run("-S", "-c", SCRIPT, *name.split(), "--help")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"inkling {name}: ")
    extras = COMMANDS[name].extras
    assert line.endswith(
        f' is not installed; install the extras [{extras}], in a checkout with: pip install ".[{extras}]"'
    )


def test_every_extra_that_a_command_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for command in COMMANDS.values() for extra in command.extras.split(",") if extra}
    assert named <= set(extras)
