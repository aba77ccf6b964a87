"""`python -m serve`: read the settings, then supervise workers that serve until told to stop, or check and end."""

import asyncio
import logging
import os
import signal
import sys
from dataclasses import replace

from serve.config import find_log_format, read_config, read_given, to_texts, wants_check
from serve.errors import ConfigError
from serve.process.startup import end, open_standard_streams
from serve.process.supervisor import choose_workers, supervise
from serve.settings import describe
from serve.telemetry.logs import start_logging, wrap_standard_streams

logger = logging.getLogger("serve")  # not __main__, which it is when it runs


def main() -> int:
    """Exit code 0 after a clean stop, 2 for a bad setting, 3 without a model that loads, 4 for a taken port, else 1.

    A check ends with 0, or with 3 if it found a bad model.
    """
    open_standard_streams()
    signal.signal(signal.SIGTERM, _leave)  # until the event loop has its own: a container's first process has none
    if find_log_format(sys.argv[1:], os.environ) == "json":
        wrap_standard_streams()  # also what is printed because a setting is wrong
    try:
        config = read_config(sys.argv[1:], os.environ)
        config = replace(config, workers=choose_workers(config))
        if config.log_format == "json":
            wrap_standard_streams()  # a file of settings may have said so
        start_logging(config.log_level, config.log_format)
        if wants_check(sys.argv[1:]):
            from serve.process.check import check  # here: a supervisor goes without gRPC and ONNX Runtime

            return check(config)
        logger.info("settings: %s", describe(to_texts(config)))
        return asyncio.run(supervise(config, "metrics_port" in read_given(sys.argv[1:], os.environ)))
    except ConfigError as error:
        print(f"serve: {error}", file=sys.stderr)
        return error.exit_code


def _leave(*_: object) -> None:
    sys.exit(0)


if __name__ == "__main__":
    end(main())
