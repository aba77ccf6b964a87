"""The JSON values of a model file's metadata: what each kind of fact may be.

Enters: a value as JSON has it. Leaves: the same value with its type, or ValueError. Does not know: keys.
"""

from collections.abc import Mapping
from typing import Any


def read_text(value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("wanted a string that is not empty")
    value.encode()  # a lone surrogate, which JSON can spell, is a ValueError
    return value


def read_integer(value: Any) -> int:
    """An integer that fits into 32 bits and is not negative."""
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError("wanted an integer from 0 to 2^31 - 1")
    return value


def read_fraction(value: Any) -> float:
    """A number from 0 to 1."""
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError("wanted a number from 0 to 1")
    return float(value)


def read_mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ValueError("wanted a JSON object")
    return value


def read_texts(value: Any) -> Mapping[str, str]:
    """A JSON object of strings."""
    return {name: read_text(text) for name, text in read_mapping(value).items()}
