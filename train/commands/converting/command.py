"""`python -m train.convert MODEL --name NAME --labels FILE --images DIR`: a trained model -> a file that is served.

Enters: flags. Leaves: the folder `<out>/<name>/<version>/` with model.onnx, a card, and pictures where there are
labelled images; and an exit code: 0 done; 2 bad usage; 1 otherwise. Does not know: how a model is read, compared or
wrapped (`train/export/foreign/`). `--help` and unusable labels need no TensorFlow.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serve.errors import ConfigError
from serve.model_file.spec import InputSpec, PrepareSpec, self_test_images
from serve.program import name_program
from train.commands.converting.publish import Origin, publish_converted
from train.commands.ending import run
from train.commands.recipe import less_noise
from train.data.datasets import Part
from train.data.examples import Examples, read_examples
from train.data.labels import Labels, read_labels
from train.flags import read_count, read_flags, read_name
from train.run_folder import claim

if TYPE_CHECKING:
    from train.export.foreign.scaling import Scaling

ANSWERS = ("auto", "probabilities", "logits", "sigmoids", "sigmoid", "logit")
POLICIES = ("photo/3", "photo/2", "photo/1", "digit/2", "digit/1")
FILTERS = ("bilinear", "bicubic", "nearest", "box", "hamming", "lanczos")
DIGIT_BOX = 20 / 28  # of the side: the size of MNIST's digits in their images
MOST_COMPARED = 500  # images on which the file is compared with the model itself, which may be slow
SYNTHETIC_SEED, SYNTHETIC_COUNT = 2, 32  # images to compare on, if none were given


@dataclass(frozen=True)
class ConvertFlags:
    """The flags of `python -m train.convert`."""

    model: Path
    name: str
    labels: Sequence[str]
    images: Path | None
    out: Path
    skip_broken: bool
    layout: str | None
    size: tuple[int, int] | None
    colour: str | None
    scale: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    output: str | None
    answers: str
    prepare: str
    resize: int | None
    interpolation: str
    no_antialias: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the flags, convert, and return the exit code."""
    flags = parse_flags(arguments)
    return run(lambda: convert(flags), lambda: "no model file was written")


