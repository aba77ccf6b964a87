"""The event loop of a process that serves: uvloop's where it is installed, else asyncio's.

Enters: nothing. Leaves: a new event loop. Does not know: what runs on it.
"""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop, uvloop's if it is installed: it serves more calls (docs/benchmarks/history.md)."""
    try:
        import uvloop  # here: it does not exist for Windows
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
