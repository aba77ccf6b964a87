"""How a process of the server begins and ends: its standard streams, its stop signals, its last act.

Enters: nothing, or an exit code. Leaves: open standard streams, or the system. Does not know: what the process does.
"""

import logging
import os
import signal
import sys
from typing import NoReturn

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
"""Signals that stop the server in order: a terminal sends the last three when it interrupts, closes or quits."""


def open_standard_streams() -> None:
    """Give a process that was started without them something to read from and to write to.

    The next file or socket would otherwise take their numbers, and whatever logs would write into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  # open for good


def end(code: int) -> NoReturn:
    """End the process now. Python would first wait for a thread that decodes an image whose caller has left."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is closed
            continue
    os._exit(code)
