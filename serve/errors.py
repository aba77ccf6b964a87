"""Every failure that Inkling names, drawn once.

Enters: nothing. Leaves: exception classes; those that reach a client have a `reason` that programs can match on.
Does not know: gRPC and its status codes (`status.py` maps them), files, sockets.

    InklingError
    |-- RequestError            the caller can mend it
    |   |-- ImageError          the bytes are not an image that we take
    |   |   |-- EmptyImage
    |   |   |-- UnreadableImage     not one of the known formats, or broken inside
    |   |   |-- TruncatedImage      begins well, ends early
    |   |   `-- ImageTooLarge       more pixels than the limit
    |   |-- UnreadableRequest   the bytes are not the message that the method takes
    |   |-- OptionError         top_k, language or batch size out of range
    |   `-- NotFound            no such model or version
    |-- ServerError             the server's state, not the request, is the reason
    |   |-- Overloaded              the queue is full; try again later
    |   |-- Expired                 the deadline passed while the work waited
    |   `-- Draining                the server is stopping
    |-- ModelFileError          a model file that must not be served
    |   |-- CorruptModelFile        its bytes are not those that were exported
    |   |-- InvalidMetadata         a key is missing or malformed
    |   |-- UnknownPolicy           a preparation that this version cannot do
    |   `-- SelfTestFailed          it loads, and answers something else than at export
    |-- ConfigError             a flag or an environment variable, or two that do not fit
    |   |-- NoModelLoaded           every model file was refused
    |   `-- PortTaken               something else listens there
    `-- CallError               seen by a client: a call that came back with a status
"""

from collections.abc import Iterable

LONGEST_ECHO = 80
LONGEST_LIST = 300


class InklingError(Exception):
    """The root: the message says what was wanted and what came."""

    reason = "UNKNOWN"
    """Of what no client is told by name: classes that are never raised themselves, faults of files and settings."""


class RequestError(InklingError):
    """The caller can mend it."""


class ImageError(RequestError):
    """The bytes are not an image that we take."""


class EmptyImage(ImageError):
    """No bytes at all."""

    reason = "IMAGE_EMPTY"


class UnreadableImage(ImageError):
    """Not one of the known formats, or broken inside."""

    reason = "IMAGE_UNREADABLE"


class TruncatedImage(ImageError):
    """Begins as an image and ends too early."""

    reason = "IMAGE_TRUNCATED"


class ImageTooLarge(ImageError):
    """Its header announces more pixels than the limit."""

    reason = "IMAGE_TOO_LARGE"


class UnreadableRequest(RequestError):
    """The bytes are not the message that the method takes."""

    reason = "REQUEST_UNREADABLE"


class OptionError(RequestError):
    """An option or a size of the request is out of its range."""

    reason = "OPTION_INVALID"


class NotFound(RequestError):
    """No such model, or no such version of it."""

    reason = "MODEL_NOT_FOUND"


class ServerError(InklingError):
    """The server's state is the reason; the same request may succeed elsewhere or later."""


class Overloaded(ServerError):
    """As much work waits already as may wait."""

    reason = "OVERLOADED"


class Expired(ServerError):
    """The call's deadline passed while its work waited."""

    reason = "EXPIRED"


class Draining(ServerError):
    """The server is stopping and takes no new work."""

    reason = "DRAINING"


class ModelFileError(InklingError):
    """A model file that must not be served."""


class CorruptModelFile(ModelFileError):
    """Its bytes are not the ones that were exported."""


class InvalidMetadata(ModelFileError):
    """A metadata key is missing or holds something else than the format says."""


class UnknownPolicy(ModelFileError):
    """It asks for a preparation that this version of the server does not know."""


class SelfTestFailed(ModelFileError):
    """It loads, but does not give the probabilities that it gave at export."""


class ConfigError(InklingError):
    """A flag or an environment variable is wrong, or two of them do not fit together."""

    exit_code = 2
    """The exit code of a server that cannot start because of it."""


class NoModelLoaded(ConfigError):
    """Every model file was refused."""

    exit_code = 3


class PortTaken(ConfigError):
    """Something else listens on the port."""

    exit_code = 4


class CallError(InklingError):
    """A call that came back with a status: `code` is its canonical name, `reason` the ErrorInfo's."""

    def __init__(self, code: str, reason: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


def quote(text: str) -> str:
    """What a caller sent, for an error's sentence: that is sent in a header, whose length clients limit."""
    return repr(text) if len(text) <= LONGEST_ECHO else f"{text[:LONGEST_ECHO]!r}..."


def list_some(names: Iterable[str]) -> str:
    """The known names for an error's sentence, as many as fit into a header beside the rest."""
    first, length, others = [], 0, list(names)
    while others and length + len(others[0]) <= LONGEST_LIST:
        length += len(others[0]) + len(", ")
        first.append(others.pop(0))
    rest = [f"... and {len(others)} more; ListModels has all"] if others else []
    return ", ".join(first + rest)
