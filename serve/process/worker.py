"""`python -m serve.process.worker FD`: one process that serves, started by `supervisor.py` alone.

Enters: the socket of its link, whose first message is the settings. Leaves: "Serving" over the link; logs on stderr.
It drains and ends at a stop signal, and when its supervisor is gone. Does not know: other workers.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator

from serve.config import ServerConfig, from_texts
from serve.errors import ConfigError
from serve.machine.cores import count_usable_cores
from serve.machine.event_loop import new_event_loop
from serve.machine.idle_cores import IdleCores
from serve.process.control.follow import Follower
from serve.process.link import BEAT_S, Beat, Link, Loading, Message, Serving, Start
from serve.process.server import Server
from serve.process.startup import STOP_SIGNALS, end
from serve.telemetry.logs import start_logging

logger = logging.getLogger("serve.process.worker")  # not __main__, which it is when it runs


def main(descriptor: int) -> int:
    """Exit code 0 after a clean stop, 2 if it could not start."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a terminal may stop process groups in the background that log
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_work(socket.socket(fileno=descriptor)))
    except ConfigError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    return 0


async def _work(end_of_link: socket.socket) -> None:
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    link = await Link.over(end_of_link)
    messages = link.receive()
    start = await anext(messages, None)
    if not isinstance(start, Start):
        return
    config = from_texts(start.settings)
    start_logging(config.log_level)
    models = Follower(link)
    listening = asyncio.create_task(_listen(messages, models, stop))
    await serve(config, stop, link, models, IdleCores.at(count_usable_cores(), start.memory, start.number))
    listening.cancel()
    link.close()


async def _listen(messages: AsyncIterator[Message], models: Follower, stop: asyncio.Event) -> None:
    """Take notice of what the supervisor says, and stop when it is gone."""
    async for message in messages:
        models.note(message)
    stop.set()


async def serve(config: ServerConfig, stop: asyncio.Event, link: Link, models: Follower, idle_cores: IdleCores) -> None:
    """Load and serve until `stop` is set, also while models load. Raises ConfigError if it cannot start."""
    server = Server(config, idle_cores, lambda file: link.send(Loading(file.name, file.version)))
    starting, stopping = asyncio.create_task(models.start(server)), asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        return
    await starting
    link.send(Serving(server.registry.names))
    beating, following = asyncio.create_task(_beat(link)), asyncio.create_task(models.run(server))
    await asyncio.wait((stopping, following), return_when=asyncio.FIRST_COMPLETED)
    following.cancel()
    await server.stop()
    beating.cancel()
    if not stopping.done():
        following.result()  # raises what went wrong: a new worker takes this one's place
    logger.info("stopped")


async def _beat(link: Link) -> None:
    while True:
        link.send(Beat())
        await asyncio.sleep(BEAT_S)


if __name__ == "__main__":
    end(main(int(sys.argv[1])))
