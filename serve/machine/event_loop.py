"""The event loop that this machine is quickest with.

Enters: nothing. Leaves: a new event loop. Does not know: what runs on it.
"""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop where it is installed: it serves about half as many calls again."""
    try:
        import uvloop  # here: it does not exist for Windows
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
