"""Whether the other workers of a server leave a core idle: what a run is asked before it spreads over two.

Enters: that a run of many images begins and ends. Leaves: how many cores it may take. Does not know: what runs.

A worker has one core for its batches where all are at work. Where one of them is not, as with one caller or one
connection, its core would stand idle beside a batch that is waited for.
"""

import mmap
import os
import threading
from array import array
from typing import Self

MOST_CORES = 2
"""Of a run that spreads. Two share its work nearly in halves; four leave each too little of a small net."""
PLACE_BYTES = array("I").itemsize


class Neighbours:
    """The cores that each worker's runs have taken, a number a worker in memory that they share."""

    def __init__(self, cores: int, memory: mmap.mmap | bytearray | None = None, number: int = 0) -> None:
        """One worker's view; `number` is its place. Without memory it has no neighbours."""
        self._cores = cores
        self._taken = memoryview(bytearray(PLACE_BYTES) if memory is None else memory).cast("I")
        self._number = number
        self._taken[number] = 0  # who was here before may have been killed in a run
        self._lock = threading.Lock()  # a process has batches of several models at a time

    @classmethod
    def at(cls, cores: int, descriptor: int, number: int) -> Self:
        """The same in the memory behind a file descriptor of `share_memory`."""
        return cls(cores, mmap.mmap(descriptor, 0), number)

    def take(self) -> int:
        """Take the cores for a run: two where so many are idle, and else the worker's own. To be given back."""
        with self._lock:
            free = self._cores - sum(self._taken)
            count = MOST_CORES if free >= MOST_CORES else 1
            self._taken[self._number] += count
        return count

    def give_back(self, count: int) -> None:
        """The run has ended."""
        with self._lock:
            self._taken[self._number] -= count


def share_memory(workers: int) -> int:
    """A file descriptor of memory with a place for each worker, which they inherit; it has no name."""
    try:
        descriptor = os.memfd_create("inkling")  # not under /tmp, which a container may not have
    except (AttributeError, OSError):  # no Linux; a sandbox forbids it
        import tempfile  # here: it takes 5 ms of every start

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, workers * PLACE_BYTES)
    return descriptor
