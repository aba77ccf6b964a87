"""`python -m train.data --dataset NAME --export DIR`: a published dataset -> class folders of PNG.

Enters: flags. Leaves: `DIR`/<class name>/<index>.png; exit code 0, 1 for an unusable dataset, 2 for bad usage.
Does not know: how the files are found and read (`datasets.py`).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from train.data.datasets import Part, load
from train.data.sources import SOURCES, DatasetError
from train.flags import add_data_flag, read_flags


@dataclass(frozen=True)
class ExportFlags:
    """The flags of `python -m train.data`."""

    dataset: str
    export: Path
    data: Path | None
    split: str


def export_folders(part: Part, names: Sequence[str], folder: Path) -> None:
    """Write each image to `folder`/<class name>/<index>.png. Raises OSError."""
    for name in names:
        (folder / name).mkdir(parents=True)
    for index, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
        picture = Image.fromarray(image.squeeze())  # Pillow has no channel axis for grey
        picture.save(folder / names[label] / f"{index:05d}.png", compress_level=1)


def require_room(folder: Path) -> None:
    """Raise DatasetError if a path is a file, or a folder that is not empty."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DatasetError(f"wanted a new or an empty folder to export to, found {folder}, which is neither")


def parse_flags() -> ExportFlags:
    """Read the flags. Exits with code 2 on bad usage."""
    parser = argparse.ArgumentParser(prog="python -m train.data", description="Write a dataset as folders of PNG.")
    add = parser.add_argument
    add("--dataset", choices=SOURCES, required=True, help="export this dataset")
    add("--export", type=Path, required=True, metavar="DIR", help="write to DIR/<class name>, if DIR is new or empty")
    add_data_flag(parser)
    add("--split", choices=("test", "train"), default="test", help="export these images; default: test")
    return read_flags(parser, ExportFlags)


def main() -> int:
    """Parse the flags, export, and return the exit code."""
    flags = parse_flags()
    hint = f"; remove {flags.export} before you try again"
    try:
        require_room(flags.export)  # first, because the dataset may have to be fetched
        dataset = load(flags.dataset, flags.data)
        part = dataset.test if flags.split == "test" else dataset.train
        export_folders(part, dataset.labels["en"], flags.export)
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # that of a full disk names no file
        advice = hint if flags.export.exists() else ""
        print(f"error: {error.filename or flags.export}: {error.strerror}{advice}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted{hint if flags.export.exists() else ''}", file=sys.stderr)
        return 1
    print(f"{len(part)} images in {len(dataset.labels['en'])} class folders under {flags.export}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
