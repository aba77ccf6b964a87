"""The server that is measured: one of its own, or one that runs already.

Enters: flags of `python -m serve`. Leaves: an address, and a process to look at. Does not know: loads, figures.
"""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from serve.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Target:
    """The server under load: where it is, and its process where it is ours to look at."""

    address: str
    pid: int | None


@contextmanager
def start_server(flags: Sequence[str]) -> Iterator[Target]:
    """`python -m serve` on a free port, until the end of the block. Raises ConfigError where it does not serve."""
    # Where it serves is said at the level info, whatever the environment sets for servers.
    command = [sys.executable, "-m", "serve", "--port", "0", "--log-level", "info", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603  # our own module
        lines = iter(process.stderr or ())
        log = threading.Thread(target=sys.stderr.writelines, args=(lines,))
        try:
            address = next((found[1] for line in lines if (found := re.search(r"serving .* on (\S+)$", line))), "")
            if not address:
                raise ConfigError("the server ended before it served; start it by hand to see why")
            log.start()  # reads on: a full pipe would hold up the server
            yield Target(address, process.pid)
        finally:
            process.terminate()
            process.wait()
            if log.is_alive():
                log.join()  # before the block closes what it reads
