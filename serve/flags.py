"""How the text of a flag is read, for commands that share a rule.

Enters: a flag's text. Leaves: a text, or a function that reads numbers; argparse prints what was wanted instead.
Does not know: which flags there are.
"""

import argparse
from collections.abc import Callable

from serve.errors import quote


def read_text(text: str) -> str:
    """Read a text that is sent to a server. Raises argparse.ArgumentTypeError."""
    if not is_utf_8(text):
        raise argparse.ArgumentTypeError(f"wanted a text in UTF-8, got {quote(text)}")
    return text


def is_utf_8(text: str) -> bool:
    """Whether a text of the command line is UTF-8. Python keeps other bytes as surrogates, which no message takes."""
    return not any("\ud800" <= each <= "\udfff" for each in text)


def count_from(least: int) -> Callable[[str], int]:
    """A function that reads a whole number from `least`, or raises argparse.ArgumentTypeError."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"wanted a whole number from {least}; got {text!r}")
        return int(text)

    return read
