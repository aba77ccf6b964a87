"""How many cores a run may use: one, or two while the other workers leave one idle.

Enters: that a run begins and ends. Leaves: a number of cores. Does not know: what runs.
With one client or one connection a single worker has all the work, and the others' cores are idle.
"""

import mmap
import os
import threading
from array import array
from typing import Self

MOST_CORES = 2
"""Cores of one run. Two share its work nearly in halves; four leave each too little of a small net."""
SLOT_BYTES = array("I").itemsize


class IdleCores:
    """The cores that each worker's runs have claimed: one number per worker, in memory that the workers share."""

    def __init__(self, cores: int, memory: mmap.mmap | bytearray | None = None, number: int = 0) -> None:
        """The view of worker `number`. Without memory there are no other workers."""
        self._cores = cores
        self._claimed = memoryview(bytearray(SLOT_BYTES) if memory is None else memory).cast("I")
        self._number = number
        self._claimed[number] = 0  # the worker before may have been killed in a run
        self._lock = threading.Lock()  # a process has batches of several models at a time

    @classmethod
    def at(cls, cores: int, descriptor: int, number: int) -> Self:
        """The same, in the memory behind a file descriptor of `share_memory`."""
        return cls(cores, mmap.mmap(descriptor, 0), number)

    def claim(self) -> int:
        """Claim the cores for a run: two where so many are idle, else one. `release` gives them back."""
        with self._lock:
            free = self._cores - sum(self._claimed)
            count = MOST_CORES if free >= MOST_CORES else 1
            self._claimed[self._number] += count
        return count

    def release(self, count: int) -> None:
        """Give back the cores of a run that has ended."""
        with self._lock:
            self._claimed[self._number] -= count


def share_memory(workers: int) -> int:
    """A file descriptor of unnamed memory with a slot for each worker, which the workers inherit."""
    try:
        descriptor = os.memfd_create("inkling")  # not under /tmp, which a container may not have
    except (AttributeError, OSError):  # no Linux; a sandbox forbids it
        import tempfile  # here: it takes 5 ms of every start

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, workers * SLOT_BYTES)
    return descriptor
