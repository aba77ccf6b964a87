"""Every error that Inkling defines, in one tree.

Enters: nothing. Leaves: exception classes; those that reach a client have a `reason` for programs to match on.
Does not know: gRPC and its status codes (`serve/api/status.py` maps them), files, sockets.

    InklingError
    |-- RequestError            the client can correct the request
    |   |-- ImageError          the bytes are not a supported image
    |   |   |-- EmptyImage
    |   |   |-- UnreadableImage     an unsupported format, or invalid data
    |   |   |-- TruncatedImage      an image file that ends too early
    |   |   `-- ImageTooLarge       more pixels than the limit
    |   |-- UnreadableRequest   the bytes are not the method's request message
    |   |-- RequestStalled      the message did not come in time
    |   |-- OptionError         top_k, language or batch size out of range
    |   |-- TensorError         tensors or parameters that the model does not take
    |   |-- NotFound            no such model or version
    |   |-- ModelControlOff     the settings let no client load or unload models
    |   `-- Unauthenticated     no token, or none that the server knows
    |-- ServerError             the state of the server is the cause, not the request
    |   |-- Overloaded              the queue is full; try again later
    |   |-- TooManyCalls            the caller has as many calls under way as it may
    |   |-- Expired                 the deadline passed in the queue
    |   |-- Draining                the server is stopping
    |   `-- ModelRefused            a model that a client asked for cannot be loaded
    |-- ModelFileError          a model file that must not be served
    |   |-- CorruptModelFile        its bytes have changed since the export
    |   |-- InvalidMetadata         a key is missing or malformed
    |   |-- UnknownPolicy           a policy that this version does not have
    |   `-- SelfTestFailed          its answers differ from those at export
    |-- FolderUnusable          a folder that does not hold pictures as they are needed
    |-- ConfigError             a wrong setting, or two that do not fit together
    |   |-- NoModelLoaded           every model file was refused
    |   `-- PortTaken               another program listens on the port
    `-- CallError               raised by the client: a call that failed with a status
"""

from collections.abc import Iterable

MAX_QUOTE = 80
"""Characters of a request that an error repeats. Errors are sent in headers, whose size clients limit."""
MAX_LIST = 300
"""Characters of a list of names in an error."""


class InklingError(Exception):
    """The root. The message says what was wanted and what came."""

    reason = "UNKNOWN"
    """Default reason for errors that never reach a client."""


class RequestError(InklingError):
    """The client can correct the request."""


class ImageError(RequestError):
    """The bytes are not a supported image."""


class EmptyImage(ImageError):
    """There are no bytes."""

    reason = "IMAGE_EMPTY"


class UnreadableImage(ImageError):
    """The format is not supported, or the data are invalid."""

    reason = "IMAGE_UNREADABLE"


class TruncatedImage(ImageError):
    """The image file ends too early."""

    reason = "IMAGE_TRUNCATED"


class ImageTooLarge(ImageError):
    """The header announces more pixels than the limit."""

    reason = "IMAGE_TOO_LARGE"


class UnreadableRequest(RequestError):
    """The bytes are not the method's request message."""

    reason = "REQUEST_UNREADABLE"


class RequestStalled(RequestError):
    """The message did not come in time."""

    reason = "REQUEST_STALLED"


class OptionError(RequestError):
    """An option or the number of images is out of range."""

    reason = "OPTION_INVALID"


class TensorError(RequestError):
    """A tensor or a parameter of the request is not as the model takes it."""

    reason = "TENSOR_INVALID"


class NotFound(RequestError):
    """There is no such model, or no such version of it."""

    reason = "MODEL_NOT_FOUND"


class ModelControlOff(RequestError):
    """The server's settings let no client load or unload models."""

    reason = "MODEL_CONTROL_OFF"


class Unauthenticated(RequestError):
    """The call has no token, or none that the server knows."""

    reason = "TOKEN_INVALID"


class ServerError(InklingError):
    """The state of the server is the cause. The same request may succeed later, or on another server."""


class Overloaded(ServerError):
    """The queue is full."""

    reason = "OVERLOADED"


class TooManyCalls(ServerError):
    """As many calls with the caller's token are under way as may be."""

    reason = "TOO_MANY_CALLS"


class Expired(ServerError):
    """The call's deadline passed while it waited in the queue."""

    reason = "EXPIRED"


class Draining(ServerError):
    """The server is stopping and accepts no new calls."""

    reason = "DRAINING"


class ModelRefused(ServerError):
    """A model that a client asked for cannot be loaded, at least not by every worker."""

    reason = "MODEL_REFUSED"


class ModelFileError(InklingError):
    """The model file must not be served."""


class CorruptModelFile(ModelFileError):
    """The file's bytes have changed since the export."""


class InvalidMetadata(ModelFileError):
    """A metadata key is missing or malformed."""


class UnknownPolicy(ModelFileError):
    """The file names a policy that this version does not have."""


class SelfTestFailed(ModelFileError):
    """The model's probabilities differ from those at export."""


class FolderUnusable(InklingError):
    """A folder does not hold pictures as they are needed: in class folders, enough of them, readable."""


class ConfigError(InklingError):
    """A setting is wrong, or two settings do not fit together."""

    exit_code = 2
    """The exit code of a server that cannot start because of it."""


class NoModelLoaded(ConfigError):
    """Every model file was refused."""

    exit_code = 3


class PortTaken(ConfigError):
    """Another program listens on the port."""

    exit_code = 4


class CallError(InklingError):
    """A call failed with a status: `code` is its canonical name, `reason` that of its google.rpc.ErrorInfo."""

    def __init__(self, code: str, reason: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


def quote(text: str) -> str:
    """A text of the request in quotes for an error's message, cut to MAX_QUOTE characters."""
    return repr(text) if len(text) <= MAX_QUOTE else f"{text[:MAX_QUOTE]!r}..."


def quote_value(value: object) -> str:
    """A value of a settings file for an error's message, or its type where Python cannot write it out."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # tables in each other, or an integer of more digits than Python writes
        return f"a value of type {type(value).__name__}, too large to show"
    return text if len(text) <= MAX_QUOTE else f"{text[:MAX_QUOTE]}..."


def list_some(names: Iterable[str], count: int | None = None) -> str:
    """The known names for an error's message: as many as fit into MAX_LIST characters, and the number of the others.

    `count` is the number of all names. If it is given, the names that do not fit are never made.
    """
    first: list[str] = []
    length, left = 0, iter(names)
    for name in left:
        if length + len(name) > MAX_LIST:
            others = sum(1 for _ in left) + 1 if count is None else count - len(first)
            return ", ".join([*first, f"... and {others} more; ListModels has all"])
        length += len(name) + len(", ")
        first.append(name)
    return ", ".join(first)
