"""A fitted model -> the folder of its version, whole or not at all, and printed lines about it.

Enters: a float32 keras.Model, its dataset, recipe and progress. Leaves: `<out>/<model>/<version>/` with model.onnx,
model.keras, history.csv, classes.csv, four pictures, a card, and optionally TensorBoard's files. Does not know: flags,
or how anything was computed.
"""

import csv
import dataclasses
import math
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.evaluation.calibration import measure_calibration_error
from train.evaluation.card import write_card
from train.evaluation.familiarity import LEAST_HELD_OUT
from train.evaluation.metrics import Floats, measure_accuracy, measure_class_accuracy
from train.recipes.recipe import Recipe, describe
from train.run_folder import partial_folder, publish

if TYPE_CHECKING:
    import keras

    from train.data.datasets import Dataset
    from train.export.from_keras import Exported
    from train.fitting.checkpoint import Progress


def publish_run(
    model: "keras.Model",
    dataset: "Dataset",
    recipe: Recipe,
    progress: "Progress",
    *,
    precision: str,
    out: Path,
    single: "keras.Model | None" = None,
    tensorboard: bool = False,
) -> tuple["Exported", Path]:
    """Export, check and describe a fitted model. Returns the folder too. Raises ParityFailed; then nothing is left.

    `single` is the model with one view, if the recipe has a second one for unsure images.
    """
    import onnx  # not above, as matplotlib and what the export takes

    from train.commands.familiarity import gather_images
    from train.evaluation import figures
    from train.export.from_keras import export
    from train.export.measure.cost import count_multiply_adds
    from train.export.measure.parity import LARGEST_DIFFERENCE

    can_be_familiar = recipe.gives_familiarity and len(dataset.validation) >= LEAST_HELD_OUT
    facts, source_commit = describe_run(recipe, progress, precision), find_source_commit()
    with partial_folder(out / recipe.name) as partial:
        exported = export(
            model,
            dataset,
            partial,
            prepare=recipe.prepare,
            recipe=facts,
            source_commit=source_commit,
            halves_weights=recipe.halves_weights,
            limit=LARGEST_DIFFERENCE,
            second_view=(single, progress.second_view.below) if single and progress.second_view else None,
            familiarity=gather_images(dataset, recipe.last_augmentation, recipe.prepare) if can_be_familiar else None,
        )
        model.save(partial / "model.keras")
        write_history(progress.history, partial / "history.csv")
        figures.write_report(
            partial,
            history=progress.history,
            labels=dataset.labels["en"],
            images=dataset.test.images,
            truth=dataset.test.labels,
            probabilities=exported.probabilities,
        )
        view = progress.second_view
        write_card(
            partial / "README.md",
            exported.spec,
            progress.history,
            exported.probabilities,
            dataset.test.labels,
            multiply_adds=count_multiply_adds(onnx.load(exported.path), view.share if view else 1.0),
        )
        if tensorboard:
            write_tensorboard(progress.history, partial / "tensorboard")
        return exported, publish(partial)


def describe_run(recipe: Recipe, progress: "Progress", precision: str) -> dict[str, Any]:
    """The metadata's `recipe`, as JSON values: the settings and what the run reached with them."""
    left_out = {"name", "dataset", "prepare", "measured_accuracy"}  # elsewhere in the metadata, or no settings
    settings = {key: value for key, value in describe(recipe).items() if key not in left_out}
    return settings | {
        "seed": progress.settings.seed,
        "precision": precision,
        "best_epoch": progress.best_epoch,
        "stopped_early": len(progress.history) < recipe.total_epochs,
        "validation_accuracy": progress.final_accuracy,
        "balanced": progress.is_balanced,
        "averaged": progress.is_averaged,
        "second_view": dataclasses.asdict(progress.second_view) if progress.second_view else None,
        "calibration": dataclasses.asdict(progress.calibration) if progress.calibration else None,
    }


def find_source_commit() -> str:
    """The commit of this checkout, with `-dirty` if its code was changed; `unknown` outside a checkout."""
    head = _ask_git("rev-parse", "HEAD")
    changes = _ask_git("status", "--porcelain", "--", "train", "serve")
    return "unknown" if head is None else head + ("-dirty" if changes else "")


