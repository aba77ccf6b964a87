"""The models that ship, and the keys of a model file, read from the files themselves.

Enters: nothing. Leaves: tables. Does not know: how a file is written or run.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import onnx

from docs.generate.markdown import code, make_table
from docs.generate.results import read_rows, write_figure
from serve.model_file.spec import PREFIX, ModelSpec

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
EXAMPLE = MODELS / "mnist" / "1" / "model.onnx"
LONGEST_EXAMPLE = 60
MEANINGS = {
    "schema": "The version of this format.",
    "name": "The model's name.",
    "dataset": "The data that the model was trained on.",
    "labels": "The names of the classes, a list for each language.",
    "input": "Shape, type and colour of one input.",
    "prepare": "The policy that makes an input from an image: name, version and parameters.",
    "precision": "The numbers that the graph computes with.",
    "test_accuracy": "The share of the test set that this file classifies correctly.",
    "test_count": "The number of images in that test set; 0 if the file is unverified.",
    "recipe": "The settings of the training, and what it reached on held-out images.",
    "parameters": "The number of trained parameters.",
    "created": "The time of the export.",
    "source_commit": "The commit of the code that trained the model.",
    "versions": "The versions of the libraries that trained and exported it.",
    "self_test": "A seed, the answers to the images drawn from it, and how far an answer may be off.",
    "familiarity": "How the output `familiarity` was fitted, and its figures. Absent if the file has no such output.",
    "sha256": "The seal: the digest of the whole file, taken with this digest zeroed.",
}
"""What each key says. A key without a meaning here fails, so that the page has all of them."""


def read_metadata(path: Path) -> dict[str, str]:
    """The keys of a model file without their prefix, each with its JSON."""
    properties = onnx.load(path).metadata_props
    return {each.key.removeprefix(PREFIX): each.value for each in properties if each.key.startswith(PREFIX)}


def write_keys() -> str:
    """A row for each key of the format, with its value in a file that ships."""
    example = read_metadata(EXAMPLE)
    known = {"schema", *(field.name for field in fields(ModelSpec)), "sha256"}
    keys = [key for key in MEANINGS if key in known] + sorted(known - MEANINGS.keys())
    rows = [(code(PREFIX + key), MEANINGS[key], code(shorten(example.get(key, "")))) for key in keys]
    return make_table(("key", "meaning", "in `models/mnist/1`"), rows)


def shorten(text: str) -> str:
    """The beginning of a long value."""
    return text if len(text) <= LONGEST_EXAMPLE else text[:LONGEST_EXAMPLE] + " ..."


def write_shipped_files() -> str:
    """A row for each file under models/."""
    head = ("model", "precision", "test accuracy", "parameters", "file size", "preparation", "trained by commit")
    return make_table(head, (write_file(path) for path in sorted(MODELS.glob("*/*/*.onnx"), key=sort_key)))


def sort_key(path: Path) -> tuple[int, str, int]:
    """Short names first, as ListModels has them; model.onnx before its variants."""
    name = path.parts[-3]
    return len(name), name, len(path.name)


def write_file(path: Path) -> tuple[str, ...]:
    """The cells of one file."""
    facts = {key: json.loads(value) for key, value in read_metadata(path).items()}
    return (
        code(facts["name"]),
        facts["precision"],
        f"{facts['test_accuracy']:.4f}",
        f"{facts['parameters']:,}",
        write_size(path),
        code(f"{facts['prepare']['policy']}/{facts['prepare']['version']}"),
        code(facts["source_commit"][:7]),
    )


def write_size(path: Path) -> str:
    """A file's size in megabytes."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


def write_headline() -> str:
    """The README's table: what the default models reach, and what was measured of them; MEASURE where nothing was."""
    head = ("model", "accuracy", "file", "p50 (ms)", "images/s", "times PyTriton", "machine", "date", "commit")
    return make_table(head, map(write_headline_row, read_rows("headline")))


def write_headline_row(row: dict[str, Any]) -> tuple[str, ...]:
    """The cells of one model."""
    path = MODELS / row["model"] / "1" / "model.onnx"
    accuracy = json.loads(read_metadata(path)["test_accuracy"])
    figures = (row["p50_ms"], row["images_per_s"], row["over_PyTriton"])
    measured = ("MEASURE" if figure is None else write_figure(figure) for figure in figures)
    origin = (name_machine(row["machine"]), code(row["date"]), code(row["commit"]))
    return code(row["model"]), f"{accuracy:.4f}", write_size(path), *measured, *origin


def name_machine(machine: str) -> str:
    """A machine's processor in words."""
    known = {row["machine"]: row for row in read_rows("machines")}
    return f"{known[machine]['cores']} cores, {known[machine]['processor']}" if machine in known else machine