def parse_flags(arguments: Sequence[str] | None = None) -> ConvertFlags:
    """Read the flags. Exits with code 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog=name_program("train.convert"),
        description="Turn a trained model into a file that is served: a .keras or .h5 file of Keras, a SavedModel "
        "folder, or an ONNX file made elsewhere. What is not said is found out, or asked for.",
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="convert this file or folder")
    add("--name", type=read_name, required=True, help="give the model this name, by which clients ask for it")
    labels = "name the classes by FILE, a label a line or JSON by index; en=FILE ru=FILE for several languages"
    add("--labels", nargs="+", required=True, metavar="FILE", help=labels)
    images = "compare, calibrate and measure on the pictures in DIR, best in class folders named by labels"
    add("--images", type=Path, metavar="DIR", help=images)
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="write to DIR/<name>/<version>; default: runs")
    add("--skip-broken", action="store_true", help="leave out pictures that cannot be used, instead of stopping")
    model = parser.add_argument_group("what the model takes and gives, as it was trained")
    add = model.add_argument
    add("--layout", choices=("nhwc", "nchw"), help="take channels last or first; default: by the input's shape")
    add("--size", type=read_size, metavar="HxW", help="take H x W pixels; default: the input's shape")
    add("--colour", choices=("rgb", "bgr", "grey"), help="take this order of channels; default: rgb, or grey for one")
    add("--scale", type=read_number, metavar="X", help="multiply pixels from 0 to 255 by X first, such as 1/255")
    add("--mean", type=read_numbers, metavar="M[,M,M]", help="subtract M after --scale; default: 0")
    add("--std", type=read_numbers, metavar="S[,S,S]", help="divide by S after --mean; default: 1")
    add("--output", metavar="NAME", help="take the classes from this output; default: the only one that has them")
    kinds = "say what the outputs are; default: auto, by their values for the pictures"
    add("--answers", choices=ANSWERS, default="auto", help=kinds)
    pictures = parser.add_argument_group("how a picture becomes the model's input")
    add = pictures.add_argument
    add("--prepare", choices=POLICIES, default="photo/3", help="use this policy; default: photo/3")
    resize = "scale the shorter side to N pixels and cut out the centre; 0 scales all of it; default: the input's"
    add("--resize", type=read_count, metavar="N", help=resize)
    add("--interpolation", choices=FILTERS, default="bilinear", help="scale with this filter; default: bilinear")
    add("--no-antialias", action="store_true", help="take single pixels where a picture is made smaller")
    return read_flags(parser, ConvertFlags, arguments)


def read_size(text: str) -> tuple[int, int]:
    """Read `224` or `224x160`, height first. Raises argparse.ArgumentTypeError."""
    height, _, width = text.partition("x")
    if not height.isdecimal() or not (width or height).isdecimal() or not int(height) * int(width or height):
        raise argparse.ArgumentTypeError(f"wanted N or HEIGHTxWIDTH in pixels; got {text!r}")
    return int(height), int(width or height)


def read_number(text: str) -> float:
    """Read `0.5` or `1/255`. Raises argparse.ArgumentTypeError."""
    numerator, _, denominator = text.partition("/")
    try:
        value = float(Fraction(numerator.strip()) / Fraction(denominator.strip() or "1"))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"wanted a number such as 0.5 or 1/255; got {text!r}") from error
    return value


def read_numbers(text: str) -> tuple[float, ...]:
    """Read numbers with commas between them. Raises argparse.ArgumentTypeError."""
    return tuple(map(read_number, text.split(",")))


def convert(flags: ConvertFlags) -> int:
    """Read, convert, measure, write and report. Returns the exit code."""
    labels = read_labels(flags.labels)
    scaling = read_scaling(flags)
    with less_noise():
        # Not above: some models bring TensorFlow, which is slow to import.
        from train.export.foreign.convert import Choices
        from train.export.foreign.convert import convert as convert_source
        from train.export.foreign.layout import find_layout
        from train.export.foreign.recognise import open_source

        source = open_source(flags.model)
    layout = find_layout(source.images, order=flags.layout, size=flags.size, colour=flags.colour)
    prepare = choose_preparation(flags, layout.input)
    examples = find_examples(flags, labels, layout.input, prepare)
    converted = convert_source(
        source,
        layout,
        len(labels.names["en"]),
        Choices(scaling, flags.output, flags.answers),
        examples.figures.images[:MOST_COMPARED],
        hints=examples.figures if examples.is_labelled else None,
    )
    origin = Origin(flags.name, flags.model, source, layout.input, prepare, labels)
    with claim(flags.out / flags.name):
        publish_converted(origin, converted, examples, flags.out)
    return 0


def read_scaling(flags: ConvertFlags) -> "Scaling | None":
    """What the user says of the range; None if nothing. Raises ConfigError."""
    from train.export.foreign.scaling import Scaling  # not above: it imports ONNX

    if flags.scale is None and flags.mean is None and flags.std is None:
        return None
    if flags.scale == 0 or 0 in (flags.std or ()):
        raise ConfigError("--scale, --std: wanted numbers other than 0")
    return Scaling(1.0 if flags.scale is None else flags.scale, flags.mean or (0.0,), flags.std or (1.0,))


def choose_preparation(flags: ConvertFlags, target: InputSpec) -> PrepareSpec:
    """How the server makes the input from a picture."""
    height, width, _ = target.shape
    policy, _, number = flags.prepare.partition("/")
    if policy == "digit":
        return PrepareSpec(policy, int(number), {"box": round(min(height, width) * DIGIT_BOX)})
    if flags.prepare == "photo/2":
        return PrepareSpec(policy, int(number), {"margins": "peel"})
    if flags.prepare == "photo/1":
        return PrepareSpec(policy, int(number), {})
    resize = min(height, width) if flags.resize is None else flags.resize
    parameters = {
        "resize": resize,
        "crop": resize > 0,
        "interpolation": flags.interpolation,
        "antialias": not flags.no_antialias,
    }
    return PrepareSpec(policy, int(number), parameters)


def find_examples(flags: ConvertFlags, labels: Labels, target: InputSpec, prepare: PrepareSpec) -> Examples:
    """The pictures to measure on; without a folder, synthetic ones to compare on."""
    if flags.images is not None:
        return read_examples(flags.images, labels, target, prepare, flags.skip_broken)
    images = self_test_images(SYNTHETIC_SEED, SYNTHETIC_COUNT, target.shape)
    whole = Part.whole(images, np.full(len(images), -1))
    return Examples("", whole, whole.take(np.arange(0)))
