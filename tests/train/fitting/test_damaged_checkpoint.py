"""`train.fitting.checkpoint`: a file that lacks parts, or is none of a run, is refused and changes nothing."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.train.fitting.test_checkpoint import SETTINGS, assert_equal, make_progress, make_trained, read_variables
from train.fitting.checkpoint import CannotResume, Progress, load_checkpoint, save_checkpoint


@pytest.mark.parametrize(
    ("lost", "problem"),
    [
        (("facts",), "is damaged"),
        (("variable_0",), "lacks parts"),
        (("variable_5",), "lacks parts"),
        (("best_0",), "lacks parts"),
        (("best_0", "best_1", "best_2", "best_3"), "lacks parts"),
        (("best_1",), "lacks parts"),
    ],
    ids=" ".join,
)
def test_resuming_from_a_checkpoint_without_its_parts_is_refused(
    tmp_path: Path, lost: tuple[str, ...], problem: str
) -> None:
    path, trained = tmp_path / "unfinished.npz", make_trained(1, steps=1)
    save_checkpoint(path, trained, make_progress(trained))
    with np.load(path) as stored:
        np.savez(path, **{name: stored[name] for name in stored.files if name not in lost})
    assert_refused(path, trained, problem)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: [],
        lambda facts: {key: value for key, value in facts.items() if key != "history"},
        lambda facts: {key: value for key, value in facts.items() if key != "best_epoch"},
        lambda facts: facts | {"history": 3},
        lambda facts: facts | {"history": [3]},
        lambda facts: facts | {"history": [{"loss": 0.5}]},
        lambda facts: facts | {"history": [{"val_accuracy": 0.5}, {"val_accuracy": 0.5, "loss": 0.5}]},
        lambda facts: facts | {"history": [{"val_accuracy": 0.5, "loss": "low"}]},
        lambda facts: facts | {"best_accuracy": None},
        lambda facts: facts | {"settings": None},
    ],
)
def test_resuming_from_facts_of_another_program_is_refused(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    path, trained = tmp_path / "unfinished.npz", make_trained(1, steps=1)
    save_checkpoint(path, trained, make_progress(trained))
    with np.load(path) as stored:
        arrays = dict(stored)
    changed = change(json.loads(str(arrays["facts"])))
    np.savez(path, **(arrays | {"facts": np.array(json.dumps(changed))}))
    assert_refused(path, trained, "is damaged|of other settings")


@pytest.mark.parametrize("kind", ["array", "text", "deflated", "pickle", "words"])
def test_resuming_from_a_file_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    path, trained = tmp_path / "unfinished.npz", make_trained(1)
    with path.open("wb") as file:
        if kind == "array":
            np.save(file, np.arange(3))
        elif kind == "text":
            file.write(b"not a checkpoint")
        elif kind == "deflated":
            np.savez_compressed(file, facts=np.arange(1000))
        elif kind == "pickle":
            np.save(file, np.array([{}], object), allow_pickle=True)
        else:
            np.savez(file, facts=np.array("[" * 100_000))
    if kind == "deflated":
        data = bytearray(path.read_bytes())
        data[60:80] = bytes(20)
        path.write_bytes(data)
    assert_refused(path, trained, "is damaged")


@pytest.mark.skipif(sys.platform == "win32", reason="wanted FIFOs, which Windows has not")
def test_resuming_from_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "unfinished.npz")
    assert_refused(tmp_path / "unfinished.npz", make_trained(1), "found something else of that name; remove it")


def assert_refused(path: Path, trained: keras.Model, problem: str) -> None:
    """The error names the path, and the model is left as it was."""
    before, progress = read_variables(trained), Progress(SETTINGS)
    with pytest.raises(CannotResume, match=problem) as caught:
        load_checkpoint(path, trained, progress)
    assert str(path) in str(caught.value)
    assert_equal(read_variables(trained), before)
    assert progress == Progress(SETTINGS)
