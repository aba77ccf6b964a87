"""`python -m serve.evaluate DIR`: a folder of class folders through a running server -> accuracy.

Enters: images under folders named by their label, as `python -m train.data --export` writes them, and an address.
Leaves: accuracy, accuracy per class, and the mistakes; with `--compare V1 V2` where two versions differ.
Does not know: how the model works; it asks as any other client would.
"""

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.client.__main__ import is_image, print_any_name
from serve.client.client import DEFAULT_ADDRESS, Client
from serve.errors import CallError, InklingError
from serve.pb import classifier_pb2 as pb

IMAGES_PER_CALL = 64
MOST_CALL_BYTES = 8 * 2**20
"""Half of what a message may have; a file that is larger goes alone."""
CONNECTIONS = 4
CALLS_IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the server said of one image whose class is known."""

    file: Path
    wanted: str
    got: str
    probability: float

    @property
    def is_right(self) -> bool:
        """Whether the best label is the folder's name."""
        return self.wanted == self.got


def find_examples(folder: Path) -> list[Path]:
    """Every image in the class folders of a folder. Raises InklingError where there is none."""
    files = sorted(file for file in folder.glob("*/*") if is_image(file))
    if not files:
        raise InklingError(f"wanted class folders with images in them, found none in {folder}")
    return files


def judge(client: Client, files: Sequence[Path], model: str, version: str) -> list[Verdict]:
    """Classify every file. Raises InklingError at the first that fails, or whose folder is no label of the model.

    Raises OSError for a file that cannot be read.
    """
    language = find_language(client.get_model(model, version), {file.parent.name for file in files})

    def judge_some(some: Sequence[Path]) -> Iterator[Verdict]:
        images = [file.read_bytes() for file in some]
        answers = client.classify_many(images, model=model, version=version, top_k=1, language=language)
        for file, answer in zip(some, answers, strict=True):
            if isinstance(answer, CallError):
                raise InklingError(f"{file}: {answer}")
            yield Verdict(file, file.parent.name, answer.best.label, answer.best.probability)

    parts = split_into_calls(files)
    with ThreadPoolExecutor(CALLS_IN_FLIGHT) as pool:
        return [verdict for verdicts in pool.map(lambda part: list(judge_some(part)), parts) for verdict in verdicts]


def find_language(model: pb.Model, names: set[str]) -> str:
    """The first of a model's languages that has all names. Raises InklingError, by the first, where none has."""
    for each in model.label_sets:
        if names <= set(each.labels):
            return each.language_code
    labels = model.label_sets[0].labels
    unknown = names - set(labels)
    raise InklingError(f"wanted folders named {', '.join(sorted(labels))}; got {', '.join(sorted(unknown))}")


def split_into_calls(files: Sequence[Path]) -> list[list[Path]]:
    """The files in their order, as many in a call as fit: photographs are larger than what a net takes of them."""
    parts: list[list[Path]] = []
    size = MOST_CALL_BYTES
    for file in files:
        size += file.stat().st_size
        if size > MOST_CALL_BYTES or len(parts[-1]) == IMAGES_PER_CALL:
            parts.append([])
            size = file.stat().st_size
        parts[-1].append(file)
    return parts


def summarize(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Accuracy over all images and per class, as shares from 0 to 1."""
    total = Counter(verdict.wanted for verdict in verdicts)
    right = Counter(verdict.wanted for verdict in verdicts if verdict.is_right)
    return {
        "accuracy": right.total() / total.total(),
        "right": right.total(),
        "images": total.total(),
        "classes": {label: right[label] / total[label] for label in sorted(total)},
    }


def print_report(verdicts: Sequence[Verdict], most_mistakes: int) -> None:
    """A table per class, then the most confident mistakes."""
    summary = summarize(verdicts)
    for label, share in summary["classes"].items():
        print(f"{label:<12} {share:7.2%}")
    print(f"{'accuracy':<12} {summary['accuracy']:.4f}  ({summary['right']} of {summary['images']})")
    mistakes = sorted((each for each in verdicts if not each.is_right), key=lambda each: -each.probability)
    for mistake in mistakes[:most_mistakes]:
        print(f"{mistake.file}  is {mistake.wanted}, got {mistake.got} ({mistake.probability:.1%})")


def print_comparison(names: Sequence[str], first: Sequence[Verdict], second: Sequence[Verdict], most: int) -> None:
    """Where two versions differ, image by image."""
    pairs = list(zip(first, second, strict=True))
    counts = Counter((old.is_right, new.is_right) for old, new in pairs)
    for name, verdicts in zip(names, (first, second), strict=True):
        print(f"version {name}: accuracy {summarize(verdicts)['accuracy']:.4f}")
    print(f"both right {counts[True, True]}, both wrong {counts[False, False]}")
    print(f"only {names[0]} right {counts[True, False]}, only {names[1]} right {counts[False, True]}")
    differing = [(old, new) for old, new in pairs if old.got != new.got]
    for old, new in differing[:most]:
        print(f"{old.file}  is {old.wanted}, {names[0]} says {old.got}, {names[1]} says {new.got}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 with a report, 1 where it could not be made."""
    options = _parser().parse_args(arguments)
    print_any_name()
    try:
        with Client(options.address, connections=CONNECTIONS) as client:
            files = find_examples(options.folder)
            versions = options.compare or [options.version]
            verdicts = [judge(client, files, options.model, version) for version in versions]
    except (InklingError, OSError) as error:
        print(f"serve.evaluate: {error}")
        return 1
    if options.compare:
        print_comparison(options.compare, verdicts[0], verdicts[1], options.mistakes)
    elif options.json:
        print(json.dumps(summarize(verdicts[0])))
    else:
        print_report(verdicts[0], options.mistakes)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.evaluate", description="Measure a served model's accuracy.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder of folders of images, named by label")
    address = os.environ.get("INKLING_ADDRESS", DEFAULT_ADDRESS)
    parser.add_argument(
        "--address", default=address, help=f"host:port (default: INKLING_ADDRESS, else {DEFAULT_ADDRESS})"
    )
    parser.add_argument("--model", default="", help="which model; may be left out where the server has one")
    parser.add_argument("--version", default="", help="which version (default: the highest)")
    parser.add_argument("--compare", nargs=2, metavar=("V1", "V2"), help="two versions of the model, image by image")
    parser.add_argument("--mistakes", type=int, default=10, metavar="N", help="mistakes to list (default: 10)")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    return parser
