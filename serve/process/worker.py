"""`python -m serve.process.worker FD`: one process that serves, started by `supervisor.py` alone.

Enters: the socket of its link, whose first message is the settings.
Leaves: "Serving" and what it counts over the link; logs on stderr.
It drains and ends at a stop signal, and when its supervisor is gone. Does not know: other workers.
"""

import asyncio
import itertools
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence

from serve.config import from_texts
from serve.errors import ConfigError
from serve.machine.cores import count_usable_cores
from serve.machine.event_loop import new_event_loop
from serve.machine.idle_cores import IdleCores
from serve.process.control.follow import Follower
from serve.process.link import BEAT_S, AskCounts, AskSums, Beat, Counted, Link, Loading, Message, Serving, Start, Sums
from serve.process.server import Server
from serve.process.startup import STOP_SIGNALS, end
from serve.telemetry.counts import Tally
from serve.telemetry.logs import start_logging
from serve.telemetry.metrics import State

logger = logging.getLogger("serve.process.worker")  # not __main__, which it is when it runs

REPORT_S = 0.5
"""Seconds between two reports of a worker whose counts or state have changed."""


class Reporter:
    """Reports what one server counts. Used on its event loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._server: Server | None = None
        self._told: State | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Tally]] = {}

    async def run(self, server: Server) -> None:
        """Report until it is cancelled, and then once more."""
        self._server = server
        try:
            while True:
                self._report()
                await asyncio.sleep(REPORT_S)
        finally:
            self._report()

    def note(self, message: Message) -> None:
        """Take notice of a message of the supervisor."""
        if isinstance(message, AskCounts):
            self._report(message.number)
        elif isinstance(message, Sums) and message.number in self._asked:
            answer = self._asked.pop(message.number)
            if not answer.done():  # its caller has left at this moment
                answer.set_result(Tally.from_lists(message.tally))

    async def ask_sums(self) -> Tally:
        """The sums of all workers, those that have ended included, as of now."""
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._link.send(AskSums(number))
        try:
            found: Tally = await answer
        finally:
            self._asked.pop(number, None)
        return found

    def _report(self, number: int = 0) -> None:
        """Send what has changed; in answer to a question also if nothing has."""
        tally = self._server.counts.take() if self._server else Tally()
        state = self._server.read_state() if self._server else State()
        if number or tally or state != self._told:
            self._told = state
            waiting, models, expiry_s = state.waiting_images, state.models, state.certificate_expiry_s
            self._link.send(Counted(tally.to_lists(), waiting, models, expiry_s, number))


def main(descriptor: int) -> int:
    """Exit code 0 after a clean stop, else what the error says that kept it from starting."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a terminal may stop process groups in the background that log
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_work(socket.socket(fileno=descriptor)))
    except ConfigError as error:
        print(f"serve: {error}", file=sys.stderr)
        return error.exit_code
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
    start_logging(config.log_level, config.log_format)
    reporter, models = Reporter(link), Follower(link)
    listening = asyncio.create_task(_listen(messages, (reporter, models), stop))
    idle_cores = IdleCores.at(count_usable_cores(), start.memory, start.number)
    server = Server(
        config,
        idle_cores,
        lambda file: link.send(Loading(file.name, file.version)),
        ask_sums=reporter.ask_sums,
        control=models if config.model_control == "explicit" else None,
        web_socket=start.web_socket,
    )
    await serve(server, stop, link, reporter, models)
    listening.cancel()
    await link.finish()


async def _listen(messages: AsyncIterator[Message], parts: Sequence[Reporter | Follower], stop: asyncio.Event) -> None:
    """Take notice of what the supervisor says, and stop when it is gone."""
    async for message in messages:
        for part in parts:
            part.note(message)
    stop.set()


async def serve(server: Server, stop: asyncio.Event, link: Link, reporter: Reporter, models: Follower) -> None:
    """Load and serve until `stop` is set, also while models load. Raises ConfigError if it cannot start."""
    starting, stopping = asyncio.create_task(models.start(server)), asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        return
    await starting
    link.send(Serving(server.registry.names))
    following = asyncio.create_task(models.run(server))
    telling = [asyncio.create_task(_beat(link)), asyncio.create_task(reporter.run(server))]
    await asyncio.wait((stopping, following), return_when=asyncio.FIRST_COMPLETED)
    following.cancel()
    await server.stop()
    for task in telling:
        task.cancel()
    await asyncio.wait(telling)  # the last report is sent
    if not stopping.done():
        following.result()  # raises what went wrong: a new worker takes this one's place
    logger.info("stopped")


async def _beat(link: Link) -> None:
    while True:
        link.send(Beat())
        await asyncio.sleep(BEAT_S)


if __name__ == "__main__":
    end(main(int(sys.argv[1])))
