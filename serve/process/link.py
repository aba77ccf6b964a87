"""The link between the supervisor and one worker: typed messages as lines of JSON, over a pair of sockets.

Enters and leaves: messages. Does not know: what they bring about. If one end dies, the other reads the end of file.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self, TypeAlias, get_args

LONGEST_MESSAGE = 16 * 2**20
"""Bytes of one message."""
BEAT_S = 1.0
"""Seconds between two beats of a worker."""


@dataclass(frozen=True, slots=True)
class Start:
    """To a worker, first of all: what it is to do."""

    settings: dict[str, str]
    """A ServerConfig as texts (`config.to_texts`)."""
    number: int
    """Its place among the workers, from 0."""
    memory: int
    """The file descriptor of the memory that the workers share (`machine/idle_cores.py`)."""
    web_socket: str = ""
    """The path of the Unix socket on which the web process calls this worker; empty without one."""


@dataclass(frozen=True, slots=True)
class Loading:
    """From a worker: it begins to load a file."""

    model: str
    version: int


@dataclass(frozen=True, slots=True)
class Beat:
    """From a worker, every BEAT_S: its event loop runs."""


@dataclass(frozen=True, slots=True)
class Serving:
    """From a worker: it answers calls."""

    models: list[str]
    """The names of its models."""


@dataclass(frozen=True, slots=True)
class Counted:
    """From a worker: what it counted since it said so last, and what is true of it now."""

    tally: list[list[Any]]
    """`Tally.to_lists`."""
    waiting_images: dict[str, int]
    models: Sequence[tuple[str, ...]]
    certificate_expiry_s: float
    """These three are the fields of a `State`."""
    number: int = 0
    """The number of the AskCounts that it answers, or 0."""


@dataclass(frozen=True, slots=True)
class AskCounts:
    """To a worker: it is to send what it has counted at once."""

    number: int


@dataclass(frozen=True, slots=True)
class AskSums:
    """From a worker: it needs the sums of all workers as of now."""

    number: int


@dataclass(frozen=True, slots=True)
class Sums:
    """To a worker: the sums that it asked for."""

    number: int
    tally: list[list[Any]]


class File(NamedTuple):
    """A model file in a message."""

    name: str
    version: int
    path: str
    digest: str
    problem: str
    serving: dict[str, Any] | None
    """The last three as in `ModelFile`."""


class Refused(NamedTuple):
    """A version that a worker does not serve as its files are now, and the reason that a client may know."""

    name: str
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class Desired:
    """To a worker: the files that may be live. It makes them so and says Followed."""

    number: int
    """Of the decision; a later one has a higher number."""
    files: list[File]
    """In the order of `Loader.follow`."""
    retry: str = ""
    """The model whose refused files are to be tried again."""
    unloaded: list[tuple[str, int]] = field(default_factory=list)
    """Names and versions that clients had unloaded, for the index."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", [File(*file) for file in self.files])
        object.__setattr__(self, "unloaded", [(name, version) for name, version in self.unloaded])


@dataclass(frozen=True, slots=True)
class Followed:
    """From a worker: it serves what a decision desired, but for the versions that it refused."""

    number: int
    refused: list[Refused]

    def __post_init__(self) -> None:
        object.__setattr__(self, "refused", [Refused(*each) for each in self.refused])


@dataclass(frozen=True, slots=True)
class Change:
    """From a worker: a client asks for a model to be loaded or unloaded by all workers."""

    number: int
    """Of the request; Changed has the same."""
    model: str
    loads: bool
    """Whether it is to be loaded."""


@dataclass(frozen=True, slots=True)
class Changed:
    """To a worker: the answer to Change, once every worker has followed."""

    number: int
    error: str
    """The name of a class of `serve.errors`; empty if it is done."""
    text: str


Message: TypeAlias = (
    Start | Loading | Serving | Beat | Counted | AskCounts | AskSums | Sums | Desired | Followed | Change | Changed
)
_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}


class Link:
    """One end. Made on the event loop that uses it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """The link over one socket of a pair, which it closes in the end."""
        return cls(*await asyncio.open_connection(sock=end, limit=LONGEST_MESSAGE))

    def send(self, message: Message) -> None:
        """Queue a message; if the other end is gone, nothing happens."""
        if not self._writer.is_closing():
            line = json.dumps({"kind": type(message).__name__, **asdict(message)})
            self._writer.write(line.encode() + b"\n")

    async def receive(self) -> AsyncIterator[Message]:
        """Every message that comes, until the other end is gone."""
        try:
            async for line in self._reader:
                facts = json.loads(line)
                yield _KINDS[facts.pop("kind")](**facts)
        except ConnectionError:  # the other end was killed with a message on its way
            return

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def finish(self) -> None:
        """Hang up once everything is sent, or the other end is gone."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
