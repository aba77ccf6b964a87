"""How the text of a flag is read, for commands that share a rule.

Enters: a flag's text. Leaves: a number; argparse prints what was wanted instead.
Does not know: which flags there are.
"""

import argparse
from collections.abc import Callable


def count_from(least: int) -> Callable[[str], int]:
    """A function that reads a whole number from `least`, or raises argparse.ArgumentTypeError."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"wanted a whole number from {least}; got {text!r}")
        return int(text)

    return read
