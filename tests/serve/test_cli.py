"""`inkling`: the doors of the project under one name, as they are under `python -m`."""

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from serve.cli import COMMANDS, read_metadata
from serve.errors import InvalidMetadata
from serve.model_file.spec import PrepareSpec
from tests.support import ROOT, make_graph, make_spec
from train.export.onnx_file import seal_model

START = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["inkling"].split(":")
SCRIPT = "import sys; from {} import {} as main; sys.exit(main())".format(*START)
"""What an installer writes into the file `inkling`."""
DOORS = [name for name, command in COMMANDS.items() if command.module != "serve.cli"]
"""Commands with a module of their own."""
HEAVY = {"argparse", "asyncio", "grpc", "google", "importlib.metadata", "logging", "numpy", "PIL", "tensorflow"}


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def inkling(*words: str) -> "subprocess.CompletedProcess[str]":
    return run("-c", SCRIPT, *words)


def rename(text: str, name: str) -> list[str]:
    """The words of a module's text under the name of its command. Lines break elsewhere, for the name is shorter."""
    return text.replace(f"python -m {COMMANDS[name].module}", f"inkling {name}").split()


@pytest.mark.parametrize("name", DOORS)
def test_a_command_prints_the_help_of_its_module_under_its_own_name(name: str) -> None:
    ours, door = inkling(*name.split(), "--help"), run("-m", COMMANDS[name].module, "--help")
    assert ours.returncode == door.returncode == 0
    assert door.stdout.startswith(f"usage: python -m {COMMANDS[name].module} ")
    assert ours.stdout.startswith(f"usage: inkling {name} ")
    assert ours.stdout.split() == rename(door.stdout, name)


@pytest.mark.parametrize("name", DOORS)
def test_a_command_refuses_an_unknown_flag_as_its_module_does(name: str) -> None:
    ours, door = inkling(*name.split(), "--no-such-flag"), run("-m", COMMANDS[name].module, "--no-such-flag")
    assert ours.returncode == door.returncode == 2
    assert ours.stderr.split() == rename(door.stderr, name)


def test_a_command_ends_with_the_exit_code_of_its_module() -> None:
    assert inkling("health", "--address", "127.0.0.1:1").returncode == 1
    assert inkling("classify", "--address", "127.0.0.1:1", "samples/digits/0-marker.png").returncode == 1


def test_serve_without_a_folder_of_models_says_how_to_get_one() -> None:
    done = inkling("serve", "--workers", "1", "--models", "nowhere")
    assert done.returncode == 2
    assert "nowhere is not a folder" in done.stderr
    assert "inkling train mnist --out nowhere" in done.stderr


def test_inspect_tells_labels_policy_figures_seal_and_self_test(model_file: Path) -> None:
    done = inkling("inspect", str(model_file))
    assert (done.returncode, done.stderr) == (0, "")
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines())
    assert facts["labels, en"] == "top, middle, bottom"
    assert facts["labels, ru"] == "верх, середина, низ"
    assert facts["policy"] == "photo/1"
    assert facts["accuracy"] == "0.5000 of 2 test images"
    assert (facts["seal"], facts["self-test"]) == ("intact", "passed on the cpu")


def test_inspect_tells_each_setting_of_a_recipe_on_a_line_of_its_own() -> None:
    lines = [line.strip() for line in inkling("inspect", "models/mnist/1/model.onnx").stdout.splitlines()]
    assert "label_smoothing 0.1" in lines
    assert "optimizer kind muon, momentum 0.6, adam_share 0.02" in lines


def test_inspect_prints_json(model_file: Path) -> None:
    facts = json.loads(inkling("inspect", "--json", str(model_file)).stdout)
    assert facts["labels"]["en"] == ["top", "middle", "bottom"]
    assert (facts["seal"], facts["self_test"]) == ("intact", "passed on the cpu")


@pytest.mark.parametrize("model", ["mnist", "cifar10"])
def test_inspect_reads_the_shipped_models_as_onnx_does(model: str) -> None:
    data = (ROOT / f"models/{model}/1/model.onnx").read_bytes()
    assert read_metadata(data) == {each.key: each.value for each in onnx.load_from_string(data).metadata_props}


def test_inspect_refuses_a_changed_file_with_the_reason(model_file: Path, tmp_path: Path) -> None:
    data = bytearray(model_file.read_bytes())
    data[100] ^= 1
    (tmp_path / "model.onnx").write_bytes(data)
    done = inkling("inspect", str(tmp_path / "model.onnx"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"inkling inspect: {tmp_path / 'model.onnx'}: the file's bytes do not match its ")


def test_inspect_refuses_a_file_of_an_unknown_policy_as_a_server_does(tmp_path: Path) -> None:
    spec = replace(make_spec(), prepare=PrepareSpec("photo", 2, {"margins": "cut"}))
    (tmp_path / "model.onnx").write_bytes(seal_model(make_graph(spec.input.shape), spec))
    done = inkling("inspect", str(tmp_path / "model.onnx"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("got photo/2 (rgb; margins='cut')\n")


@pytest.mark.parametrize("name", ["none.onnx", "."])
def test_inspect_refuses_what_is_no_file(name: str, tmp_path: Path) -> None:
    done = inkling("inspect", str(tmp_path / name))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)


def test_inspect_refuses_bytes_that_are_no_model() -> None:
    with pytest.raises(InvalidMetadata, match=r"^wanted an ONNX model with metadata in UTF-8"):
        read_metadata(b"\xff\xff")


def test_inspect_needs_no_onnxruntime(model_file: Path) -> None:
    """It says that the self-test was not run."""
    hide = "import sys; sys.modules['onnxruntime'] = None; from importlib import util; find = util.find_spec; "
    hide += "util.find_spec = lambda name: None if name == 'onnxruntime' else find(name); "
    done = run("-c", hide + SCRIPT, "inspect", str(model_file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("  not run, because onnxruntime is not installed")
    assert "intact" in done.stdout


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
        f' is not installed; install the extras [{extras}], in a checkout with: pip install -e ".[{extras}]"'
    )


def test_every_extra_that_a_command_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for command in COMMANDS.values() for extra in command.extras.split(",") if extra}
    assert named <= set(extras)
