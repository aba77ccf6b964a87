"""Whose turn it is on a core: what a process asks of the kernel's scheduler.

Enters: how many images each run had, and which threads run batches. Leaves: the policy and the niceness of this
process's threads. Does not know: what they do.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

NICENESS = 5
"""Of threads that run batches."""

_THREADS = Path("/proc/self/task")


class Turns:
    """Lets the threads of this process wait for their turns while its callers are many, and only then.

    A call wakes gRPC's threads and the event loop several times each, and by default each of them interrupts what
    runs, be it a run of a model, and is interrupted by the next. Under Linux's SCHED_BATCH (sched(7)) a thread that
    wakes waits until the one that runs pauses or has had its time. A lone caller gains nothing by that, and would wait
    for other processes, too, where these keep the cores busy. Nor does the event loop wait beside runs in a thread,
    which are long: it would refuse calls, and say that it is well, late. A process under another policy than the
    default keeps it.
    """

    HOLD_S = 1.0
    """How long callers stay many after a run of several images, and the event loop beside runs after one of those."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """On the event loop."""
        self._clock = clock
        self._lock = threading.Lock()  # the loop and the batchers' threads run models at the same time
        self._loop_thread = threading.get_native_id()
        self._shared_s = self._beside_loop_s = float("-inf")
        self._waits = self._loop_waits = False
        self._is_ours = sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER

    def follow(self, image_count: int) -> None:
        """Take notice of a run, in the thread that makes it."""
        is_on_loop = threading.get_native_id() == self._loop_thread
        if image_count == 1 and is_on_loop and not self._waits:
            return  # nothing comes of it, and a lone caller waits
        with self._lock:
            self._follow(image_count, is_on_loop)

    def _follow(self, image_count: int, is_on_loop: bool) -> None:
        now_s = self._clock()
        if image_count > 1:
            self._shared_s = now_s
        if not is_on_loop:
            self._beside_loop_s = now_s
        waits = now_s - self._shared_s < self.HOLD_S
        loop_waits = waits and now_s - self._beside_loop_s >= self.HOLD_S
        if (waits, loop_waits) != (self._waits, self._loop_waits) and self._is_ours:
            self._waits, self._loop_waits = waits, loop_waits
            for thread in _list_threads():
                _set_policy(thread, loop_waits if thread == self._loop_thread else waits)


def _list_threads() -> list[int]:
    """All that there are; those to come have the policy of the thread which starts them."""
    return [int(thread.name) for thread in _THREADS.iterdir()]


def _set_policy(thread: int, waits: bool) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it has ended; or a sandbox forbids it: slower then, and as sound
            os.sched_setscheduler(thread, os.SCHED_BATCH if waits else os.SCHED_OTHER, os.sched_param(0))


def stand_back() -> None:
    """Put the calling thread behind the event loop.

    Under overload that has to refuse calls at once, and batches have what it leaves.
    """
    if sys.platform == "linux":  # where a thread has a priority of its own
        with contextlib.suppress(OSError):  # a sandbox may forbid it, and nothing else depends on it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def give_way() -> None:
    """Let a thread run that waits for this one's core, if there is any: under SCHED_BATCH none takes it by itself."""
    if sys.platform == "linux":
        os.sched_yield()
