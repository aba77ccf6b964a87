"""A model, training images and a recipe -> the model with its best weights.

Enters: a keras.Model of `nets/build.py`, the training and validation parts of a dataset, a `Recipe`, a seed.
Leaves: the same model fitted, the history of its epochs, and its temperature, which `evaluation/calibration.py` fits.
Does not know: the files of datasets, test sets, ONNX.
Plain Keras 3: any backend. After each epoch, `checkpoint.py` saves what an interrupted run continues from.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from train.data.datasets import Images, Part, choose_batch_size
from train.data.handwriting.prepared import draw_as_people
from train.evaluation.calibration import CALIBRATION_LEAST, calibrate
from train.evaluation.metrics import measure_accuracy
from train.evaluation.passes.second_view import choose_second_view
from train.fitting.augmentation.augment import Augment
from train.fitting.augmentation.crop import move_often
from train.fitting.averages import mix_weights, take_averages
from train.fitting.checkpoint import Progress, Settings, load_checkpoint, record, save_checkpoint
from train.fitting.epochs.distillation import Teacher
from train.fitting.epochs.run import Targets, make_change, run_epoch, train_epoch
from train.fitting.epochs.strangers import Shown, add_strangers, count_strangers
from train.fitting.learning_rate import schedule_learning_rate
from train.fitting.logit_biases import balance_classes
from train.nets.build import predict_logits, prepare_first_layer, take_logits
from train.nets.optimizer import make_optimizer
from train.nets.precision import find_precision
from train.recipes.recipe import Augmentation, Crop, Recipe

CALIBRATION_VIEWS = 4  # of each validation image, moved as in training


def fit(
    model: keras.Model,
    train: Part,
    validation: Part,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Path,
    resume: bool = False,
    targets: Targets | None = None,
    teacher: Teacher | None = None,
) -> Progress:
    """Train `model` in place, and leave it with the weights of its best epoch by validation accuracy.

    `finish` then balances its classes and fits its calibration. After each epoch the file `checkpoint` is replaced;
    with `resume`, training continues from it to the same result. `targets` float [N, K] stand for the labels of the
    training images, and `teacher` changes those of each batch by what the batch shows. Raises CannotResume, and
    ValueError if the validation part has another size than the recipe says.
    """
    if not 0 < recipe.validation_count == len(validation):
        raise ValueError(f"wanted {recipe.validation_count} images for validation, found {len(validation)}")
    labels, tested_labels = (
        keras.utils.to_categorical(part.labels, model.output_shape[1]) for part in (train, validation)
    )
    targets = labels if targets is None else targets
    if recipe.initial is None:
        prepare_first_layer(model, train.images)
    counts = len(train), len(train) + count_strangers(recipe)
    trained = compile_for_training(model, recipe, seed, *(math.ceil(count / recipe.batch_size) for count in counts))
    progress = Progress(Settings(recipe, seed, find_precision(model)))
    if resume:
        load_checkpoint(checkpoint, trained, progress)  # before the drawing, which takes minutes
    own = Shown(train, targets, draw_pictures(train.images, recipe, seed=seed))
    tuned = add_strangers(own, recipe, seed=seed)
    while not is_over(progress.history, recipe):
        epoch, started_s = len(progress.history), time.monotonic()
        if recipe.tuning and epoch == recipe.epochs:
            progress.untuned_weights = model.get_weights()
        print(f"epoch {epoch + 1} of {recipe.total_epochs}", flush=True)
        shown = tuned if recipe.tuning and epoch >= recipe.epochs else own
        figures = train_epoch(trained, shown, recipe, seed=seed, epoch=epoch, teacher=teacher)
        everything, batch_size = np.arange(len(validation)), choose_batch_size(validation.images)
        tested = run_epoch(trained.test_on_batch, validation.images, tested_labels, everything, batch_size)
        figures |= {f"val_{name}": value for name, value in tested.items()}
        record(progress, model, recipe, figures | {"seconds": time.monotonic() - started_s})
        save_checkpoint(checkpoint, trained, progress)
    model.set_weights(progress.best_weights)
    if recipe.averaging:
        average(trained, model, (train, validation), recipe, progress)
    if recipe.tuning and recipe.tuning.share < 1:
        progress.best_weights = mix_weights(progress.untuned_weights, progress.best_weights, recipe.tuning.share)
        model.set_weights(progress.best_weights)
    finish(model, train, validation, recipe, progress)
    return progress


def average(
    trained: keras.Model, model: keras.Model, parts: tuple[Part, Part], recipe: Recipe, progress: Progress
) -> None:
    """Give the model the average of its weights, if it is at least as accurate on the validation part, the second."""
    train, validation = parts

    def show(batch: Part) -> Images:
        change = make_change(recipe, batch, None, seed=progress.settings.seed, epoch=recipe.total_epochs)
        return change(batch.images, np.arange(len(batch))) if change else batch.images

    progress.is_averaged = take_averages(
        trained, show, train, recipe.batch_size, lambda: _measure(model, validation, recipe, progress)
    )
    progress.best_weights = model.get_weights()


def finish(model: keras.Model, train: Part, validation: Part, recipe: Recipe, progress: Progress) -> None:
    """Balance the classes if the model was trained only on affine augmentations, and fit its calibration.

    The balance is undone if it lowers validation accuracy. With fewer than CALIBRATION_LEAST validation images there
    is no calibration. The threshold of a second view comes before it, as it decides the logits.
    """
    progress.final_accuracy = _measure(model, validation, recipe, progress)
    if isinstance(recipe.last_augmentation, Augmentation):
        balance_classes(model, train.images, train.labels)
        balanced = _measure(model, validation, recipe, progress)
        progress.is_balanced = balanced >= progress.final_accuracy
        if not progress.is_balanced:
            model.set_weights(progress.best_weights)
        progress.final_accuracy = max(balanced, progress.final_accuracy)
    if recipe.second_view_share:
        views = (validation.images, validation.images[:, :, ::-1])
        first, mirrored = (predict_logits(model, view) for view in views)
        progress.second_view = choose_second_view(first, mirrored, validation.labels, recipe.second_view_share)
        progress.final_accuracy = progress.second_view.accuracy
    if len(validation) >= CALIBRATION_LEAST:
        shown = show_as_in_training(validation.images, recipe)
        truth = np.tile(validation.labels, len(shown) // len(validation))
        smoothing = None if recipe.distillation else recipe.label_smoothing
        progress.calibration = calibrate(_answer(model, shown, recipe, progress), truth, smoothing)


def _measure(model: keras.Model, part: Part, recipe: Recipe, progress: Progress) -> float:
    return measure_accuracy(_answer(model, part.images, recipe, progress), part.labels)


def _answer(model: keras.Model, images: Images, recipe: Recipe, progress: Progress) -> npt.NDArray[np.float32]:
    """The logits float32 [N, K] as the exported model will have them."""
    return predict_logits(model, images, recipe.mirrors, progress.second_view.below if progress.second_view else 0.0)


def show_as_in_training(images: Images, recipe: Recipe) -> Images:
    """Images uint8 [N, H, W, C] for the calibration; with a `Crop` each is moved CALIBRATION_VIEWS times.

    If training sees people's pictures, each is there once more as one of them. Users do not frame pictures as the
    dataset does. A net is slightly less accurate on moved images, so a temperature for images as they are would be too
    low.
    """
    augmentation = recipe.last_augmentation
    if isinstance(augmentation, Crop):
        return move_often(images, augmentation, CALIBRATION_VIEWS)
    drawn = draw_pictures(images, recipe, seed=0)
    return images if drawn is None else np.concatenate([images, drawn])


def draw_pictures(images: Images, recipe: Recipe, *, seed: int) -> Images | None:
    """Images uint8 [N, H, W, C] as people's pictures give them, same shape; None if the recipe shows none."""
    augmentation = recipe.last_augmentation
    if not (isinstance(augmentation, Augmentation) and augmentation.people):
        return None
    print(f"drawing {len(images):,} pictures as people have them", flush=True)
    return draw_as_people(images, recipe.prepare, seed=seed)