def _ask_git(*arguments: str) -> str | None:
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def write_history(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write a CSV file with a row for each epoch."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def write_tensorboard(history: Sequence[Mapping[str, float]], folder: Path) -> None:
    """Write TensorBoard's event files: the runs `training` and `validation` with a scalar for each figure and epoch."""
    import tensorflow as tf  # not above: only these files need it here

    # `tf.summary.scalar` writes the same, but needs the package tensorboard.
    kind = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR")
    for run, prefix in (("training", ""), ("validation", "val_")):
        names = [name for name in history[0] if name != "epoch" and name.startswith("val_") == bool(prefix)]
        writer = tf.summary.create_file_writer(str(folder / run))
        with writer.as_default():
            for row in history:
                for name in names:
                    value = tf.constant(row[name], tf.float32)
                    tf.summary.write(name.removeprefix(prefix), value, step=row["epoch"], metadata=kind)
        writer.close()


def print_outcome(exported: "Exported", progress: "Progress", dataset: "Dataset", folder: Path, out: Path) -> None:
    """Print the figures, the folder, and how to serve the model."""
    from train.commands.familiarity import describe as describe_familiarity  # not above, as for the export

    spec, parity = exported.spec, exported.parity
    if spec.recipe["stopped_early"]:
        done, wanted, patience = len(progress.history), spec.recipe["epochs"], spec.recipe["patience"]
        print(
            f"stopped early, after epoch {done} of {wanted}: {patience} in a row without a better validation accuracy"
        )
    print(f"validation accuracy {progress.best_accuracy:.4f} in epoch {progress.best_epoch}, whose weights were kept")
    if progress.is_balanced:
        print(f"validation accuracy {progress.final_accuracy:.4f} with the classes balanced on unchanged images")
    elif spec.recipe["mirrors"]:
        print(f"validation accuracy {progress.final_accuracy:.4f} averaged with the mirror image")
    if progress.is_averaged:
        print(f"validation accuracy {progress.final_accuracy:.4f} with averaged weights")
    if view := progress.second_view:
        print(
            f"validation accuracy {view.accuracy:.4f} with a second view of the {view.share:.0%} least sure images, "
            f"{view.accuracy_of_one:.4f} with none, {view.accuracy_of_both:.4f} with one of all"
        )
    if progress.calibration:
        before, after = progress.calibration.error_before, progress.calibration.error_after
        temperature = progress.calibration.temperature
        print(f"calibration error {before:.4f}, {after:.4f} with a temperature of {temperature:.3f}")
    else:
        print("the probabilities are not calibrated: too few images were held out to fit a temperature")
    print_test_figures(exported.probabilities, dataset)
    for line in describe_familiarity(spec):
        print(line)
    if spec.recipe["gives_familiarity"] and not spec.familiarity:
        print(f"the file gives no familiarity: fewer than {LEAST_HELD_OUT} images were held out to fit it")
    print(
        f"parity with Keras over {parity.image_count} images: largest difference of a probability "
        f"{parity.largest_difference:.2g}, {parity.changed_classes} images of another class"
    )
    if moved := spec.recipe.get("rounding_parity"):
        print(
            f"weights in 16 bits: largest difference of a probability {moved['largest_difference']:.2g}, "
            f"{moved['changed_classes']} images of another class"
        )
    print(f"wrote {folder / 'model.onnx'}, and beside it model.keras, README.md, history.csv, classes.csv and pictures")
    print("serve it with")
    print(f"  python -m serve --models {out}")
    print(f"  python -m serve.client --model {spec.name} image.png")


def print_test_figures(probabilities: Floats, dataset: "Dataset") -> None:
    """Print the figures of an ONNX file's probabilities float32 [N, K] for the test images."""
    truth, labels = dataset.test.labels, dataset.labels["en"]
    by_class = measure_class_accuracy(probabilities, truth)
    print(f"calibration error {measure_calibration_error(probabilities, truth):.4f} over the test images")
    print(f"test accuracy {measure_accuracy(probabilities, truth):.4f} over {len(truth)} images, by the ONNX file")
    shown = ("no images" if math.isnan(accuracy) else f"{accuracy:.3f}" for accuracy in by_class)
    print("  " + ", ".join(f"{label} {text}" for label, text in zip(labels, shown, strict=True)))
