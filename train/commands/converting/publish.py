"""A converted graph and pictures -> the folder of its version, whole or not at all, and printed lines about it.

Enters: a `Converted` graph, the facts about it, `Examples`. Leaves: `<out>/<name>/<version>/` with model.onnx, a card,
and classes.csv and pictures where the true classes are known. Does not know: flags, or how a model was read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.model_file.spec import UNVERIFIED, InputSpec, ModelSpec, PrepareSpec
from serve.packages import find_version
from train.commands.publish import print_test_figures
from train.data.datasets import Dataset
from train.data.examples import Examples
from train.data.files import spell_name
from train.data.labels import Labels
from train.evaluation.calibration import CALIBRATION_LEAST, Calibration, calibrate
from train.evaluation.converted_card import write_converted_card
from train.evaluation.metrics import measure_accuracy
from train.run_folder import partial_folder, publish

if TYPE_CHECKING:
    import onnx

    from train.export.foreign.convert import Converted
    from train.export.foreign.source import Source

CONVERTED = "converted_from"
"""The key in the metadata's `recipe` of the file that a model was converted from."""
MOST_PRINTED = 20
"""Classes whose accuracy is printed one by one; classes.csv has all of them."""


@dataclass(frozen=True)
class Origin:
    """What a converted model is called, and where it comes from."""

    name: str
    path: Path
    source: "Source"
    input: InputSpec
    prepare: PrepareSpec
    labels: Labels


def publish_converted(origin: Origin, converted: "Converted", examples: Examples, out: Path) -> Path:
    """Calibrate, measure, write and report. Returns the folder. Raises ModelFileError; then nothing is left."""
    from train.export.onnx_file import measure_self_test, run_onnx, write_model_file  # not above: it imports ONNX

    graph, calibration = calibrate_graph(converted.graph, examples)
    figures = examples.figures
    probabilities = run_onnx(graph.SerializeToString(), figures.images)
    spec = ModelSpec(
        name=origin.name,
        dataset=examples.name if examples.is_labelled else "not stated",
        labels=origin.labels.names,
        input=origin.input,
        prepare=origin.prepare,
        precision="float16" if origin.source.images.dtype == "float16" else "float32",
        test_accuracy=measure_accuracy(probabilities, figures.labels) if examples.is_labelled else 0.0,
        test_count=len(figures) if examples.is_labelled else 0,
        recipe=describe_origin(origin, converted, calibration),
        parameters=origin.source.parameters,
        created=datetime.now(UTC).replace(microsecond=0),
        source_commit="unknown",
        versions={package: find_version(package) for package in (*origin.source.packages, "numpy")},
        self_test=measure_self_test(graph, origin.input.shape),
    )
    with partial_folder(out / origin.name) as partial:
        write_model_file(graph, spec, partial)
        write_converted_card(partial / "README.md", spec, probabilities, figures.labels)
        if examples.is_labelled:
            write_figures(partial, spec, examples, probabilities)
        folder = publish(partial)
    print_converted(spec, examples, probabilities, folder, out)
    return folder


def calibrate_graph(graph: "onnx.ModelProto", examples: Examples) -> tuple["onnx.ModelProto", Calibration | None]:
    """The graph with a temperature, if there are enough labelled pictures beside those of the figures."""
    from train.export.foreign.answers import add_temperature, find_logits  # not above: they import ONNX
    from train.export.onnx_file import run_onnx

    part = examples.calibration
    if len(part) < CALIBRATION_LEAST:
        return graph, None
    calibration = calibrate(find_logits(run_onnx(graph.SerializeToString(), part.images)), part.labels)
    return add_temperature(graph, calibration.temperature), calibration


def describe_origin(origin: Origin, converted: "Converted", calibration: Calibration | None) -> Mapping[str, Any]:
    """The metadata's `recipe`: what the model was, and what was done."""
    facts = {
        CONVERTED: spell_name(origin.path),
        "source_sha256": measure_source(origin.path),
        "conversion": list(converted.notes),
        **converted.facts,
        "calibration": asdict(calibration) if calibration else None,
    }
    plain: Mapping[str, Any] = json.loads(json.dumps(facts))  # as it is read from the file again
    return plain


def measure_source(path: Path) -> str:
    """The SHA-256 of a file, or of all files of a folder in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def write_figures(folder: Path, spec: ModelSpec, examples: Examples, probabilities: Any) -> None:
    """Write the pictures of the card, and classes.csv."""
    from train.evaluation import figures  # not above: it imports matplotlib

    part = examples.figures
    figures.write_report(
        folder,
        history=(),
        labels=spec.labels["en"],
        images=part.images,
        truth=part.labels,
        probabilities=probabilities,
    )


def print_converted(spec: ModelSpec, examples: Examples, probabilities: Any, folder: Path, out: Path) -> None:
    """Print what was done, the figures, the folder, and how to serve the model."""
    print(f"{spec.name}, from {spec.recipe[CONVERTED]}:")
    print(*(f"  {step}" for step in spec.recipe["conversion"]), sep="\n")
    parity = spec.recipe["parity"]
    print(
        f"parity with the model over {parity['image_count']} {'pictures' if examples.name else 'synthetic images'}: "
        f"largest difference of a probability {parity['largest_difference']:.2g} (limit {parity['limit']:.2g}), "
        f"{parity['changed_classes']} images of another class"
    )
    if examples.left_out or examples.broken:
        print(f"left out {len(examples.broken)} files that cannot be used, and {examples.left_out} beyond 1 GiB")
    _print_figures(spec, examples, probabilities)
    print(f"wrote {folder / 'model.onnx'}, and beside it README.md")
    print("serve it with")
    print(f"  python -m serve --models {out}")
    print(f"  python -m serve.client --model {spec.name} image.png")


def _print_figures(spec: ModelSpec, examples: Examples, probabilities: Any) -> None:
    if not examples.is_labelled:
        print(f"{UNVERIFIED}: no labelled pictures were given, so nobody knows how often it is right")
        print("  give --images DIR with a folder for each class, or ask serve.evaluate")
        return
    if calibration := spec.recipe["calibration"]:
        before, after = calibration["error_before"], calibration["error_after"]
        print(
            f"calibration error {before:.4f}, {after:.4f} with a temperature of {calibration['temperature']:.3f}, over "
            f"{len(examples.calibration)} pictures that the figures leave out"
        )
    else:
        print(
            f"not calibrated: wanted {CALIBRATION_LEAST:,} labelled pictures beside those of the figures, got "
            f"{len(examples.calibration)}"
        )
    dataset = Dataset.of_test(spec.dataset, examples.figures.images, examples.figures.labels, spec.labels)
    if spec.class_count <= MOST_PRINTED:
        print_test_figures(probabilities, dataset)
    else:
        print(f"test accuracy {spec.test_accuracy:.4f} over {spec.test_count} images, by the ONNX file")
