"""`python -m tests.people.measure`: how many pictures of each kind a model gets right, row by row.

Enters: a model's file or a running server, and the published datasets. Leaves: a table on stdout.
Does not know: how pictures are drawn (`digits.py`, `objects.py`), or what a model answers to.

The pictures are drawn from held-out training images, from the test set with `--test`. The seed is not that of training.

    python -m tests.people.measure mnist --policy digit/2
    python -m tests.people.measure cifar10 --server 127.0.0.1:50051 --test
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from serve.client.client import Client
from serve.images.decode import decode
from serve.images.pixels import Report
from serve.images.policies.find import find_policy
from serve.inference.device import Placement
from serve.inference.engine import load
from serve.model_file.spec import OUTPUT, PrepareSpec
from tests.people.digits import DIGIT_ROWS, STRANGERS, draw_digit
from tests.people.objects import OBJECT_ROWS, draw_object
from tests.support import ROOT
from train.data.datasets import Part
from train.data.datasets import load as load_dataset

SEED = 29
HELD_OUT = 5_000
BATCH = 50
MOST_PIXELS = 50_000_000


class Answers(NamedTuple):
    """What a model says to some files."""

    classes: npt.NDArray[np.int64]
    sureness: npt.NDArray[np.float32]
    """The probability of each answer."""
    notes: Sequence[Sequence[str]]


Answer = Callable[[Sequence[bytes]], Answers]


def answer_by_file(path: Path, policy: str) -> Answer:
    """Answer with a model's file, prepared by another policy (as `name/version`) if one is named."""
    engine = load(path, Placement("cpu", 1, BATCH, 0))
    spec = engine.spec.prepare
    if policy:
        name, _, version = policy.partition("/")
        spec = PrepareSpec(name, int(version), spec.parameters)
    prepare = find_policy(spec, engine.spec.input)

    def answer(files: Sequence[bytes]) -> Answers:
        reports = [Report() for _ in files]
        images = [prepare(decode(each, MOST_PIXELS), report) for each, report in zip(files, reports, strict=True)]
        runs = [engine.run(np.stack(images[at : at + BATCH]))[OUTPUT] for at in range(0, len(images), BATCH)]
        found = np.concatenate(runs)
        return Answers(found.argmax(axis=1), found.max(axis=1), [report.notes for report in reports])

    return answer


def answer_by_server(address: str, model: str) -> Answer:
    """Answer through a running server."""
    client = Client(address)

    def answer(files: Sequence[bytes]) -> Answers:
        outcomes = [
            outcome
            for at in range(0, len(files), BATCH)
            for outcome in client.classify_many(files[at : at + BATCH], model=model)
        ]
        tops = [outcome.classes[0] for outcome in outcomes]
        return Answers(
            np.array([top.index for top in tops]),
            np.array([top.probability for top in tops], np.float32),
            [()] * len(tops),
        )

    return answer


def draw(part: Part, model: str, row: str, number: int, count: int) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """The files of one row and their classes. Each row has other images, as far as there are some."""
    make = draw_digit if model == "mnist" else draw_object
    chosen = (np.arange(count) + number * count) % len(part)
    files = [make(part.images[at], row, np.random.default_rng([SEED, number, int(at)])) for at in chosen]
    return files, part.labels[chosen]


def measure(answer: Answer, part: Part, model: str, rows: Sequence[str], count: int) -> dict[str, float]:
    """Print and return the share of right answers of each row."""
    found = {}
    every = DIGIT_ROWS if model == "mnist" else tuple(OBJECT_ROWS)
    for row in rows or every:
        files, labels = draw(part, model, row, every.index(row), count)
        answers = answer(files)
        right = answers.classes == labels
        found[row] = float(right.mean())
        wrong = f"{answers.sureness[~right].mean():.2f}" if not right.all() else "-"
        print(f"{row:18} {found[row]:.4f}   mean probability of the wrong ones: {wrong}", flush=True)
    return found


def look_at_strangers(answer: Answer, part: Part, count: int) -> None:
    """Print how sure the model is of what is no digit, and what was noted."""
    for number, (name, make) in enumerate(STRANGERS.items()):
        answers = answer([make(part.images[at], np.random.default_rng([SEED, number, at])) for at in range(count)])
        kinds = sorted({note for notes in answers.notes for note in notes})
        shares = ", ".join(f"{kind} {sum(kind in notes for notes in answers.notes) / count:.3f}" for kind in kinds)
        print(f"{name:18} mean probability {answers.sureness.mean():.2f}   {shares}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.people.measure", description=__doc__)
    parser.add_argument("model", choices=["mnist", "cifar10"])
    parser.add_argument("--file", type=Path, help="model file, default models/MODEL/1/model.onnx")
    parser.add_argument("--policy", default="", help="prepare with this policy, as digit/2, instead of the file's own")
    parser.add_argument("--server", help="ask the server at HOST:PORT instead")
    parser.add_argument("--test", action="store_true", help="draw from the test set, not from held-out training images")
    parser.add_argument("--count", type=int, default=1_000, help="images a row (default: 1000)")
    parser.add_argument("--row", action="append", default=[], help="measure this row only; may be given again")
    flags = parser.parse_args(argv)
    dataset = load_dataset(flags.model, validation_count=HELD_OUT)
    part = dataset.test if flags.test else dataset.validation
    file = flags.file or ROOT / "models" / flags.model / "1/model.onnx"
    answer = answer_by_server(flags.server, flags.model) if flags.server else answer_by_file(file, flags.policy)
    measure(answer, part, flags.model, flags.row, flags.count)
    if flags.model == "mnist" and not flags.row:
        look_at_strangers(answer, part, flags.count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
