"""`python -m serve`: read the settings, then supervise workers that serve until told to stop."""

import asyncio
import os
import signal
import sys
from dataclasses import replace

from serve.config import read_config
from serve.errors import ConfigError
from serve.process.startup import end, open_standard_streams
from serve.process.supervisor import choose_workers, supervise
from serve.telemetry.logs import start_logging


def main() -> int:
    """Exit code 0 after a clean stop, 2 for a bad setting, 3 without a model that loads, 4 for a taken port, else 1."""
    open_standard_streams()
    signal.signal(signal.SIGTERM, _leave)  # until the event loop has its own: a container's first process has none
    try:
        config = read_config(sys.argv[1:], os.environ)
        config = replace(config, workers=choose_workers(config))
        start_logging(config.log_level)
        return asyncio.run(supervise(config))
    except ConfigError as error:
        print(f"serve: {error}", file=sys.stderr)
        return error.exit_code


def _leave(*_: object) -> None:
    sys.exit(0)


if __name__ == "__main__":
    end(main())
