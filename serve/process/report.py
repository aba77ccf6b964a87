"""What a worker tells its supervisor of its counts, and the sums of all workers, which it may ask for.

Enters: a server's counts and its state; messages of the supervisor. Leaves: messages to the supervisor; sums.
Does not know: calls, models, who reads the sums.
"""

import asyncio
import itertools

from serve.process.link import AskCounts, AskSums, Counted, Link, Message, Sums
from serve.process.server import Server
from serve.telemetry.counts import Tally
from serve.telemetry.metrics import State

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
            self._asked.pop(message.number).set_result(Tally.from_lists(message.tally))

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
