"""A worker's part: it follows the supervisor's decisions, and asks for changes on behalf of clients.

Enters: messages of the supervisor, and requests to load or unload a model. Leaves: a server that serves what was
decided; `Followed` and `Change`. Does not know: what decides, where files come from.
"""

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

from serve.errors import InklingError, ModelControlOff, ModelRefused, NotFound
from serve.inference.registry import Refusal
from serve.model_file.folder import ModelFile
from serve.model_file.serving import ServingSettings
from serve.process.link import Change, Changed, Desired, File, Followed, Link, Message, Refused
from serve.process.server import Server

_ERRORS: dict[str, type[InklingError]] = {error.__name__: error for error in (ModelControlOff, ModelRefused, NotFound)}


class Follower:
    """Follows decisions, the newest first, and sends requests of clients to the supervisor. On one event loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._newest: Desired | None = None
        self._has_new = asyncio.Event()
        self._retries: set[str] = set()
        """Models whose refused files are to be tried again, of all decisions that have not been followed."""
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Changed]] = {}

    def note(self, message: Message) -> None:
        """Take notice of a message of the supervisor."""
        if isinstance(message, Desired):
            self._newest = message
            self._retries.add(message.retry)
            self._has_new.set()
        elif isinstance(message, Changed) and message.number in self._asked:
            answer = self._asked[message.number]
            if not answer.done():  # its caller has left at this moment
                answer.set_result(message)

    async def start(self, server: Server) -> None:
        """Start a server with the first decision. Raises as `Server.start` does."""
        desired, _ = await self._wait_for_decision()
        refusals = await server.start(_to_files(desired))
        server.registry.unloaded = tuple(desired.unloaded)
        self._report(desired, refusals)

    async def run(self, server: Server) -> None:
        """Follow every decision that comes, until cancelled."""
        while True:
            desired, retries = await self._wait_for_decision()
            refusals = await server.follow(_to_files(desired), retries)
            server.registry.unloaded = tuple(desired.unloaded)
            self._report(desired, refusals)

    async def load(self, name: str) -> None:
        """Have all workers load a model as it is in the folder now, and wait for them.

        Raises NotFound, ModelRefused with the reasons of those that refused it, and ModelControlOff.
        """
        await self._ask(name, loads=True)

    async def unload(self, name: str) -> None:
        """Have all workers unload a model, and wait for them. Raises NotFound and ModelControlOff."""
        await self._ask(name, loads=False)

    async def _ask(self, name: str, loads: bool) -> None:
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._link.send(Change(number, name, loads))
        try:
            changed: Changed = await answer
        finally:
            del self._asked[number]
        if changed.error:
            raise _ERRORS[changed.error](changed.text)

    async def _wait_for_decision(self) -> tuple[Desired, frozenset[str]]:
        while not (desired := self._newest):
            self._has_new.clear()
            await self._has_new.wait()
        self._newest = None
        retries = frozenset(self._retries)
        self._retries.clear()
        return desired, retries

    def _report(self, desired: Desired, refusals: Sequence[Refusal]) -> None:
        refused = [Refused(each.file.name, each.file.version, each.reason) for each in refusals]
        self._link.send(Followed(desired.number, refused))


def _to_files(desired: Desired) -> list[ModelFile]:
    return [_to_file(file) for file in desired.files]


def _to_file(file: File) -> ModelFile:
    serving = ServingSettings(**file.serving) if file.serving is not None else None
    return ModelFile(file.name, file.version, Path(file.path), file.digest, file.problem, serving)
