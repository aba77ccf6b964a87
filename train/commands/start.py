"""Model files that exist -> what a training starts from, and what it learns besides the labels.

Enters: a recipe, paths of flags, a dataset. Leaves: the recipe with these paths, a model with weights, targets.
Does not know: how a file is read (`train/export`), how a model is fitted.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from train.evaluation.metrics import Floats
from train.fitting.epochs.distillation import Teacher, mix_targets
from train.recipes.recipe import Distillation, Recipe

if TYPE_CHECKING:
    import keras

    from train.data.datasets import Dataset


def start_from(recipe: Recipe, initial: Path | None, teacher: Path | None) -> Recipe:
    """The recipe with the files of the flags, so that the metadata of the new file name them.

    From a file's weights a recipe with a tuning does that alone. Without a teacher there is no distillation.
    """
    if initial:
        recipe = replace(recipe, initial=str(initial), epochs=0 if recipe.tuning else recipe.epochs)
    settings = replace(recipe.distillation or Distillation(), teacher=str(teacher)) if teacher else None
    return replace(recipe, distillation=settings)


def read_initial(recipe: Recipe, dataset: "Dataset") -> "keras.Model":
    """The recipe's net in float32 with the weights of the file that it starts from. Raises ModelFileError."""
    from train.export.weights import read_weights  # not above: they import Keras and ONNX
    from train.nets import build

    model = build.build(recipe.net, dataset.shape, len(dataset.labels["en"]))
    read_weights(Path(recipe.initial or ""), model, dataset.train.images)
    print(f"starting from the weights of {recipe.initial}")
    return model


def teach(recipe: Recipe, dataset: "Dataset") -> Floats | None:
    """The targets float [N, K] of the training images with the share of a teacher that sees them as they are.

    None without such a teacher. Raises ModelFileError.
    """
    if recipe.distillation is None or recipe.distillation.views:
        return None
    from train.export.onnx_file import ask_teacher  # not above: it imports ONNX

    print(f"asking the teacher {recipe.distillation.teacher} about {len(dataset.train):,} images", flush=True)
    answers = ask_teacher(Path(recipe.distillation.teacher), dataset)
    return mix_targets(np.eye(answers.shape[1])[dataset.train.labels], answers, recipe.distillation)


def find_teacher(recipe: Recipe, dataset: "Dataset") -> Teacher | None:
    """The teacher that answers the images of each epoch as they are shown; None without one. Raises ModelFileError."""
    if recipe.distillation is None or not recipe.distillation.views:
        return None
    from train.export.onnx_file import open_teacher  # not above: it imports ONNX

    return Teacher(open_teacher(Path(recipe.distillation.teacher), dataset), recipe.distillation, len(dataset.train))
