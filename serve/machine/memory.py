"""What a process does about its memory: keep what it loaded, measure its growth, and return what many calls took.

Enters: how many calls have ended. Leaves: memory, returned to the system, and whether it has grown too much.
Does not know: what took it.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

QUIET_S = 1.0
"""Seconds without a call, after which free memory is returned."""
MANY_CALLS = 100
"""Calls since the last return that make another worth its time; a few in a row would otherwise pay for it each."""
RARELY_S = 30.0
"""Seconds since the last return, after which a single call makes another worth its time: it may have been large."""

LARGEST_END_BYTES = 64 * 2**20
"""Bytes of the largest free block that glibc leaves at the end of an arena (mallopt(3), M_TRIM_THRESHOLD)."""
PIECE_BYTES = 100_000
"""Bytes of a block that glibc always takes from an arena (mallopt(3), M_MMAP_THRESHOLD)."""


def measure_resident_bytes() -> int:
    """Bytes of this process that are in memory; 0 on systems without /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def keep_loaded() -> None:
    """Exclude all loaded objects from garbage collection: scanning them would stop all calls for milliseconds.

    The little garbage that imports leave stays as well; a last collection would slow every start.
    """
    gc.freeze()
    return_free_memory()


async def return_after_bursts(count_calls: Callable[[], int]) -> None:
    """Return free memory whenever no call ended for a second after many, or after some and a while.

    `count_calls` tells how many have ended. It runs until it is cancelled. glibc otherwise keeps free memory that lies
    between two objects in use.
    """
    returned = seen = count_calls()
    returned_s = time.monotonic()
    while True:
        await asyncio.sleep(QUIET_S)
        calls = count_calls()
        is_due = calls - returned >= MANY_CALLS or (calls > returned and time.monotonic() - returned_s > RARELY_S)
        if calls == seen and is_due:
            return_free_memory()
            returned, returned_s = calls, time.monotonic()
        seen = calls


class MemoryGrowth:
    """How much the memory of this process has grown since a moment, less what is known to have another reason."""

    def __init__(self, most_bytes: int, count_others: Callable[[], int] = lambda: 0) -> None:
        """`most_bytes` may it grow; `count_others` gives the bytes that have another reason."""
        self._most_bytes = most_bytes
        self._count_others = count_others
        self._statm: int | None = None
        with contextlib.suppress(OSError):  # no /proc
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)  # open for good: files may run out
        self._base_bytes = self._measure()
        self._returned_s = 0.0

    def begin(self) -> None:
        """Growth counts from now on."""
        self._base_bytes = self._measure()

    def is_over(self) -> bool:
        """Whether the process has grown by more than it may; always where the system does not tell.

        Memory that is free already is first returned to the system, at most once a second.
        """
        if not self._is_over():
            return self._statm is None
        if time.monotonic() - self._returned_s > QUIET_S:
            return_free_memory()
            self._returned_s = time.monotonic()
        return self._is_over()

    def forgive(self) -> None:
        """Take the growth beyond what is allowed as having another reason, once free memory has been returned."""
        return_free_memory()
        self._base_bytes = max(self._base_bytes, self._measure() - self._most_bytes)

    def close(self) -> None:
        """Measure no more."""
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None

    def _is_over(self) -> bool:
        return self._measure() - self._base_bytes > self._most_bytes

    def _measure(self) -> int:
        if self._statm is None:
            return 0
        pages = int(os.pread(self._statm, 100, 0).split()[1])  # resident ones
        return pages * os.sysconf("SC_PAGESIZE") - self._count_others()


def return_free_memory() -> None:
    """Return what glibc's allocator holds free to the system."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def as_file(data: bytes) -> Iterator[str | bytes]:
    """A path at which the bytes can be read until the block ends; the bytes themselves where the system has none.

    For a library that keeps bytes which it is given, and lets go of a file. No other process can change them meanwhile.
    """
    try:
        descriptor = os.memfd_create("inkling")
    except (AttributeError, OSError):  # another system, one that forbids it, or no file is left
        yield data
        return
    try:
        path = f"/proc/self/fd/{descriptor}"
        if not os.path.exists(path):  # noqa: PTH110  # no /proc
            yield data
            return
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        del data
        yield path
    finally:
        os.close(descriptor)


def return_thread_memory() -> None:
    """Return what glibc's allocator holds free to the system, the end of the calling thread's own arena included.

    `malloc_trim` keeps the free block at the end of such an arena. So the block is taken in small pieces that nobody
    writes to, and all but the last are freed again: now that memory lies between pieces in use, and goes back.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        trim = libc.malloc_trim
        # These keep the interpreter's lock: a busy event loop would let go of it for each call only after milliseconds.
        allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)(("malloc", libc))
        free = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("free", libc))
        *pieces, last = [allocate(PIECE_BYTES) for _ in range(LARGEST_END_BYTES // PIECE_BYTES + 1)]
        for piece in pieces:
            free(piece)
        trim(0)
        free(last)
