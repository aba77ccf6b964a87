"""serve.machine.cpu_policy: threads per run, spreading and polling follow from the cores and the workers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from serve.machine import cpu_policy
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.idle_cores import SLOT_BYTES, IdleCores


def decide(scenario: Callable[[], Awaitable[object]]) -> object:
    """What a scenario on an event loop comes to."""

    async def main() -> object:
        return await scenario()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("cores", "workers", "threads", "most_threads"), [(1, 1, 1, 1), (2, 2, 1, 2), (2, 1, 2, 2), (16, 2, 8, 2)]
)
def test_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, threads: int, most_threads: int
) -> None:
    monkeypatch.setattr(cpu_policy, "count_usable_cores", lambda: cores)

    async def scenario() -> tuple[int, int]:
        policy = CpuPolicy(workers, busy_poll_us=0)
        return policy.threads, policy.most_threads

    assert decide(scenario) == (threads, most_threads)


@pytest.mark.parametrize(("busy", "spreads"), [(0, True), (1, False), (2, False)])
def test_a_run_spreads_if_the_other_workers_leave_a_core_idle(
    monkeypatch: pytest.MonkeyPatch, busy: int, spreads: bool
) -> None:
    monkeypatch.setattr(cpu_policy, "count_usable_cores", lambda: 2)
    memory = bytearray(2 * SLOT_BYTES)
    claimed = memoryview(memory).cast("I")
    claimed[1] = busy

    async def scenario() -> list[bool]:
        policy = CpuPolicy(2, 0, IdleCores(2, memory, number=0))
        with policy.run(8, spreads_anyway=False) as spread, policy.run(8, spreads_anyway=True) as spread_anyway:
            return [spread, spread_anyway]

    assert decide(scenario) == [spreads, True]
    assert list(claimed) == [0, busy], "what was claimed is released"


@pytest.mark.parametrize(("cores", "quota", "polls"), [(2, False, True), (1, False, False), (2, True, False)])
def test_it_polls_only_with_cores_to_spare(
    monkeypatch: pytest.MonkeyPatch, cores: int, quota: bool, polls: bool
) -> None:
    """The client may need the only core, and polling uses up a quota as requests do."""
    monkeypatch.setattr(cpu_policy, "count_usable_cores", lambda: cores)
    monkeypatch.setattr(cpu_policy, "has_quota", lambda: quota)
    made: list[int] = []
    monkeypatch.setattr(cpu_policy, "BusyPoll", made.append)

    async def scenario() -> None:
        CpuPolicy(2, busy_poll_us=500)

    decide(scenario)
    assert made == [500 if polls else 0]
