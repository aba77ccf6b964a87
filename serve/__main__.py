"""`python -m serve`: read the settings, then serve until told to stop."""

import asyncio
import logging
import os
import sys

from serve.config import read_config
from serve.errors import ConfigError
from serve.server import serve


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop where it is installed: it serves about half as many calls again."""
    try:
        import uvloop  # here: it does not exist for Windows
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def main() -> int:
    """Exit code 0 after a clean stop, 2 for a bad setting."""
    try:
        config = read_config(sys.argv[1:], os.environ)
        logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(config))
    except ConfigError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
