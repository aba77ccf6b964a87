"""How runs use the CPU: threads per run, which runs may spread, when the event loop polls. One object decides.

Enters: the cores, the number of workers, and every run. Leaves: numbers of threads, and the machine's settings changed.
Does not know: models, batches, requests.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from serve.machine.busy_poll import BusyPoll
from serve.machine.cores import count_usable_cores, has_quota
from serve.machine.idle_cores import MOST_CORES, IdleCores
from serve.machine.scheduling import BatchScheduling


class CpuPolicy:
    """What runs ask of the machine; the mechanisms are behind it. Made on the event loop's thread."""

    def __init__(self, workers: int, busy_poll_us: int, idle_cores: IdleCores | None = None) -> None:
        """`busy_poll_us`: longest polling for the next request. It is off with one core, or under a CPU quota."""
        cores = count_usable_cores()
        self.threads = max(1, cores // workers)
        """Threads of one run."""
        self.most_threads = min(cores, MOST_CORES)
        """Threads of a run that spreads over cores which other workers leave idle."""
        self.busy_poll = BusyPoll(busy_poll_us if cores > 1 and not has_quota() else 0)
        self._idle_cores = idle_cores or IdleCores(cores)
        self._scheduling = BatchScheduling()

    @contextmanager
    def run(self, image_count: int, spreads_anyway: bool) -> Iterator[bool]:
        """Surround a run of so many images, in its own thread: whether it may use `most_threads`.

        `spreads_anyway`: for a run so short that keeping it to one core takes longer than the run.
        """
        self._scheduling.note_run(image_count)
        cores = self._idle_cores.claim()
        try:
            yield spreads_anyway or cores > 1
        finally:
            self._idle_cores.release(cores)

    def run_single(self) -> None:
        """Announce a run of one image that is short: it spreads, and claims nothing."""
        self._scheduling.note_run(1)
