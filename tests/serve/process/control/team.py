"""One who decides and the workers that follow it, which are real servers with real links, in one process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from serve.config import ServerConfig
from serve.process.control.decide import Decider
from serve.process.control.follow import Follower
from serve.process.link import Link, Loading
from serve.process.server import Server


class Team:
    """A decider and the workers that follow it."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.decider = Decider(config)
        self.servers: list[Server] = []
        self.controls: list[Follower] = []
        self.links: list[Link] = []
        self.tasks = [asyncio.create_task(self.decider.run())]

    async def add_worker(self) -> None:
        """One more worker, which serves."""
        number = len(self.servers)
        theirs = await self.link(number)
        follower = Follower(theirs)
        self.tasks.append(asyncio.create_task(self._pass_on(theirs, follower)))
        server = Server(self.config, on_loading=lambda file: theirs.send(Loading(file.name, file.version)))
        await follower.start(server)
        self.tasks.append(asyncio.create_task(follower.run(server)))
        self.servers.append(server)
        self.controls.append(follower)

    async def link(self, number: int) -> Link:
        """A worker's end of a link to the decider, who counts on it from now on."""
        ends = socket.socketpair()
        ours, theirs = [await Link.over(end) for end in ends]
        self.links += [ours, theirs]

        async def listen() -> None:
            async for message in ours.receive():
                self.decider.note(message, number)

        self.tasks.append(asyncio.create_task(listen()))
        await self.decider.join(number, ours)
        return theirs

    async def close(self) -> None:
        """Stop all of them."""
        for task in self.tasks:
            task.cancel()
        for server in self.servers:
            await server.stop()
        for link in self.links:
            link.close()

    def versions(self) -> list[dict[str, tuple[int, ...]]]:
        """What is live in each worker."""
        return [{name: each.registry.versions(name) for name in each.registry.names} for each in self.servers]

    async def _pass_on(self, link: Link, follower: Follower) -> None:
        async for message in link.receive():
            follower.note(message)


@asynccontextmanager
async def team(folder: Path, **settings: object) -> AsyncIterator[Team]:
    config = ServerConfig(models=folder, port=0, device="cpu", workers=2, grace_s=1, **settings)  # type: ignore[arg-type]
    found = Team(config)
    try:
        for _ in range(2):
            await found.add_worker()
        yield found
    finally:
        await found.close()


def explicit(folder: Path, scenario: Callable[[Team], Awaitable[None]]) -> None:
    """A scenario with two workers under explicit control."""

    async def main() -> None:
        async with asyncio.timeout(30), team(folder, model_control="explicit") as found:
            await scenario(found)

    asyncio.run(main())
