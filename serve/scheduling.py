"""Whose turn it is on a core: what a process asks of the kernel's scheduler.

Enters: how many images each run had. Leaves: the policy of this process's threads. Does not know: what they do.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

_THREADS = Path("/proc/self/task")


class Turns:
    """Lets the threads of this process wait for their turns while its callers are many, and only then.

    A call wakes gRPC's threads and the event loop several times each, and by default each of them interrupts what
    runs, be it a run of a model, and is interrupted by the next. Under Linux's SCHED_BATCH (sched(7)) a thread that
    wakes waits until the one that runs pauses or has had its time. A lone caller gains nothing by that, and would wait
    for other processes, too, where these keep the cores busy. A process under another policy than the default keeps it.
    """

    HOLD_S = 1.0
    """How long callers stay many after a run of several images."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shared_s = float("-inf")
        self._waits = False
        self._is_ours = sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER

    def follow(self, image_count: int) -> None:
        """Take notice of a run; from any thread."""
        now_s = self._clock()
        if image_count > 1:
            self._shared_s = now_s
        waits = now_s - self._shared_s < self.HOLD_S
        if waits != self._waits and self._is_ours:
            self._waits = waits
            _set_policy(waits)


def _set_policy(waits: bool) -> None:
    """Of all threads that there are; those to come have that of the thread which starts them."""
    if sys.platform == "linux":
        policy = os.SCHED_BATCH if waits else os.SCHED_OTHER
        for thread in _THREADS.iterdir():
            with contextlib.suppress(OSError):  # it has ended; or a sandbox forbids it: slower then, and as sound
                os.sched_setscheduler(int(thread.name), policy, os.sched_param(0))


def give_way() -> None:
    """Let a thread run that waits for this one's core, if there is any: under SCHED_BATCH none takes it by itself."""
    if sys.platform == "linux":
        os.sched_yield()
