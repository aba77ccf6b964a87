"""`python -m train.mnist` and `train.cifar` without training: usage, help, unusable data, exit codes."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from serve.errors import ConfigError
from train.commands.recipe import adapt, exit_code
from train.commands.start import start_from
from train.flags import RunFlags
from train.recipes.notebooks import ALL, NOTEBOOKS
from train.recipes.shipped import CANDIDATES, QUICK, RECIPES

WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None"


@pytest.mark.parametrize(
    "flags",
    [
        ["--model", "vgg"],
        ["--epochs", "-1"],
        ["--epochs", "x"],
        ["--precision", "int8"],
        ["--patience", "0"],
        ["--patience", "10"],
        ["--patience", "3", "--epochs", "3"],
        ["--epochs", "0", "--resume"],
        ["--epochs", "0", "--patience", "2"],
        ["--epochs", "0", "--tensorboard"],
        ["--epochs", "0", "--no-augment"],
        ["--epochs", "0", "--seed", "0"],
        ["--epochs", "0", "--precision", "auto"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_2_before_tensorflow(flags: list[str], tmp_path: Path) -> None:
    program = f"{WITHOUT_TENSORFLOW}; from train.commands.recipe import main; sys.exit(main('mnist', 'mnist-cnn'))"
    command = [sys.executable, "-c", program, "--data", str(tmp_path / "none"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, flags[0] in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("onnx", 'error: onnx is not installed; pip install -e ".[cpu,train]" installs it'),
        ("serve", "ModuleNotFoundError: import of serve halted; None in sys.modules"),
    ],
)
def test_only_a_missing_package_of_an_extra_ends_in_a_sentence(package: str, said: str) -> None:
    program = (
        f"import sys; from train.commands.recipe import run; sys.modules[{package!r}] = None; sys.exit(run(work, str))"
    )
    work = f"def work():\n    import {package}\n"
    done = subprocess.run([sys.executable, "-c", work + program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, said)
    assert ("Traceback" in done.stderr) == (package == "serve")


def test_what_is_written_to_stderr_on_import_need_not_be_utf_8() -> None:
    """Drivers name files, and the line is written with escapes; only TensorFlow's INFO lines are left out."""
    written = r"I0000 of TensorFlow\ncaf\xe9 is missing\n"
    work = f"with less_noise(): os.write(2, b'{written}')"
    program = f"import os\nfrom train.commands.recipe import less_noise\n{work}\nprint('trained')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert done.stderr == "caf\\xe9 is missing\n"


def test_unusable_data_ends_with_1_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"broken")
    command = [sys.executable, "-m", "train.cifar", "--data", str(tmp_path), "--out", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cifar-10-python.tar.gz is not the published file: wanted md5 c58f")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seed", ["-1", "4294967296", "one"])
def test_a_seed_that_no_generator_takes_ends_with_2(seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "train.mnist", f"--seed={seed}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"wanted a whole number from 0 to 4294967295; got {seed!r}" in done.stderr


def test_a_recipe_that_keeps_its_last_epoch_takes_no_patience() -> None:
    flags = RunFlags(out=Path("runs"), patience=2)
    with pytest.raises(ConfigError, match="cifar10 keeps the last epoch, not the best"):
        adapt(dataclasses.replace(RECIPES["cifar10"], keeps_last=True), flags)


@pytest.mark.parametrize("module", ["mnist", "cifar"])
def test_help_lists_the_recipes_of_the_dataset_with_their_accuracy(
    module: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"train.{module}", "--help"], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.endswith(" epochs")]
    figures = {name: f"{recipe.measured_accuracy:.4f}" for name, recipe in ALL.items()}
    figures |= dict.fromkeys(CANDIDATES, "not measured")
    for name, recipe in NOTEBOOKS.items():
        figures[name] += f", notebook {f'{recipe.target_accuracy:.4f}' if recipe.target_accuracy else 'none'}"
    assert rows == [
        [name, f"{figures[name]}, {ALL[name].total_epochs} epochs"]
        for name in (*RECIPES, *QUICK, *CANDIDATES, *NOTEBOOKS)
        if name.startswith(module)
    ]


def test_only_a_notebooks_row_with_a_figure_can_end_with_3() -> None:
    assert exit_code(NOTEBOOKS["cifar10-cnn-5"], 0.6059) == 3
    assert exit_code(NOTEBOOKS["cifar10-cnn-5"], 0.606) == 0
    assert exit_code(dataclasses.replace(NOTEBOOKS["cifar10-cnn-5"], patience=2), 0.1) == 0
    assert exit_code(NOTEBOOKS["mnist-cnn-mean"], 0.1) == 0


def test_a_recipe_with_a_teacher_has_its_target_whatever_the_teachers_path() -> None:
    recipe, path = ALL["cifar10-first"], Path("teacher.onnx")
    assert exit_code(start_from(recipe, None, path), 0.1) == 3
    assert exit_code(start_from(recipe, None, path), 0.99) == 0
    assert exit_code(start_from(recipe, None, None), 0.1) == 0
    assert exit_code(start_from(ALL["cifar10-cnn"], None, path), 0.1) == 0
