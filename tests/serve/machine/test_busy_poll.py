"""serve.machine.busy_poll: the loop polls for a client whose next request comes soon, for so long, and for no other."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from serve.machine import busy_poll
from serve.machine.busy_poll import CONTENDED_ITERATION_NS, PAUSE_NS, BusyPoll

LONGEST_US = 500
US = 1000  # in nanoseconds


class Counted(BusyPoll):
    """Counts its turns of the loop."""

    turn_count = 0

    def _poll(self) -> None:
        self.turn_count += 1
        super()._poll()


class Play:
    """Calls and turns of the loop, by a clock that stands still between them."""

    def __init__(self, longest_us: int) -> None:
        self.now_ns = 0
        self.busy_poll = Counted(longest_us, lambda: self.now_ns)

    def call(self, gap_us: int, run_us: int = 300) -> None:
        """A single call, so long after the one before was run."""
        self.now_ns += gap_us * US
        came_ns = self.now_ns
        self.now_ns += run_us * US
        self.busy_poll.note_single(came_ns)

    async def turn(self, us: int) -> bool:
        """One turn of the loop that takes so long: whether it polls on."""
        self.now_ns += us * US
        await asyncio.sleep(0)
        return self.busy_poll._is_polling


def play(scenario: Callable[[Play], Awaitable[None]], longest_us: int = LONGEST_US) -> None:
    """Run a scenario on a loop of its own."""

    async def start() -> None:
        await scenario(Play(longest_us))

    asyncio.run(start())


def test_the_loop_polls_after_a_call_that_came_soon_and_not_after_the_first() -> None:
    async def scenario(play: Play) -> None:
        play.call(gap_us=10_000)
        assert not await play.turn(us=1)
        play.call(gap_us=LONGEST_US - 2)
        assert await play.turn(us=1)

    play(scenario)


def test_how_long_a_run_takes_says_nothing_of_the_caller() -> None:
    async def scenario(play: Play) -> None:
        play.call(gap_us=10_000, run_us=9_000)
        play.call(gap_us=100, run_us=9_000)
        assert await play.turn(us=1)

    play(scenario)


def test_it_polls_as_long_as_it_may_and_then_sleeps() -> None:
    async def scenario(play: Play) -> None:
        play.call(gap_us=10_000)
        play.call(gap_us=100)
        assert [await play.turn(us=100) for _ in range(6)] == [True] * 4 + [False] * 2

    play(scenario)


def test_each_call_that_comes_soon_is_another_reason_and_not_another_poll() -> None:
    async def scenario(play: Play) -> None:
        play.call(gap_us=10_000)
        for _ in range(50):
            play.call(gap_us=100)
            assert await play.turn(us=100)
        assert play.busy_poll.turn_count == 50

    play(scenario)


def test_a_caller_who_comes_seldom_is_not_polled_for() -> None:
    async def scenario(play: Play) -> None:
        for _ in range(5):
            play.call(gap_us=LONGEST_US)
            assert not await play.turn(us=1)
        assert not play.busy_poll.turn_count

    play(scenario)


def test_every_turn_gives_way_to_who_waits_for_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    monkeypatch.setattr(busy_poll, "yield_core", lambda: given.append(True))

    async def scenario(play: Play) -> None:
        play.call(gap_us=10_000)
        play.call(gap_us=100)
        for turn_count in (1, 2, 3):
            await play.turn(us=100)
            assert len(given) == turn_count

    play(scenario)


def test_it_rests_once_somebody_else_had_the_core() -> None:
    async def scenario(play: Play) -> None:
        play.call(gap_us=10_000)
        play.call(gap_us=100)
        assert await play.turn(us=100)
        assert not await play.turn(us=CONTENDED_ITERATION_NS // US + 1)
        play.call(gap_us=100)
        assert not await play.turn(us=1), "also for one who comes again"
        play.call(gap_us=PAUSE_NS // US)
        play.call(gap_us=100)
        assert await play.turn(us=1)

    play(scenario, longest_us=10_000)


def test_zero_never_polls() -> None:
    async def scenario(play: Play) -> None:
        for _ in range(5):
            play.call(gap_us=0)
        assert not play.busy_poll.turn_count

    play(scenario, longest_us=0)
