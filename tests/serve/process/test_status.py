"""serve.process.status and serve.process.worker: the supervisor's sums, as workers ask for them over their links."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from serve.process import status as status_module
from serve.process.link import AskCounts, Link, Serving
from serve.process.status import Status
from serve.process.worker import Reporter
from serve.telemetry.counts import Counts, Tally
from serve.telemetry.metrics import State


@dataclass
class FakeServer:
    """What a reporter needs of a server."""

    counts: Counts = field(default_factory=Counts)

    def read_state(self) -> State:
        """Nothing waits."""
        return State({"bands": 0})


@dataclass
class Worker:
    """The end of a worker, which reports what its server counts."""

    reporter: Reporter
    server: FakeServer
    ours: Link
    theirs: Link


@contextlib.asynccontextmanager
async def linked(count: int) -> AsyncIterator[tuple[Status, list[Worker]]]:
    """A supervisor's status, and the ends of its workers, which serve."""
    status, workers, tasks = Status(count), list[Worker](), list[asyncio.Task[None]]()
    for number in range(count):
        one, other = socket.socketpair()
        ours, theirs = await Link.over(one), await Link.over(other)
        worker = Worker(Reporter(theirs), FakeServer(), ours, theirs)
        workers.append(worker)
        tasks.append(asyncio.create_task(listen(status, number, ours)))
        tasks.append(asyncio.create_task(note_all(worker)))
        tasks.append(asyncio.create_task(worker.reporter.run(worker.server)))  # type: ignore[arg-type]
        status.note(Serving(["bands"]), number, ours)
    yield status, workers
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for worker in workers:
        worker.ours.close()
        await worker.theirs.finish()


async def listen(status: Status, number: int, link: Link) -> None:
    """What the supervisor does with the messages of a worker."""
    async for message in link.receive():
        status.note(message, number, link)
    status.note_end(number)


async def note_all(worker: Worker) -> None:
    """What a worker does with the messages of its supervisor."""
    async for message in worker.theirs.receive():
        worker.reporter.note(message)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario."""

    async def main() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(main())


def refused_by(tally: Tally) -> int:
    """Calls that were refused."""
    return tally.counters.get(("refused", "bands", "OVERLOADED"), 0)


def test_a_worker_that_asks_gets_the_sums_of_all_as_of_now() -> None:
    async def scenario() -> None:
        async with linked(3) as (status, workers):
            for round_number in range(1, 6):
                for number, worker in enumerate(workers):
                    for _ in range(10**number):
                        worker.server.counts.note_refused("bands", "OVERLOADED")
                sums = await asyncio.gather(*(worker.reporter.ask_sums() for worker in workers))
                assert [refused_by(each) for each in sums] == [111 * round_number] * 3
            assert refused_by(status.metrics.sums) == 555

    run(scenario)


def test_a_worker_that_ends_keeps_its_counts_and_holds_up_no_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "ASK_S", 60.0)

    async def scenario() -> None:
        async with linked(2) as (status, (first, second)):
            first.server.counts.note_refused("bands", "OVERLOADED")
            assert refused_by(await second.reporter.ask_sums()) == 1
            first.reporter.note = lambda message: None  # type: ignore[method-assign]  # it hangs
            asking = asyncio.create_task(second.reporter.ask_sums())
            await asyncio.sleep(0.1)
            assert not asking.done()
            await first.theirs.finish()
            assert refused_by(await asking) == 1
            assert status.metrics.states.keys() == {1}
            assert status.routes["/readyz"]().body == b"workers that do not serve yet: 0\n"

    run(scenario)


def test_a_worker_that_does_not_answer_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "ASK_S", 0.2)

    async def scenario() -> None:
        async with linked(2) as (_, (first, second)):
            second.server.counts.note_refused("bands", "OVERLOADED")
            first.reporter.note = lambda message: None  # type: ignore[method-assign]  # it hangs
            assert refused_by(await second.reporter.ask_sums()) == 1

    run(scenario)


def test_an_answer_to_a_question_that_is_over_does_no_harm() -> None:
    async def scenario() -> None:
        async with linked(1) as (status, (worker,)):
            worker.reporter.note(AskCounts(99))
            worker.server.counts.note_refused("bands", "OVERLOADED")
            assert refused_by(await worker.reporter.ask_sums()) == 1
            assert refused_by(status.metrics.sums) == 1

    run(scenario)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_expiry_of_the_first_certificate_is_shown(workers: int) -> None:
    status = Status(workers)
    assert b"\ninkling_certificate_expiry_timestamp_seconds" not in status.routes["/metrics"]().body
    for number in range(workers):
        status.metrics.states[number] = State(certificate_expiry_s=1_800_000_000.0 + number)
    assert b"\ninkling_certificate_expiry_timestamp_seconds 1.8e+09\n" in status.routes["/metrics"]().body
