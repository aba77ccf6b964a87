"""The work of a command -> its exit code. A failure that the user can mend ends with a sentence, never with a trace.

Enters: a function that works, and one that says what an unfinished run left. Leaves: an exit code, a line on stderr.
Does not know: what the work is.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from serve.errors import ConfigError, InklingError
from serve.program import prepare_streams

EXTRA_PACKAGES = {"keras", "matplotlib", "onnx", "onnxruntime", "tensorflow", "tf2onnx"}  # of the extras cpu and train
STDOUT_REMEDY = "send it to a file or to /dev/null"
REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or raise the quota",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EROFS: "mount it for writing",
    errno.EIO: "check that disk",
}
"""What helps against an error of a disk, by its number. These errors often come after hours of work."""


def run(work: Callable[[], int], advise: Callable[[], str]) -> int:
    """Do the work and return its exit code. Interruptions and named failures end with a sentence, and code 1 or 2.

    `advise` says what an unfinished run left, and how to continue it.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM cleans up as Ctrl-C does
    try:
        if not prepare_streams():
            raise BrokenPipeError(errno.EPIPE, "it is closed")
        code = work()
        sys.stdout.flush()  # here, for an error in the interpreter's own flush would end with a trace
        return code
    except KeyboardInterrupt:
        print(f"interrupted: {advise()}", file=sys.stderr)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {_explain(error, advise)}", file=sys.stderr)
    except InklingError as error:
        print(f"error: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        if error.name not in EXTRA_PACKAGES:
            raise
        print(f'error: {error.name} is not installed; pip install -e ".[cpu,train]" installs it', file=sys.stderr)
    return 1


def advise_resuming(checkpoint: Path) -> str:
    """Say what an unfinished training left."""
    hint = f"; continue with --resume ({checkpoint})" if checkpoint.exists() else ""
    return f"no model file was written{hint}"


def _explain(error: OSError, advise: Callable[[], str]) -> str:
    """The path and the reason of an error, and what helps."""
    reason = error.strerror or str(error)
    if error.filename is None and _has_lost_stdout(error):
        return f"stdout cannot be written to ({reason}); {STDOUT_REMEDY}; {advise()}"
    sentence = reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"
    remedy = REMEDIES.get(error.errno or 0)
    return f"{sentence}; {remedy}; {advise()}" if remedy else sentence


def _has_lost_stdout(error: OSError) -> bool:
    """Whether stdout cannot be written to. If so, it becomes /dev/null, because the interpreter flushes it at exit."""
    try:
        print(flush=True)
    except OSError:
        pass
    else:
        if not isinstance(error, BrokenPipeError):
            return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True
