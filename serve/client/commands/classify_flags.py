"""The flags of `python -m serve.client`, which classifies images.

Enters: nothing. Leaves: the parser of a command line, and the fields that it reads. Does not know: calls, servers.
"""

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.client.endpoint import ConnectionFlags, add_connection_flags
from serve.flags import read_text
from serve.program import name_program

MAX_LABELS = 2**31 - 1
"""The largest number that the request's int32 field holds."""


@dataclass(frozen=True, slots=True)
class Options(ConnectionFlags):
    """The command line."""

    images: Sequence[str]
    model: str
    top: int
    language: str
    min_familiarity: float
    json: bool
    wait: float
    explain: Path | None


def make_parser() -> argparse.ArgumentParser:
    """The flags, named as the fields of Options."""
    parser = argparse.ArgumentParser(
        prog=name_program("serve.client"), description="Classify images with a running server."
    )
    add = parser.add_argument
    add(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="classify these files, folders (searched for images) and globs; - is standard input",
    )
    add_connection_flags(parser)
    only = "use the model NAME (default: the server's only model)"
    add("--model", type=read_text, default="", metavar="NAME", help=only)
    add("--top", type=_read_top, default=3, metavar="K", help="print K labels per image; 0 prints 5 (default: 3)")
    language = "print labels in the language CODE, such as ru (default: en)"
    add("--language", type=read_text, default="", metavar="CODE", help=language)
    add(
        "--min-familiarity",
        type=_read_share,
        default=0,
        metavar="F",
        help="print unknown for images of a familiarity below F, from 0 (off) to 1 (default: 0)",
    )
    add("--json", action="store_true", help="print a line of JSON per image instead of the table")
    add(
        "--explain",
        type=Path,
        metavar="DIR",
        help="write the pictures on the way from each image to the network's input into DIR",
    )
    add(
        "--wait",
        type=float,
        default=0,
        metavar="S",
        help="wait up to S seconds for the server (default: 0)",
    )
    return parser


def _read_share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (share := float(text)) <= 1:
            return share
    raise argparse.ArgumentTypeError(f"wanted a share from 0 (off) to 1, such as 0.01; got {text!r}")


def _read_top(text: str) -> int:
    if not (text.isdecimal() and int(text) <= MAX_LABELS):
        raise argparse.ArgumentTypeError(f"wanted a number of labels from 0 (five) to {MAX_LABELS:,}, got {text!r}")
    return int(text)
