"""`python -m train.cascade FIRST SECOND`: two model files -> one that asks the second net about unsure images alone.

Enters: flags. Leaves: the folder `<out>/<model>/<version>/` with model.onnx, a card, classes.csv and pictures, or only
a file of fewer bits in such a folder; lines with its figures; exit code 0, or 1 if a file or the dataset is of no use.
Does not know: how graphs are joined (`train/export/passes/cascade.py`).
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serve.errors import ModelFileError
from serve.model_file.familiarity import FAMILIARITY
from serve.model_file.spec import OUTPUT, ModelSpec
from serve.program import name_program
from train.commands.ending import run
from train.commands.familiarity import describe as describe_familiarity
from train.commands.familiarity import gather_images, load_for
from train.commands.joining.files import QUESTION, read_graph, read_whole, require_same
from train.commands.publish import find_source_commit, print_test_figures
from train.data.strangers import make_strangers
from train.evaluation.card import write_card
from train.evaluation.metrics import Floats, measure_accuracy
from train.evaluation.passes.cascade import Cascade, choose_cascade
from train.evaluation.passes.joint_familiarity import JointFamiliarity, Seen, choose_joint_familiarity
from train.flags import add_data_flag, read_flags
from train.recipes.recipe import read_augmentation
from train.run_folder import partial_folder, publish

if TYPE_CHECKING:
    import onnx

    from train.data.datasets import Dataset, Images
    from train.export.passes.cascade import Parts

SHARE, WEIGHT = 0.3, 0.6
CASCADE = "cascade"
"""The key in the metadata's `recipe` of the threshold, and of the recipe of the first net."""


@dataclass(frozen=True)
class CascadeFlags:
    """The flags of `python -m train.cascade`."""

    first: Path
    second: Path
    out: Path
    into: Path | None
    share: float
    weight: float
    data: Path | None


def parse_flags(arguments: Sequence[str] | None) -> CascadeFlags:
    """Read the flags. Exits with code 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog=name_program("train.cascade"),
        description="Join two model files of the same dataset: the second net answers where the first is unsure.",
    )
    add = parser.add_argument
    add("first", type=Path, metavar="FIRST", help="ask this model.onnx about every image; its net is the smaller one")
    add("second", type=Path, metavar="SECOND", help="ask this model.onnx about unsure images; it gives the name")
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="write a new version below DIR; default: runs")
    share = f"ask the second net about this share of the images, 0 to 1; default: {SHARE}"
    add("--share", type=float, default=SHARE, metavar="S", help=share)
    weight = f"give the second net's answer this share in the mean of both, 0 to 1; default: {WEIGHT}"
    add("--weight", type=float, default=WEIGHT, metavar="W", help=weight)
    into = "of files in fewer bits, write only model.<precision>.onnx, into the FOLDER of a joined model.onnx"
    add("--into", type=Path, metavar="FOLDER", help=into)
    add_data_flag(parser)
    flags = read_flags(parser, CascadeFlags, arguments)
    if not 0 < flags.share < 1:
        parser.error(f"--share: wanted a number between 0 and 1, got {flags.share}")
    if not 0 <= flags.weight <= 1:
        parser.error(f"--weight: wanted a number from 0 to 1, got {flags.weight}")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the flags, join, print the figures, and return the exit code."""
    flags = parse_flags(arguments)
    return run(lambda: join_files(flags), lambda: "nothing was written")


def join_files(flags: CascadeFlags) -> int:
    """Join two files and publish the result. Returns the exit code."""
    from train.export.graph import halve  # not above: another command's --help needs no ONNX
    from train.export.onnx_file import run_onnx
    from train.export.passes.cascade import Parts, join

    (first, first_spec), (second, spec) = (read_graph(path) for path in (flags.first, flags.second))
    require_same(first_spec, spec, (*QUESTION, "precision"))
    if (spec.precision == "float32") != (flags.into is None):
        raise ModelFileError(f"wanted --into with files in fewer bits alone, got files in {spec.precision}")
    whole = read_whole(flags.into, first_spec, spec) if flags.into else None
    dataset = load_for(spec, flags.data)
    if not len(dataset.validation):
        raise ModelFileError("wanted files whose trainings held images out, to choose the threshold by; found none")
    of_first, of_second = (run_onnx(each.SerializeToString(), dataset.validation.images) for each in (first, second))
    chosen = choose_cascade(of_first, of_second, dataset.validation.labels, flags.share, flags.weight)
    print(
        f"validation accuracy {chosen.accuracy:.4f} with the second net asked about {chosen.share:.1%}, "
        f"{chosen.accuracy_of_first:.4f} with the first alone, {chosen.accuracy_of_second:.4f} with the second"
    )
    parts = Parts(first, second, chosen.below, chosen.weight, chosen.power)
    joint = None
    if first_spec.familiarity and spec.familiarity:
        joint = join_familiarity(parts, spec, dataset)
        print(f"familiarity: {joint.way}, where both were asked")
    elif first_spec.familiarity or spec.familiarity:
        print("familiarity: none, for only one of the files gives it")
    graph = join(parts._replace(familiarity=joint))
    if spec.recipe.get("halves_weights"):
        graph = halve(graph)  # that of the familiarity, too
    facts, parameters = describe_recipe(first_spec, spec, chosen), first_spec.parameters + spec.parameters
    joined = replace(spec, recipe=facts, parameters=parameters)
    spec, probabilities = measure(graph, first_spec, joined, dataset, joint.way if joint else "")
    if flags.into and whole:
        write_smaller(graph, spec, probabilities, run_onnx(whole.SerializeToString(), dataset.test.images), flags.into)
    else:
        folder = publish_joined(graph, spec, probabilities, dataset, flags.out)
        print(f"wrote {folder / 'model.onnx'}, and beside it README.md, classes.csv and pictures")
    return 0


