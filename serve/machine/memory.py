"""What a process does about its memory: keep what it loaded, and give back what many calls took.

Enters: how many calls there have been. Leaves: memory, to the system. Does not know: what took it.
"""

import asyncio
import contextlib
import ctypes
import gc
from collections.abc import Callable

QUIET_S = 1.0
MANY_CALLS = 100
"""So that the calls of a lone caller, who would wait for it each time, do not bring it about."""


def settle() -> None:
    """Once all is loaded: it stays. To look through it for garbage held up all calls, 13 ms at a time.

    Nor is it looked through now: the little garbage that imports leave is not worth so much of every start.
    """
    gc.freeze()
    give_back()


async def give_back_after_crowds(count_calls: Callable[[], int]) -> None:
    """Whenever none has come for a second after many; until cancelled.

    glibc keeps what lies between two things still in use: some 25 MiB after an overload of two workers. It takes 2 ms.
    """
    given = seen = count_calls()
    while True:
        await asyncio.sleep(QUIET_S)
        calls = count_calls()
        if calls == seen and calls - given >= MANY_CALLS:
            give_back()
            given = calls
        seen = calls


def give_back() -> None:
    """Return to the system what is free; after loading that is 20 MiB for six models."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