def is_over(history: Sequence[Mapping[str, float]], recipe: Recipe) -> bool:
    """Whether a run has done all its epochs, or as many as its patience without a better one."""
    accuracies = [row["val_accuracy"] for row in history]
    if recipe.patience is None or not accuracies:
        return len(history) >= recipe.total_epochs
    since_best = len(accuracies) - 1 - accuracies.index(max(accuracies))  # equal is not better
    return len(history) >= recipe.total_epochs or since_best >= recipe.patience


def compile_for_training(
    model: keras.Model, recipe: Recipe, seed: int, steps_per_epoch: int, steps_per_tuning_epoch: int = 0
) -> keras.Model:
    """The model up to its logits, with the recipe's augmentation, optimizer and loss. It shares the model's weights.

    An epoch of the tuning has as many steps as any other unless another number is given.
    """
    parts = [Augment(recipe.augmentation, seed)] if isinstance(recipe.augmentation, Augmentation) else []
    images = keras.Input(model.input_shape[1:], dtype="uint8")
    values = images
    for part in [*parts, take_logits(model)]:
        values = part(values)
    trained = keras.Model(images, values)
    schedule = schedule_learning_rate(recipe, steps_per_epoch, steps_per_tuning_epoch)
    trained.compile(
        optimizer=make_optimizer(recipe.optimizer, schedule, recipe.averaging),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        # On a CPU, XLA is slower and cannot compile the affine transform. JAX always compiles.
        jit_compile=keras.backend.backend() == "jax",
    )
    return trained
