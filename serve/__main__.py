"""`python -m serve`: read the settings, then supervise workers that serve until told to stop."""

import asyncio
import logging
import os
import signal
import sys
from dataclasses import replace

from serve.config import describe, find_log_format, is_given, read_config
from serve.errors import ConfigError
from serve.process.startup import end, open_standard_streams
from serve.process.supervisor import choose_workers, supervise
from serve.telemetry.logs import start_logging, wrap_standard_streams

logger = logging.getLogger("serve")


def main() -> int:
    """Exit code 0 after a clean stop, 2 for a bad setting, 3 without a model that loads, 4 for a taken port, else 1."""
    open_standard_streams()
    signal.signal(signal.SIGTERM, _leave)  # until the event loop has its own: a container's first process has none
    if find_log_format(sys.argv[1:], os.environ) == "json":
        wrap_standard_streams()  # also what is printed because a setting is wrong
    try:
        config = read_config(sys.argv[1:], os.environ)
        config = replace(config, workers=choose_workers(config))
        start_logging(config.log_level, config.log_format)
        logger.info("settings: %s", describe(config))
        return asyncio.run(supervise(config, is_given("metrics_port", sys.argv[1:], os.environ)))
    except ConfigError as error:
        print(f"serve: {error}", file=sys.stderr)
        return error.exit_code


def _leave(*_: object) -> None:
    sys.exit(0)


if __name__ == "__main__":
    end(main())
