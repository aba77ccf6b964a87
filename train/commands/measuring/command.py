"""`python -m train.measure`: the shipped files -> a line of JSON each, with accuracy, multiply-adds and microseconds.

Enters: flags. Leaves: lines on stdout for `docs/benchmarks/results/models.jsonl`, exit code 0, or 1 if a file or a
dataset cannot be used. With `--card`: accuracies on corrupted images in a model's card, and no rows.
Does not know: how anything is computed.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serve.errors import InklingError
from serve.program import name_program
from train.commands.ending import run
from train.commands.publish import find_source_commit
from train.data.datasets import load
from train.evaluation.robustness import add_corruptions, read_corruptions
from train.flags import add_data_flag, read_flags

BATCHES = (1, 32)
TIMED_IMAGES = 1024
"""Test images that are repeated while a file is timed."""
NO_MACHINE = "not recorded"


@dataclass(frozen=True)
class MeasureFlags:
    """The flags of `python -m train.measure`."""

    models: Path
    machine: str
    no_time: bool
    card: Path | None
    corruptions: Path | None
    data: Path | None


def parse_flags(arguments: Sequence[str] | None) -> MeasureFlags:
    """Read the flags. Exits with code 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog=name_program("train.measure"), description="Measure what an answer of each model file costs on one core."
    )
    add = parser.add_argument
    add("--models", type=Path, default=Path("models"), metavar="DIR", help="measure the files of DIR; default: models")
    machine = "write this name of docs/benchmarks/results/machines.jsonl into the rows; default: not recorded"
    add("--machine", default=NO_MACHINE, metavar="NAME", help=machine)
    add("--no-time", action="store_true", help="leave the time out, which is true only on a quiet machine")
    add("--card", type=Path, metavar="FILE", help="measure nothing; add the table of --corruptions to this README.md")
    line = "the line that serve.evaluate --corruptions --json printed, for --card"
    add("--corruptions", type=Path, metavar="FILE", help=line)
    add_data_flag(parser)
    flags = read_flags(parser, MeasureFlags, arguments)
    if (flags.card is None) != (flags.corruptions is None):
        parser.error("wanted --card and --corruptions together")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the flags, measure, print, and return the exit code."""
    flags = parse_flags(arguments)
    if flags.card and flags.corruptions:
        card, corruptions = flags.card, flags.corruptions
        return run(lambda: describe(card, corruptions), lambda: "the card is as it was")
    return run(lambda: measure(flags), lambda: "the lines above are whole")


def describe(card: Path, corruptions: Path) -> int:
    """Add the table of corrupted images to a card. Returns the exit code."""
    try:
        add_corruptions(card, read_corruptions(corruptions.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InklingError(str(error)) from error
    print(f"wrote {card}")
    return 0


def measure(flags: MeasureFlags) -> int:
    """Print a row for each file and for each published net. Returns the exit code."""
    origin = {
        "machine": flags.machine,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": find_source_commit()[:7],
        "command": "python -m train.measure" + (" --no-time" if flags.no_time else ""),
    }
    for rows in (measure_files(flags), measure_published(flags)):
        for row in rows:
            print(json.dumps(row | origin), flush=True)
    return 0


def measure_files(flags: MeasureFlags) -> Iterator[dict[str, Any]]:
    """A row for each model file, by name and precision. The accuracy is the one that the file states."""
    import onnx  # not above: the flags need no ONNX

    from train.export.measure.cost import count_multiply_adds
    from train.export.onnx_file import read_model_file

    for path in sorted(flags.models.glob("*/*/model*.onnx")):
        data, spec = read_model_file(path)
        view = spec.recipe.get("cascade") or spec.recipe.get("second_view")
        adds = count_multiply_adds(onnx.load_from_string(data), view["share"] if view else 1.0)
        yield {
            "model": spec.name,
            "precision": spec.precision,
            "test_accuracy": spec.test_accuracy,
            "million_multiply_adds": round(adds / 1e6, 1),
            **_time(data, spec.dataset, flags),
        }


def measure_published(flags: MeasureFlags) -> Iterator[dict[str, Any]]:
    """A row for each net of the field: accuracy is what its source says."""
    from train.export.measure.cost import count_multiply_adds
    from train.export.measure.published import PUBLISHED

    for net in PUBLISHED:
        graph = net.make()
        yield {
            "model": net.name,
            "precision": "float32",
            "test_accuracy": net.test_accuracy,
            "million_multiply_adds": round(net.views * count_multiply_adds(graph) / 1e6, 1),
            **_time(graph.SerializeToString(), "cifar10", flags, net.views),
            "published_by": net.source,
        }


def _time(data: bytes, dataset: str, flags: MeasureFlags, views: int = 1) -> dict[str, float | None]:
    """Microseconds of an answer to test images, for each size of a batch; none with `--no-time`."""
    from train.export.measure.cost import time_image

    if flags.no_time:
        return {f"batch_{batch}_us": None for batch in BATCHES}
    images = load(dataset, flags.data).test.images[:TIMED_IMAGES]
    return {f"batch_{batch}_us": round(views * time_image(data, images, batch), 1) for batch in BATCHES}
