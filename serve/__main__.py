"""`python -m serve`: read the settings, then serve until told to stop, in one process or many."""

import asyncio
import os
import signal
import sys
from dataclasses import replace

from serve.config import read_config
from serve.errors import ConfigError
from serve.machine.event_loop import new_event_loop
from serve.process.startup import end
from serve.process.supervisor import choose_workers, supervise
from serve.telemetry.logs import start_logging


def main() -> int:
    """Exit code 0 after a clean stop, 2 for a bad setting."""
    signal.signal(signal.SIGTERM, _leave)  # until the event loop has its own: a container's first process has none
    try:
        config = read_config(sys.argv[1:], os.environ)
        config = replace(config, workers=choose_workers(config))
        start_logging(config.log_level)
        if config.workers > 1:
            return asyncio.run(supervise(config))
        from serve.process.server import serve  # here: a supervisor needs neither gRPC nor ONNX Runtime

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(config, asyncio.Event()))
    except ConfigError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    return 0


def _leave(*_: object) -> None:
    sys.exit(0)


if __name__ == "__main__":
    end(main())
