"""The process's log: one line an event on stderr, as text or as JSON.

Enters: a level, a format, and texts that others wrote. Leaves: a root logger that is set up, and texts that fit on one
line. Does not know: what is logged.
"""

import asyncio
import io
import json
import logging
import sys
import threading
import warnings
from datetime import UTC, datetime
from typing import Any, TextIO

from serve.telemetry.calls import CURRENT_CALL

LONGEST_TEXT = 1000
"""Characters of a text that somebody else wrote."""
LONGEST_LINE = 2**20
"""Bytes of a line that another process wrote."""


def start_logging(level: str, form: str = "text") -> None:
    """Log messages of a level ("debug", "info", "warning", "error") and above, as "text" or "json"."""
    # Pillow warns about odd metadata, with texts that come from the caller: they would fill the log and the registry.
    warnings.filterwarnings("ignore", module="PIL")
    # It also logs errors of its own for images that it cannot read. The caller gets the reason in the answer.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("grpc._cython.cygrpc").addFilter(is_news)
    if form == "json":
        logging.captureWarnings(True)
        sys.excepthook = _log_exception
        threading.excepthook = lambda failed: _log_exception(failed.exc_type, failed.exc_value, failed.exc_traceback)


class TextFormatter(logging.Formatter):
    """A line an event. The lines of a traceback are indented, so that no text within one passes for an event."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback below it."""
        return "\n\t".join(_escape(line) for line in super().format(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object an event, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        event = make_event(record.levelname, record.name, record.getMessage())
        event["process"] = record.process
        if call := CURRENT_CALL.get():
            event["request_id"] = call.request_id
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event)


class JsonStream(io.TextIOBase):
    """Stands in for stdout or stderr: each line that is no JSON object becomes one."""

    def __init__(self, stream: TextIO, name: str) -> None:
        super().__init__()
        self._stream = stream
        self._name = name
        self._rest = ""

    def write(self, text: str) -> int:
        """Write the lines that are complete; the rest waits for its end."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._stream.write(to_json_line(line, self._name))
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind it."""
        self._stream.flush()


def make_event(level: str, logger: str, message: str) -> dict[str, Any]:
    """What every event has."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"time": now, "level": level, "logger": logger, "message": message}


def to_json_line(line: str, source: str) -> str:
    """A line that may be one of JSON already, as one of JSON."""
    try:
        if isinstance(json.loads(line), dict):
            return line.rstrip("\n") + "\n"
    except ValueError:
        pass
    return json.dumps(make_event("WARNING", source, line.rstrip("\n"))) + "\n"


def wrap_standard_streams() -> None:
    """Make every line that this process prints from now on a JSON object; a second time does nothing."""
    if not isinstance(sys.stderr, JsonStream):
        sys.stdout, sys.stderr = JsonStream(sys.stdout, "stdout"), JsonStream(sys.stderr, "stderr")


async def forward_lines(lines: asyncio.StreamReader, name: str) -> None:
    """Write each line of another process to this one's stderr as JSON: also what its libraries print."""
    while True:
        try:
            line = await lines.readline()
        except ValueError:  # longer than the stream's limit, and dropped
            line = f"a line over {LONGEST_LINE} bytes was dropped\n".encode()
        if not line:
            return
        sys.stderr.write(to_json_line(line.decode(errors="backslashreplace"), name))
        sys.stderr.flush()


def _log_exception(kind: Any, error: Any, trace: Any) -> None:
    logging.getLogger("serve").critical("the process failed", exc_info=(kind, error, trace))


def is_news(record: logging.LogRecord) -> bool:
    """Whether a message of gRPC is news: it logs a traceback for every answer whose caller has left."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"  # by name: a supervisor goes without gRPC


def one_line(text: str) -> str:
    """A text of others for the log: printable characters alone, the rest as escapes, at most LONGEST_TEXT of them."""
    line = _escape(text)
    return line if len(line) <= LONGEST_TEXT else f"{line[:LONGEST_TEXT]}..."


def _escape(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
