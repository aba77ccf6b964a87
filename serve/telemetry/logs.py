"""The process's log: one line an event, on stderr.

Enters: a level. Leaves: nothing; the root logger is set up. Does not know: what is logged.
"""

import logging
import warnings


def start_logging(level: str) -> None:
    """One line a message, on stderr."""
    # Pillow warns about odd metadata, with texts that come from the caller: they would fill the log and the registry.
    warnings.filterwarnings("ignore", module="PIL")
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    logging.getLogger("grpc._cython.cygrpc").addFilter(is_news)


def is_news(record: logging.LogRecord) -> bool:
    """Whether gRPC's core says something new: an answer whose caller has left is no error, and it logs a traceback."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"  # by name: a supervisor goes without gRPC
