"""`python -m train.folder DIR --name NAME`: your own pictures, a folder for each class -> a trained, exported model.

Enters: flags. Leaves: the folder `<out>/<name>/<version>/` (`publish.py` lists its files), and an exit code: 0 done;
2 bad usage; 1 otherwise. Does not know: how anything is computed, or how a folder is read (`data/pictures.py`).
`--help`, usage errors and unusable folders need no TensorFlow.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from serve.folders import describe_left_out
from serve.model_file.spec import COLOUR_CHANNELS, InputSpec, PrepareSpec
from serve.program import name_program
from train.commands.ending import advise_resuming, run
from train.commands.recipe import adapt, train_recipe
from train.data.datasets import Dataset
from train.data.pictures import LEAST_IMAGES, Pictures, count_by_class, read_folder
from train.flags import RunFlags, add_run_flags, read_flags, read_name, read_positive
from train.recipes.recipe import Recipe
from train.recipes.shipped import DIGIT, NOTEBOOK_AUGMENTATION, PHOTO, RECIPES

NETS = {"rgb": RECIPES["cifar10-cnn"].net, "grey": RECIPES["mnist-cnn"].net}
LEAST_SIZE, MOST_SIZE = 8, 128  # pixels; above, the Dense layer alone would have over 67 million weights
BOX_SHARE = DIGIT.parameters["box"] / 28  # of the side: the size of MNIST's digits in their images
MANY_IMAGES = 5000  # from this many on, batches are larger
WANTED_STEPS, LEAST_EPOCHS, MOST_EPOCHS = 1500, 20, 100  # a small folder needs more epochs for as many steps


@dataclass(frozen=True, kw_only=True)
class FolderFlags(RunFlags):
    """The flags of `python -m train.folder`."""

    folder: Path
    name: str
    size: int
    colour: str
    skip_broken: bool


def main() -> int:
    """Parse the flags, train, and return the exit code."""
    flags = parse_flags()
    checkpoint = flags.out / flags.name / "unfinished.npz"
    return run(lambda: train(flags, checkpoint), lambda: advise_resuming(checkpoint))


def parse_flags() -> FolderFlags:
    """Read the flags. Exits with code 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog=name_program("train.folder"),
        description="Train a model on a folder that has a sub-folder of images for each class, named by its label. "
        f"It needs at least 2 classes of {LEAST_IMAGES} images: PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF of any size.",
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="train on the class folders in DIR")
    add("--name", type=read_name, required=True, help="give the model this name, by which clients ask for it")
    add("--size", type=_size, default=32, metavar="N", help="make the model's input N x N pixels; default: 32")
    add("--colour", choices=NETS, default="rgb", help="take grey for strokes on paper; default: rgb")
    add("--skip-broken", action="store_true", help="leave out files that cannot be used, instead of stopping")
    add("--epochs", type=_epochs, metavar="N", help="train N epochs; default: depends on the number of images")
    add_run_flags(parser)
    return read_flags(parser, FolderFlags)


def _epochs(text: str) -> int:
    if text == "0":
        raise argparse.ArgumentTypeError(
            "0 trains nothing, and your pictures have no published test set; serve the model, and evaluate it on new "
            "pictures with `python -m serve.evaluate DIR`"
        )
    return read_positive(text)


def _size(text: str) -> int:
    if not text.isdecimal() or not LEAST_SIZE <= int(text) <= MOST_SIZE:
        raise argparse.ArgumentTypeError(f"wanted a whole number from {LEAST_SIZE} to {MOST_SIZE}; got {text!r}")
    return int(text)


def train(flags: FolderFlags, checkpoint: Path) -> int:
    """Read the folder, fit, export and report. Returns the exit code."""
    target, prepare = choose_input(flags.colour, flags.size)
    pictures = read_folder(flags.folder, target, prepare, flags.skip_broken)
    recipe = adapt(make_recipe(flags.name, flags.colour, prepare, pictures.dataset), flags)
    print(describe_pictures(pictures))
    train_recipe(recipe, pictures.dataset, flags, checkpoint)
    return 0


def choose_input(colour: str, size: int) -> tuple[InputSpec, PrepareSpec]:
    """The model's input, and how the server makes it from an image."""
    target = InputSpec((size, size, COLOUR_CHANNELS[colour]), "uint8", colour)
    digit = dataclasses.replace(DIGIT, parameters={"box": round(size * BOX_SHARE)})
    return target, PHOTO if colour == "rgb" else digit


def make_recipe(name: str, colour: str, prepare: PrepareSpec, dataset: Dataset) -> Recipe:
    """Settings of a small net for any number of images. They were not tuned on a dataset."""
    count = len(dataset.train)
    batch_size = 32 if count < MANY_IMAGES else 128
    epochs = min(max(WANTED_STEPS * batch_size // count, LEAST_EPOCHS), MOST_EPOCHS)
    return Recipe(
        name=name,
        net=NETS[colour],
        dataset=dataset.name,
        epochs=epochs,
        batch_size=batch_size,
        # Mirrored strokes may be another class; most mirrored photographs are not.
        augmentation=dataclasses.replace(NOTEBOOK_AUGMENTATION, horizontal_flip=colour == "rgb"),
        peak_learning_rate=1e-3,
        label_smoothing=0.1,
        validation_count=len(dataset.validation),
        prepare=prepare,
        gives_familiarity=True,
        target_accuracy=0.0,  # there is none
        measured_accuracy=0.0,
    )


def describe_pictures(pictures: Pictures) -> str:
    """Say what was found, how it was split, and what was left out."""
    dataset = pictures.dataset
    counts = ", ".join(f"{name} {count}" for name, count in count_by_class(dataset).items())
    split = f"{len(dataset.train)} images to train, {len(dataset.validation)} to validate, {len(dataset.test)} to test"
    lines = [f"{dataset.name}: {counts}", split]
    if pictures.given_parts:
        lines.append(f"the folder gives the parts {' and '.join(pictures.given_parts)}")
    if pictures.left_out:
        lines.append(describe_left_out(pictures.left_out))
    if pictures.copy_count:
        lines.append(f"left out {pictures.copy_count} copies of other files")
    if pictures.broken:
        lines.append(f"left out {len(pictures.broken)} files that cannot be used")
    lines += [f"  {each.file}: {each.problem}" for each in pictures.broken]
    return "\n".join(lines).encode(errors="backslashreplace").decode()  # a file name may not be UTF-8
