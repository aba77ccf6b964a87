"""The progress of a training run <-> its checkpoint, the file that an interrupted run continues from.

Enters: a compiled keras.Model, the figures of an epoch. Leaves: `Progress`, and a file that is replaced as a whole.
Does not know: images, or how an epoch is trained. Plain Keras 3: any backend.
"""

import json
import os
import zipfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from serve.errors import InklingError
from train.evaluation.calibration import Calibration
from train.recipes.recipe import Recipe, describe

Arrays = list[npt.NDArray[Any]]


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
    final_accuracy: float = -1.0
    """Validation accuracy of the model that `fit` leaves."""
    is_balanced: bool = False
    """Whether the biases of the logits were fitted again, to images without augmentation."""
    calibration: Calibration | None = None


def record(progress: Progress, model: keras.Model, recipe: Recipe, figures: dict[str, float]) -> None:
    """Add an epoch. Keep its weights if its validation accuracy is the best so far, or if the recipe keeps the last."""
    epoch = len(progress.history) + 1
    progress.history.append({"epoch": epoch, **figures})
    # Of equal epochs keep the later one, which was trained at a lower rate.
    if recipe.keeps_last or figures["val_accuracy"] >= progress.best_accuracy:
        progress.best_epoch, progress.best_accuracy = epoch, figures["val_accuracy"]
        progress.best_weights = model.get_weights()


def save_checkpoint(path: Path, trained: keras.Model, progress: Progress) -> None:
    """Replace the checkpoint: facts as JSON, and every variable, also those of the optimizer and the random seeds."""
    facts = asdict(replace(progress, best_weights=[])) | {"settings": progress.settings.describe()}
    del facts["best_weights"]
    groups = {"variable": list(map(keras.ops.convert_to_numpy, _variables(trained))), "best": progress.best_weights}
    arrays = {f"{group}_{index}": array for group, rows in groups.items() for index, array in enumerate(rows)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays)
            file.flush()
            os.fsync(file.fileno())  # otherwise a power cut may leave an empty file under the new name
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path, trained: keras.Model, progress: Progress) -> None:
    """Set a compiled model and `progress` to the state of the checkpoint. Raises CannotResume."""
    if not path.exists():
        raise CannotResume(f"nothing to resume: wanted the checkpoint {path}, found none; leave out --resume")
    facts, arrays = _read(path)
    if facts["settings"] != progress.settings.describe():
        raise CannotResume(
            f"{path} is of other settings: wanted {progress.settings.describe()}, found {facts['settings']}; "
            "repeat the flags of that run, or leave out --resume to start over"
        )
    trained.optimizer.build(trained.trainable_variables)
    variables, values = _variables(trained), _take(arrays, "variable")
    if [variable.shape for variable in variables] != [value.shape for value in values]:
        raise CannotResume(f"{path} is of another version of this program; leave out --resume to start over")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    progress.history, progress.best_epoch = facts["history"], facts["best_epoch"]
    progress.best_accuracy = facts["best_accuracy"]
    progress.best_weights = _take(arrays, "best")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    try:
        with path.open("rb") as file, np.load(file) as stored:
            facts = json.loads(str(stored["facts"]))
            return facts, {name: stored[name] for name in stored.files if name != "facts"}
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise CannotResume(
            f"{path} is damaged: wanted a checkpoint, found a file that cannot be read ({error}); "
            "leave out --resume to start over"
        ) from error


def _take(arrays: dict[str, npt.NDArray[Any]], group: str) -> Arrays:
    """The arrays of a group, in the order in which they were saved."""
    return [arrays[f"{group}_{index}"] for index in range(sum(name.startswith(f"{group}_") for name in arrays))]


def _variables(trained: keras.Model) -> list[Any]:
    """All that a training step changes, in the order of the checkpoint."""
    return [*trained.variables, *trained.optimizer.variables]