def join_familiarity(parts: "Parts", spec: ModelSpec, dataset: "Dataset") -> JointFamiliarity:
    """How the familiarity of both nets becomes one. Raises ModelFileError if it cannot be fitted."""
    from train.export.familiarity.fit import STRANGERS, weigh_views  # not above, as in `join_files`
    from train.export.onnx_file import run_outputs

    images = gather_images(dataset, read_augmentation(spec.recipe), spec.prepare)

    def look(given: "Images") -> Seen:
        runs = [run_outputs(each.SerializeToString(), given, [FAMILIARITY, OUTPUT]) for each in parts[:2]]
        (first, sure), (second, _) = (map(np.concatenate, zip(*run, strict=True)) for run in runs)
        return Seen(first, second, sure.max(axis=1) < parts.below)

    strangers = make_strangers(dataset.validation.images, spec.input, spec.prepare, count=STRANGERS)
    known = Seen(*map(weigh_views, zip(*map(look, images.held_out), strict=True)))
    try:
        return choose_joint_familiarity(known, [look(each) for each in strangers.values()])
    except ValueError as error:
        raise ModelFileError(f"the familiarity of both nets cannot be fitted: {error}") from error


def describe_recipe(first: ModelSpec, second: ModelSpec, chosen: Cascade) -> dict[str, object]:
    """The recipe of the second net, with what joined both and the recipe of the first.

    The first net's calibration stays, for that net gives most answers alone. The second's is that of no answer now.
    """
    left_out = {"second_view", "variant_parity"}
    nets = [{key: value for key, value in spec.recipe.items() if key not in left_out} for spec in (first, second)]
    return {**nets[1], "calibration": None, CASCADE: asdict(chosen) | {"first": nets[0]}}


def measure(
    graph: "onnx.ModelProto", first: ModelSpec, spec: ModelSpec, dataset: "Dataset", way: str
) -> tuple[ModelSpec, Floats]:
    """The facts of a joined graph, from those of its second net, and its probabilities of the test set.

    `way` is how the familiarity of both became one.
    """
    from train.export.familiarity.fit import measure_familiarity  # not above, as in `join_files`
    from train.export.onnx_file import measure_self_test, run_onnx

    probabilities = run_onnx(graph.SerializeToString(), dataset.test.images)
    familiarity = None
    if first.familiarity and spec.familiarity:
        images = gather_images(dataset, read_augmentation(spec.recipe), spec.prepare)
        methods = f"{first.familiarity.method} in the first net and {spec.familiarity.method} in the second, {way}"
        familiarity = measure_familiarity(graph, images, spec.input, spec.prepare, methods)
    measured = replace(
        spec,
        familiarity=familiarity,
        test_accuracy=measure_accuracy(probabilities, dataset.test.labels),
        test_count=len(dataset.test),
        created=datetime.now(UTC).replace(microsecond=0),
        source_commit=find_source_commit(),
        self_test=replace(measure_self_test(graph, spec.input.shape), tolerance=spec.self_test.tolerance),
    )
    print_test_figures(probabilities, dataset)
    for line in describe_familiarity(measured):
        print(line)
    return measured, probabilities


def publish_joined(
    graph: "onnx.ModelProto", spec: ModelSpec, probabilities: Floats, dataset: "Dataset", out: Path
) -> Path:
    """Write a version with card and pictures. Returns the folder. Raises ModelFileError; then nothing is left."""
    from train.evaluation import figures  # not above: they import matplotlib and ONNX
    from train.export.measure.cost import count_multiply_adds
    from train.export.onnx_file import write_model_file

    adds = count_multiply_adds(graph, spec.recipe[CASCADE]["share"])
    print(f"{adds / 1e6:.1f} million multiply-adds an answer")
    with partial_folder(out / spec.name) as partial:
        write_model_file(graph, spec, partial)
        figures.write_report(
            partial,
            history=(),
            labels=dataset.labels["en"],
            images=dataset.test.images,
            truth=dataset.test.labels,
            probabilities=probabilities,
        )
        write_card(partial / "README.md", spec, (), probabilities, dataset.test.labels, multiply_adds=adds)
        return publish(partial)


def write_smaller(graph: "onnx.ModelProto", spec: ModelSpec, found: Floats, expected: Floats, folder: Path) -> None:
    """Write a file in fewer bits, and say how far what it found is from the float32 file's probabilities."""
    from train.export.measure.parity import measure_parity  # not above, as in `join_files`
    from train.export.onnx_file import write_model_file

    facts = {**spec.recipe, "variant_parity": asdict(measure_parity(expected, found))}
    path = write_model_file(graph, replace(spec, recipe=facts), folder, f"model.{spec.precision}.onnx")
    print(f"wrote {path}")
