"""`python -m tests.soak`: callers of all kinds on real servers for half an hour, with kills and stops between.

Enters: flags. Leaves: a table; exit code 1 if there was a fault.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.soak.run import soak, write_table
from tests.support import encode


def draw_bands() -> list[bytes]:
    """An image with its bright band at the top, one in the middle, one at the bottom."""
    images = []
    for band in range(3):
        pixels = np.zeros((12, 12, 3), np.uint8)
        pixels[4 * band : 4 * band + 4] = 255
        images.append(encode(Image.fromarray(pixels)))
    return images


def main() -> int:
    """0 without a fault."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="Call real servers, good and bad, for long."
    )
    parser.add_argument("--minutes", type=float, default=30, help="call for so many minutes (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="choose events and calls by this seed (default: %(default)s)"
    )
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = soak(60 * flags.minutes, Path(folder), draw_bands(), flags.seed)
    print(write_table(report))
    return bool(report.find_faults())


if __name__ == "__main__":
    sys.exit(main())
