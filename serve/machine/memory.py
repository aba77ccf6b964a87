"""What a process does about its memory: keep what it loaded, and return what many calls took.

Enters: how many calls have ended. Leaves: memory, returned to the system. Does not know: what took it.
"""

import asyncio
import contextlib
import ctypes
import gc
import time
from collections.abc import Callable

QUIET_S = 1.0
"""Seconds without a call, after which free memory is returned."""
MANY_CALLS = 100
"""Calls since the last return that make another worth its time; a few in a row would otherwise pay for it each."""
RARELY_S = 30.0
"""Seconds since the last return, after which a single call makes another worth its time: it may have been large."""


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


def return_free_memory() -> None:
    """Return what glibc's allocator holds free to the system."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
