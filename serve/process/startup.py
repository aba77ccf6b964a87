"""How a process of the server begins and ends: streams, environment, stop signals, last act, pause before the next.

Enters: an exit code, or how long a process ran. Leaves: open standard streams, the end of the process, or the seconds
before the next start. Does not know: what the process does.
"""

import contextlib
import logging
import os
import signal
import sys
from asyncio.subprocess import Process
from typing import NoReturn

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0
STABLE_S = 30.0
"""Seconds. A process that ran this long did not end because of its start: the pause before the next is short again."""

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


def name_end(code: int) -> str:
    """How a process ended, in words: the signal's name, or the exit code."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def next_pause_s(last_s: float, ran_s: float) -> float:
    """Seconds before the next start of a process that ran for `ran_s`: twice the last pause, unless it ran for long."""
    return FIRST_BACKOFF_S if not last_s or ran_s > STABLE_S else min(2 * last_s, LONGEST_BACKOFF_S)


def send_signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended a moment ago."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def make_environment() -> dict[str, str]:
    """The environment of a process of the server."""
    # Each worker computes in ONNX Runtime; numpy's own pool would only hold memory. gRPC's core logs what peers send,
    # as it is; only who asks for that gets it.
    return {"GRPC_VERBOSITY": "NONE", **os.environ, "OPENBLAS_NUM_THREADS": "1"}
