"""What commands have in common: their name in their own help, and standard streams that can be written to.

Enters: a module's name. Leaves: what its users type, `python -m MODULE` or `inkling COMMAND`; streams without a gap.
Does not know: which commands there are.
"""

import io
import os
import sys
from contextvars import ContextVar

COMMAND: ContextVar[str] = ContextVar("command", default="")
"""The words after `inkling`; none under `python -m`."""


def name_program(module: str) -> str:
    """What usage and errors of a module's flags begin with."""
    command = COMMAND.get()
    return f"inkling {command}" if command else f"python -m {module}"


def prepare_streams() -> bool:
    """Put /dev/null where a standard stream is closed, and escape what stdout cannot encode. Whether stdout was open.

    The next file would otherwise take the number of the closed stream, and libraries would write their logs into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # open for good
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # open for good
        return False
    return True
