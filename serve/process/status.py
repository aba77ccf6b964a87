"""What the supervisor knows of its workers and tells operators: whether all serve, and the sums of their metrics.

Enters: the messages of the workers, and their ends. Leaves: the paths of its HTTP port; sums for the workers that ask.
Does not know: processes, signals, what the numbers mean.
"""

import asyncio
import itertools
import logging
from http import HTTPStatus

from serve.config import ServerConfig
from serve.errors import PortTaken
from serve.process.link import AskCounts, AskSums, Counted, Link, Message, Serving, Sums
from serve.process.listening.port import join_address, listen
from serve.telemetry.counts import Tally
from serve.telemetry.http import HttpServer, Reply, Routes
from serve.telemetry.metrics import Metrics, State

logger = logging.getLogger(__name__)

ASK_S = 1.0
"""Seconds after which the sums are given without the counts of a worker that does not answer."""


class Status:
    """The state of all workers. Used on the supervisor's event loop."""

    def __init__(self, workers: int) -> None:
        self.metrics = Metrics()
        self.is_stopping = False
        self._serving: dict[int, Link] = {}
        self._missing = set(range(workers))
        """Numbers of the workers that do not serve."""
        self._keys = itertools.count(1)
        self._asks: dict[int, _Ask] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def routes(self) -> Routes:
        """The paths of the HTTP port."""
        return {"/healthz": lambda: Reply(b"ok\n"), "/readyz": self._tell_ready, "/metrics": self._tell_metrics}

    def note(self, message: Message, number: int, link: Link) -> None:
        """Take notice of a message of worker `number`."""
        if isinstance(message, Serving):
            self._serving[number] = link
            self._missing.discard(number)
        elif isinstance(message, Counted):
            self._add(message, number)
        elif isinstance(message, AskSums):
            task = asyncio.create_task(self._answer(message.number, number, link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def note_end(self, number: int) -> None:
        """Take notice that worker `number` has ended: what it had counted stays."""
        self.metrics.states.pop(number, None)
        self._serving.pop(number, None)
        self._missing.add(number)
        for ask in self._asks.values():
            ask.note(number)

    def _add(self, message: Counted, number: int) -> None:
        self.metrics.sums.add(Tally.from_lists(message.tally))
        self.metrics.states[number] = State(message.waiting_images, message.models, message.certificate_expiry_s)
        if message.number in self._asks:
            self._asks[message.number].note(number)

    async def _answer(self, asked: int, number: int, link: Link) -> None:
        """Ask every worker, the one that asks included, then send it the sums."""
        links = {**self._serving, number: link}
        ask = _Ask(set(links))
        key = next(self._keys)
        self._asks[key] = ask
        for other in links.values():
            other.send(AskCounts(key))
        await ask.wait()
        del self._asks[key]
        link.send(Sums(asked, self.metrics.sums.drop_zeros().to_lists()))

    def _tell_ready(self) -> Reply:
        if self.is_stopping:
            return Reply(b"the server is stopping\n", HTTPStatus.SERVICE_UNAVAILABLE)
        if self._missing:
            numbers = ", ".join(map(str, sorted(self._missing)))
            return Reply(f"workers that do not serve yet: {numbers}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE)
        return Reply(b"ok\n")

    def _tell_metrics(self) -> Reply:
        content_type, text = self.metrics.render()
        return Reply(text, content_type=content_type)


def open_http(config: ServerConfig, status: Status, needs_port: bool) -> HttpServer | None:
    """What answers on the HTTP port, if it is on and free. Raises PortTaken if it is taken and needed."""
    if not config.metrics_port:
        return None
    try:
        listener = listen("--metrics-host, --metrics-port", config.metrics_host, config.metrics_port)
    except PortTaken as error:
        if needs_port:
            raise
        logger.warning("going without /metrics: %s", error)
        return None
    logger.info("metrics on http://%s/metrics", join_address(config.metrics_host, config.metrics_port))
    return HttpServer(listener, status.routes)


class _Ask:
    """A question to several workers, until each has answered or ended."""

    def __init__(self, numbers: set[int]) -> None:
        self._numbers = numbers
        self._done = asyncio.Event()

    def note(self, number: int) -> None:
        self._numbers.discard(number)
        if not self._numbers:
            self._done.set()

    async def wait(self) -> None:
        try:
            await asyncio.wait_for(self._done.wait(), ASK_S)
        except TimeoutError:  # a worker that hangs: the watch of the supervisor sees to it
            return
