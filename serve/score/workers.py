"""Processes that score chunks of images: one a core, each with its own engine. Results come back in order.

Enters: chunks, and the settings of a `Scorer`. Leaves: encoded rows, chunk by chunk in the order of the chunks.
Does not know: shards, where images come from, progress.
A worker ends when its pipe does, so that a killed run leaves no process behind.
"""

import multiprocessing
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Self

from serve.errors import InklingError
from serve.score.model import Model
from serve.score.output.formats import Format, to_text
from serve.score.scorer import Scorer
from serve.score.sources.items import read_file

AHEAD = 2
"""Chunks that a worker has at a time: it reads the next one while it scores the first."""
WINDOW = 4
"""Chunks a worker that are under way or wait for one before them: what memory holds at most."""
LONGEST_END_S = 5.0
"""Seconds that a worker has to end by itself."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker makes its `Scorer` and its rows of."""

    model: Model
    form: Format
    options: dict[str, Any]
    """Keyword arguments of `Scorer`."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Images that one worker scores together, of one shard."""

    shard: int
    names: tuple[str, ...]
    images: tuple[bytes | Exception | None, ...]
    """Their bytes, or what was wrong; None if the name is a file that the worker reads."""
    digest: str
    """The digest of the shard's names if this is its last chunk, or empty."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A chunk's rows."""

    data: bytes
    count: int
    errors: int


@dataclass(frozen=True, slots=True)
class Ready:
    """From a worker: it has loaded the model, and gives these columns."""

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """From a worker: why it ends."""

    error: Exception


@dataclass(slots=True, eq=False)
class _Worker:
    process: SpawnProcess
    pipe: "Connection[Any, Any]"
    chunks: list[int] = field(default_factory=list)
    """Numbers of the chunks that it has, oldest first."""


class _Feed:
    """Chunks until they end, or until making one fails."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._failure: Exception | None = None
        self.number = 0
        """Of the next chunk."""

    def take(self) -> Chunk | None:
        """The next chunk, or None."""
        if self._failure:
            return None
        try:
            return next(self._chunks, None)
        except Exception as error:  # raised by `end`
            self._failure = error
            return None

    def end(self) -> None:
        """Raise what went wrong."""
        if self._failure:
            raise self._failure


class Workers:
    """A pool for one run. A context."""

    def __init__(self, settings: Settings, count: int) -> None:
        """Start `count` processes. Nothing waits for them yet."""
        self._workers = [_start(settings) for _ in range(count)]
        self.columns: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        """Wait until all have loaded the model. Raises what one of them says it fails of."""
        try:
            (self.columns,) = {self._receive(worker).columns for worker in self._workers}
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(LONGEST_END_S)
            worker.process.kill()
            worker.process.join()

    def run(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, Scored]]:
        """Score all chunks. Raises InklingError if a worker ends; what `chunks` raises, behind the rows before it."""
        under_way: dict[int, Chunk] = {}
        found: dict[int, Scored] = {}
        given = 0
        feed = _Feed(chunks)
        while True:
            while feed.number - given < WINDOW * len(self._workers):
                free = min(self._workers, key=lambda worker: len(worker.chunks))
                chunk = feed.take() if len(free.chunks) < AHEAD else None
                if chunk is None:
                    break
                self._send(free, feed.number, chunk)
                under_way[feed.number] = replace(chunk, names=(), images=())
                feed.number += 1
            if given in found:
                yield under_way.pop(given), found.pop(given)
                given += 1
            elif given < feed.number:
                self._collect(found)
            else:
                feed.end()
                return

    def _send(self, worker: _Worker, number: int, chunk: Chunk) -> None:
        try:
            worker.pipe.send(chunk)
        except OSError as error:
            raise _ended(worker) from error
        worker.chunks.append(number)

    def _collect(self, found: dict[int, Scored]) -> None:
        """Wait for at least one result."""
        ready = set(wait([worker.pipe for worker in self._workers]))
        for worker in self._workers:
            if worker.pipe in ready:
                scored = self._receive(worker)
                found[worker.chunks.pop(0)] = scored

    def _receive(self, worker: _Worker) -> Any:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError) as error:
            raise _ended(worker) from error
        if isinstance(message, Failed):
            raise message.error
        return message


def _ended(worker: _Worker) -> InklingError:
    worker.process.join(LONGEST_END_S)
    return InklingError(
        f"a worker process ended with exit code {worker.process.exitcode}, which is not its own doing if negative; "
        "is there enough memory?"
    )


def _start(settings: Settings) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, settings), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def work(pipe: "Connection[Any, Any]", settings: Settings) -> None:
    """Load the model, then score every chunk that comes until the pipe ends: what a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    with suppress(BrokenPipeError):  # the run has ended, and nobody reads what became of this worker
        try:
            scorer = Scorer(settings.model, **settings.options)
            pipe.send(Ready(("path", *scorer.columns)))
            for chunk in _receive_ahead(pipe):
                pipe.send(score_chunk(scorer, settings.form, chunk))
        except (InklingError, OSError) as error:
            pipe.send(Failed(error))
        except Exception as error:  # ONNX Runtime raises a class per fault, some of which cannot be sent
            pipe.send(Failed(InklingError(f"a run broke off: {type(error).__name__}: {error}")))


def score_chunk(scorer: Scorer, form: Format, chunk: Chunk) -> Scored:
    """Read, score and encode the images of a chunk."""
    pairs = zip(chunk.names, chunk.images, strict=True)
    columns = scorer.score([read_file(name) if image is None else image for name, image in pairs])
    data = form.encode({"path": list(map(to_text, chunk.names)), **columns})
    return Scored(data, len(chunk.names), sum(error is not None for error in columns["error"]))


def _receive_ahead(pipe: "Connection[Any, Any]") -> Iterator[Chunk]:
    """Chunks, received in a thread: a parent that sends one never waits for a worker that sends rows."""
    received: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()

    def receive() -> None:
        try:
            while True:
                received.put(pipe.recv())
        except (EOFError, OSError):
            received.put(None)

    threading.Thread(target=receive, daemon=True).start()
    while (chunk := received.get()) is not None:
        yield chunk
