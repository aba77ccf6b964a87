"""The progress of a training run <-> its checkpoint, the file that an interrupted run continues from.

Enters: a compiled keras.Model, the figures of an epoch. Leaves: `Progress`, and a file that is replaced as a whole.
Does not know: images, or how an epoch is trained. Plain Keras 3: any backend.
"""

import itertools
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from serve.errors import InklingError
from train.evaluation.calibration import Calibration
from train.evaluation.passes.second_view import SecondView
from train.recipes.recipe import Recipe, describe

Arrays = list[npt.NDArray[Any]]
Facts = dict[str, Any]


class CannotResume(InklingError):
    """There is no checkpoint, it is damaged, or it belongs to other settings."""


@dataclass(frozen=True)
class Settings:
    """What determines a run. It can be resumed only under the same settings."""

    recipe: Recipe
    seed: int
    precision: str  # float32 or bfloat16

    def describe(self) -> dict[str, Any]:
        """The settings as JSON values, which the checkpoint holds."""
        return {"recipe": describe(self.recipe), "seed": self.seed, "precision": self.precision}


@dataclass
class Progress:
    """What a run has reached. Each epoch adds to it."""

    settings: Settings
    history: list[dict[str, float]] = field(default_factory=list)
    """A row for each epoch: `epoch` from 1, loss and accuracy of training and validation, seconds."""
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_weights: Arrays = field(default_factory=list)
    untuned_weights: Arrays = field(default_factory=list)
    """Those that a tuning begins with; none before it."""
    final_accuracy: float = -1.0
    """Validation accuracy of the model that `fit` leaves."""
    is_balanced: bool = False
    """Whether the biases of the logits were fitted again, to images without augmentation."""
    is_averaged: bool = False
    """Whether the weights are the moving average of those of the last epochs."""
    calibration: Calibration | None = None
    second_view: SecondView | None = None


def record(progress: Progress, model: keras.Model, recipe: Recipe, figures: dict[str, float]) -> None:
    """Add an epoch. Keep its weights if its validation accuracy is the best so far, or if the recipe keeps the last."""
    epoch = len(progress.history) + 1
    progress.history.append({"epoch": epoch, **figures})
    # Of equal epochs keep the later one, which was trained at a lower rate.
    if recipe.keeps_last or figures["val_accuracy"] >= progress.best_accuracy:
        progress.best_epoch, progress.best_accuracy = epoch, figures["val_accuracy"]
        progress.best_weights = model.get_weights()


def save_checkpoint(path: Path, trained: keras.Model, progress: Progress) -> None:
    """Replace the checkpoint: facts as JSON, and every variable, also those of the optimizer and the random seeds.

    Raises OSError with the path. Then the old checkpoint is still there.
    """
    facts = asdict(replace(progress, best_weights=[], untuned_weights=[])) | {"settings": progress.settings.describe()}
    del facts["best_weights"], facts["untuned_weights"]
    groups = {
        "variable": list(map(keras.ops.convert_to_numpy, _variables(trained))),
        "best": progress.best_weights,
        "untuned": progress.untuned_weights,
    }
    arrays = {f"{group}_{index}": array for group, rows in groups.items() for index, array in enumerate(rows)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays)
            file.flush()
            os.fsync(file.fileno())  # otherwise a power cut may leave an empty file under the new name
        partial.replace(path)
    except OSError as error:  # that of a full disk names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path, trained: keras.Model, progress: Progress) -> None:
    """Set a compiled model and `progress` to the state of the checkpoint. Raises CannotResume."""
    if not path.exists():
        raise CannotResume(f"nothing to resume: wanted the checkpoint {path}, found none; leave out --resume")
    facts, arrays = _read(path)
    if facts.get("settings") != progress.settings.describe():
        raise CannotResume(
            f"{path} is of other settings: wanted {progress.settings.describe()}, found {facts.get('settings')}; "
            "repeat the flags of that run, or leave out --resume to start over"
        )
    trained.optimizer.build(trained.trainable_variables)
    variables, values = _variables(trained), _take(arrays, "variable")
    best, untuned = _take(arrays, "best"), _take(arrays, "untuned")
    recipe, done = progress.settings.recipe, len(facts["history"])
    complete = [
        _fit(values, variables),
        _fit(best, trained.weights) or not (best or done),
        _fit(untuned, trained.weights) or not (untuned or (recipe.tuning and done > recipe.epochs)),
    ]
    if not all(complete):
        raise CannotResume(
            f"{path} lacks parts, or is of another version of this program: wanted {len(variables)} variables and the "
            f"{len(trained.weights)} best weights of this model, and in a tuning as many of before it, found "
            f"{len(values)}, {len(best)} and {len(untuned)} that may be of other shapes; "
            "leave out --resume to start over"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    progress.history, progress.best_epoch = facts["history"], facts["best_epoch"]
    progress.best_accuracy = facts["best_accuracy"]
    progress.best_weights, progress.untuned_weights = best, untuned


def _read(path: Path) -> tuple[Facts, dict[str, npt.NDArray[Any]]]:
    """The facts and arrays of a file. Raises CannotResume, and OSError if it cannot be opened."""
    if path.exists() and not path.is_file():  # opening a FIFO would wait for a writer
        raise CannotResume(f"{path}: wanted a checkpoint, found something else of that name; remove it")
    with path.open("rb") as file:
        try:
            with np.load(file) as stored:
                facts = json.loads(str(stored["facts"]))
                _check_facts(facts)
                return facts, {name: stored[name] for name in stored.files if name != "facts"}
        except Exception as error:  # other bytes raise any kind of exception in NumPy, zipfile and zlib
            raise CannotResume(
                f"{path} is damaged: wanted a checkpoint, found a file that cannot be read ({error}); "
                "leave out --resume to start over"
            ) from error


def _check_facts(facts: Facts) -> None:
    """Raise an exception unless the facts are those that `save_checkpoint` writes."""
    rows = facts["history"]
    if not all(row["val_accuracy"] >= 0 and row.keys() == rows[0].keys() for row in rows):
        raise ValueError("wanted the same figures for each epoch")
    values = [facts["best_epoch"], facts["best_accuracy"], *(value for row in rows for value in row.values())]
    if not all(isinstance(value, int | float) for value in values):
        raise TypeError("wanted numbers as figures")


def _take(arrays: dict[str, npt.NDArray[Any]], group: str) -> Arrays:
    """The arrays of a group, in the order in which they were saved, up to the first that is missing."""
    names = itertools.takewhile(arrays.__contains__, (f"{group}_{index}" for index in itertools.count()))
    return [arrays[name] for name in names]


def _fit(values: Arrays, variables: list[Any]) -> bool:
    """Whether values are numbers in the shapes of variables."""
    shapes = [variable.shape for variable in variables] == [value.shape for value in values]
    return shapes and all(value.dtype.kind in "biuf" for value in values)


def _variables(trained: keras.Model) -> list[Any]:
    """All that a training step changes, in the order of the checkpoint."""
    return [*trained.variables, *trained.optimizer.variables]
