"""`python -m serve`: read the settings, then serve until told to stop, in one process or many."""

import asyncio
import logging
import os
import signal
import sys
import warnings
from dataclasses import replace
from typing import NoReturn

from serve.config import ServerConfig, read_config
from serve.errors import ConfigError
from serve.supervisor import choose_workers, supervise


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop where it is installed: it serves about half as many calls again."""
    try:
        import uvloop  # here: it does not exist for Windows
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def start_logging(config: ServerConfig) -> None:
    """One line a message, on stderr."""
    # Pillow warns about odd metadata, with texts that come from the caller: they would fill the log and the registry.
    warnings.filterwarnings("ignore", module="PIL")
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("grpc._cython.cygrpc").addFilter(is_news)


def is_news(record: logging.LogRecord) -> bool:
    """Whether gRPC's core says something new: an answer whose caller has left is no error, and it logs a traceback."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"  # by name: a supervisor goes without gRPC


def main() -> int:
    """Exit code 0 after a clean stop, 2 for a bad setting."""
    signal.signal(signal.SIGTERM, _leave)  # until the event loop has its own: a container's first process has none
    try:
        config = read_config(sys.argv[1:], os.environ)
        config = replace(config, workers=choose_workers(config))
        start_logging(config)
        if config.workers > 1:
            return asyncio.run(supervise(config))
        from serve.server import serve  # here: a supervisor needs neither gRPC nor ONNX Runtime

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(config, asyncio.Event()))
    except ConfigError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    return 0


def _leave(*_: object) -> None:
    sys.exit(0)


def end(code: int) -> NoReturn:
    """End the process now. Python would first wait for a thread that decodes an image whose caller has left."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main())
