"""`python -m tests.people.photographs FOLDER`: how many photographs of its classes `cifar10` gets right.

Enters: Tux Paint's stamps, which Debian's package tuxpaint-stamps-default has below /usr/share/tuxpaint/stamps: animals
and vehicles, photographed, cut out and on nothing. Leaves: a line for each class, with the wrong ones, on stdout.
Does not know: how they are prepared, or what answers.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.people.measure import Answer, answer_by_file
from tests.support import ROOT
from train.export.onnx_file import read_model_file

PHOTOGRAPHS: Mapping[str, Sequence[str]] = {
    "airplane": ["vehicles/flight/planes/747.png", "military/vehicles/f22_raptor.png"],
    "automobile": ["vehicles/auto/beetle.png", "vehicles/auto/s*.png", "vehicles/emergency/sedan_police.png"],
    "bird": ["animals/birds/*.png"],
    "deer": ["animals/mammals/deer/*.png"],
    "dog": ["animals/mammals/dogs/d*.png"],
    "frog": ["animals/amphibians/frog*.png"],
    "horse": ["animals/mammals/equines/horse.png"],
    "ship": ["vehicles/ship/chineseJunk.png"],
    "truck": ["vehicles/*truck.png", "vehicles/*/*truck.png", "vehicles/construction/dumper.png"],
}
"""Patterns of the files of each class, below the folder. Drawn stamps are in folders of their own."""


def find_photographs(folder: Path) -> dict[str, list[Path]]:
    """The photographs of each class. Exits with a sentence if there are none."""
    found = {
        name: sorted(path for pattern in patterns for path in folder.glob(pattern))
        for name, patterns in PHOTOGRAPHS.items()
    }
    if not any(found.values()):
        raise SystemExit(f"wanted the folder stamps of Tux Paint, found none of its photographs in {folder}")
    return found


def measure(answer: Answer, labels: Sequence[str], photographs: Mapping[str, Sequence[Path]]) -> tuple[int, int]:
    """Print the figures of each class and of all. Returns how many are right, and of how many."""
    right, count = 0, 0
    for name, paths in photographs.items():
        if not paths:
            continue
        answers = [labels[index] for index in answer([path.read_bytes() for path in paths]).classes]
        wrong = Counter(each for each in answers if each != name)
        right, count = right + len(paths) - wrong.total(), count + len(paths)
        instead = ", ".join(f"{number} {each}" for each, number in wrong.most_common())
        print(f"{name:12} {len(paths) - wrong.total():3} of {len(paths):3}   {instead}")
    print(f"{'all':12} {right:3} of {count:3}   {right / count:.3f}")
    return right, count


def main(argv: Sequence[str] | None = None) -> int:
    """Find, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.people.photographs", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--file", type=Path, default=ROOT / "models/cifar10/1/model.onnx", help="model file")
    flags = parser.parse_args(argv)
    labels = read_model_file(flags.file)[1].labels["en"]
    measure(answer_by_file(flags.file, ""), labels, find_photographs(flags.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
