"""The kernel's scheduling policy and the niceness of this process's threads.

Enters: how many images each run had, and which threads run batches. Leaves: changed policies and priorities.
Does not know: what the threads do.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

BATCH_THREAD_NICENESS = 5
"""Niceness that threads which run batches have beyond the event loop's, so that it refuses calls at once under load."""
_MOST_NICENESS = 19

_THREADS = Path("/proc/self/task")


class BatchScheduling:
    """Puts the threads of this process under SCHED_BATCH (sched(7)) while runs hold several images.

    A call wakes gRPC's threads and the event loop several times each. Under the default policy each of them interrupts
    what runs; under SCHED_BATCH a thread that wakes waits until the running one pauses. A single in-flight request
    gains nothing by that and waits for other processes, so it gets the default policy. The event loop keeps the
    default policy beside runs in a thread: these are long, and refusals and health checks would come late. A process
    that was started under another policy than the default keeps it.
    """

    HOLD_S = 1.0
    """Keep SCHED_BATCH for this many seconds after the last run of two or more images."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Must be made on the event loop's thread."""
        self._clock = clock
        self._lock = threading.Lock()  # the loop and the batchers' threads run models at the same time
        self._loop_thread = threading.get_native_id()
        self._last_shared_s = self._last_threaded_s = float("-inf")
        self._is_batch = self._loop_is_batch = False
        self._is_ours = sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER

    def note_run(self, image_count: int) -> None:
        """Adapt the policy to a run of so many images; call it in the thread that makes the run."""
        is_on_loop = threading.get_native_id() == self._loop_thread
        if image_count == 1 and is_on_loop and not self._is_batch:
            return  # nothing changes, and a single in-flight request waits
        with self._lock:
            self._note_run(image_count, is_on_loop)

    def _note_run(self, image_count: int, is_on_loop: bool) -> None:
        now_s = self._clock()
        if image_count > 1:
            self._last_shared_s = now_s
        if not is_on_loop:
            self._last_threaded_s = now_s
        is_batch = now_s - self._last_shared_s < self.HOLD_S
        loop_is_batch = is_batch and now_s - self._last_threaded_s >= self.HOLD_S
        if (is_batch, loop_is_batch) != (self._is_batch, self._loop_is_batch) and self._is_ours:
            self._is_batch, self._loop_is_batch = is_batch, loop_is_batch
            for thread in _list_threads():
                _set_policy(thread, loop_is_batch if thread == self._loop_thread else is_batch)


def _list_threads() -> list[int]:
    """All threads of the process, or none where /proc is missing; a new one inherits its starter's policy."""
    with contextlib.suppress(OSError):  # no /proc, or no file descriptor left to read it
        return [int(thread.name) for thread in _THREADS.iterdir()]
    return []


def _set_policy(thread: int, is_batch: bool) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # the thread has ended, or a sandbox forbids it
            os.sched_setscheduler(thread, os.SCHED_BATCH if is_batch else os.SCHED_OTHER, os.sched_param(0))


def lower_thread_priority() -> None:
    """Put the calling thread behind the event loop: batches get what refusals and health checks leave."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        niceness = os.getpriority(os.PRIO_PROCESS, os.getpid()) + BATCH_THREAD_NICENESS  # the main thread runs the loop
        with contextlib.suppress(OSError):  # a sandbox may forbid it, and nothing else depends on it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(niceness, _MOST_NICENESS))


def yield_core() -> None:
    """Let another runnable thread of this core run first: under SCHED_BATCH none interrupts the calling one."""
    if sys.platform == "linux":
        os.sched_yield()
