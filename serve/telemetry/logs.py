"""The process's log: one line an event, on stderr.

Enters: a level, and texts that others wrote. Leaves: a root logger that is set up, and texts that fit on one line.
Does not know: what is logged.
"""

import logging
import warnings

LONGEST_TEXT = 1000
"""Characters of a text that somebody else wrote."""


def start_logging(level: str) -> None:
    """Log messages of a level ("debug", "info", "warning", "error") and above."""
    # Pillow warns about odd metadata, with texts that come from the caller: they would fill the log and the registry.
    warnings.filterwarnings("ignore", module="PIL")
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    logging.getLogger("grpc._cython.cygrpc").addFilter(is_news)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a message of gRPC is news: it logs a traceback for every answer whose caller has left."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"  # by name: a supervisor goes without gRPC


def one_line(text: str) -> str:
    """A text of others for the log: printable characters alone, the rest as escapes, at most LONGEST_TEXT of them."""
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return line if len(line) <= LONGEST_TEXT else f"{line[:LONGEST_TEXT]}..."
