"""One process that serves: load, listen, drain, close.

Enters: a ServerConfig. Leaves: nothing; it returns when it was told to stop and everything accepted is answered.
Does not know: flags, how messages look (`api/inkling_v1.py`), how models answer (`inference/runner.py`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from serve.api.gate import CallGate
from serve.api.inkling_v1 import SERVICE, ClassifierService, check_description
from serve.api.open_inference.control import ModelControl, NoControl
from serve.api.open_inference.service import SERVICE as OPEN_INFERENCE
from serve.api.open_inference.service import OpenInferenceService
from serve.api.receiving import Receiver
from serve.api.security.access import Access
from serve.api.standard.health import HEALTH, Health
from serve.api.standard.reflection import REFLECTIONS, Reflection
from serve.config import ServerConfig
from serve.errors import NoModelLoaded
from serve.images.pool import DecodePool
from serve.inference.device import Placement, choose_device
from serve.inference.loader import Loader
from serve.inference.registry import Refusal, Registry
from serve.inference.runner import RunnerLimits
from serve.machine.cores import count_usable_cores
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.idle_cores import IdleCores
from serve.machine.memory import MemoryGrowth, keep_loaded, return_after_bursts
from serve.machine.scheduling import lower_thread_priority
from serve.machine.watchdog import Watchdog
from serve.model_file.folder import ModelFile
from serve.model_file.repository import count_live
from serve.process.control.precision import make_repository
from serve.process.listening.listeners import Listeners, Services
from serve.telemetry.counts import Counts, Tally
from serve.telemetry.metrics import State
from serve.telemetry.model_statistics import ModelStatistics, read_statistics
from serve.telemetry.tracing import Tracing

logger = logging.getLogger(__name__)

MOST_DECODERS = 8
"""Threads of a worker that decode large images. Workers share the cores, and use those that the others leave idle."""

HELD_MESSAGES = 8
"""Messages of the largest size whose memory those that are still coming may take. Beyond that some of them end."""
BYTES_PER_PIXEL = 12
"""The peak of one image while it is decoded, as docs/serving/limits.md states it."""

LONGEST_QUIET_WAIT_S = 0.5
"""Seconds that a stop waits for a moment without a new call."""


class Server:
    """A server of one process. Made and used on one event loop."""

    def __init__(
        self,
        config: ServerConfig,
        idle_cores: IdleCores | None = None,
        on_loading: Callable[[ModelFile], None] = lambda file: None,
        ask_sums: Callable[[], Awaitable[Tally]] | None = None,
        control: ModelControl | None = None,
        *,
        web_socket: str = "",
    ) -> None:
        """`idle_cores` is this worker's view of the cores that the others use; `on_loading` is told of each file.

        `ask_sums` gives the counts of all workers; without it there are no others. `control` loads and unloads models
        on request; without it such requests are refused. `web_socket` is the path of a Unix socket to listen on, too.
        """
        self._web_socket = web_socket
        self._on_loading = on_loading
        self.counts = Counts()
        self._own_sums = Tally()
        self.ask_sums = ask_sums or self._sum_own
        self._watchdog = Watchdog(config.hang_timeout_s / 2)
        self._config = config
        self.registry = Registry()
        self._cpu = CpuPolicy(config.workers, config.busy_poll_us, idle_cores)
        self._tracing = Tracing(config.trace_endpoint) if config.trace_endpoint else None
        threads = min(count_usable_cores(), MOST_DECODERS)
        self._decoders = ThreadPoolExecutor(threads, "decoder", initializer=lower_thread_priority)
        self._pool = DecodePool(self._decoders, threads, config.max_pending_pixels, config.max_image_pixels)
        self._live_versions = count_live(config.version_policy)
        self._loader = self._make_loader()
        files = (config.tls_cert, config.tls_key, config.tls_client_ca, config.tokens)
        self._access = Access(*files, config.max_token_calls, is_quiet=True)  # the supervisor has them, too, and logs
        self._growth = MemoryGrowth(HELD_MESSAGES * config.max_message_bytes, self._count_images)
        self._gate = CallGate(Receiver(self._growth), self.counts, self._tracing, self._access.tokens)
        self._service = ClassifierService(self.registry, config.max_request_images)
        self._open_inference = OpenInferenceService(
            self.registry, config.max_request_images, statistics=self._read_statistics, control=control or NoControl()
        )
        self._health = Health()
        self._listens = False
        self._reflection = Reflection([SERVICE.full_name, OPEN_INFERENCE.full_name])
        self._listeners = Listeners(config, self._list_services())
        self.port = config.port

    async def load(self, files: Sequence[ModelFile] | None = None) -> list[Refusal]:
        """Load models: of those files, or of the folder. Raises ConfigError if none can be served."""
        if files is None:
            repository = make_repository(self._config, is_on_cpu=self._device == "cpu")
            for problem in repository.look_first():
                logger.warning("%s", problem)
            files = list(chain.from_iterable(repository.models.values()))
        refusals = await self.follow(files)
        if files and not self.registry.names:
            folder = self._config.models
            raise NoModelLoaded(f"--models: every model file under {folder} was refused; the reasons are above")
        return refusals

    async def follow(self, files: Sequence[ModelFile], retries: Collection[str] = ()) -> list[Refusal]:
        """Serve those files from now on, as `Loader.follow` says: versions that none of their files serves."""
        return await self._loader.follow(files, self._live_versions, retries)

    async def start(self, files: Sequence[ModelFile] | None = None) -> list[Refusal]:
        """Load models, then listen. Raises ConfigError if none can be served or the address cannot be had."""
        refusals = await self.load(files)
        keep_loaded()
        self.port = self._listeners.bind(self._access.pair, self._web_socket)
        await self._listeners.start()
        self._access_task = asyncio.create_task(self._access.watch())
        self._memory_task = asyncio.create_task(return_after_bursts(lambda: self._gate.ended_count))
        self._listens = True
        self._set_serving()
        return refusals

    async def stop(self) -> None:
        """Say NOT_SERVING, send clients away, finish what was accepted, close."""
        self._open_inference.is_ready = False
        self._health.end()
        await asyncio.sleep(self._config.lame_duck_s)
        ends_s = time.monotonic() + self._config.grace_s
        self._reflection.end()
        await self._gate.wait_until_quiet(LONGEST_QUIET_WAIT_S)
        self._listeners.begin_stop()
        self._gate.end_streams()
        await self._gate.wait_until_idle(max(0.0, ends_s - time.monotonic()))
        await self._listeners.stop()
        await self._loader.close()
        for runner in self.registry.list():
            await runner.close()
        self._memory_task.cancel()
        if self._tracing:
            await self._tracing.close()
        self._access_task.cancel()
        self._growth.close()
        # Not waited for: an image whose caller has left may still be decoding.
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def read_state(self) -> State:
        """What is true now, for the metrics."""
        runners = self.registry.list()
        waiting = dict.fromkeys(self.registry.names, 0)
        for runner in runners:
            waiting[runner.name] += runner.admission.images
        models = [(runner.name, str(runner.version), runner.spec.precision, runner.device) for runner in runners]
        return State(waiting, models, self._access.pair.content.expires_s if self._access.pair else 0.0)

    async def _sum_own(self) -> Tally:
        self._own_sums.add(self.counts.take())
        return self._own_sums

    def _count_images(self) -> int:
        """Bytes that the images of requests take."""
        waiting = sum(runner.admission.image_bytes for runner in self.registry.list())
        return waiting + BYTES_PER_PIXEL * self._pool.pending_pixels

    def _note_change(self) -> None:
        """The live set has changed."""
        self._growth.begin()
        self._set_serving()

    def _set_serving(self) -> None:
        """Health knows the live models, once calls can come."""
        if self._listens:
            self._health.set_serving(["", SERVICE.full_name, OPEN_INFERENCE.full_name, *self.registry.names])

    def _make_loader(self) -> Loader:
        config = self._config
        self._device, problem = choose_device(config.device, config.device_id)
        if problem:
            logger.info("running on %s: %s", self._device, problem)
        placement = Placement(
            device=self._device,
            threads=self._cpu.threads,
            most_threads=self._cpu.most_threads,
            max_batch=config.max_batch,
            gpu_memory_bytes=config.gpu_memory_mib * 2**20,
        )
        limits = RunnerLimits(
            config.max_pending, config.max_pending_bytes, config.max_queue_delay_us, config.max_image_pixels
        )
        return Loader(
            self.registry,
            placement,
            limits=limits,
            cpu=self._cpu,
            pool=self._pool,
            watchdog=self._watchdog,
            describe=check_description,
            on_loading=self._on_loading,
            on_change=self._note_change,
            counts=self.counts,
        )

    def _list_services(self) -> Services:
        return {
            SERVICE.full_name: self._service.handlers(self._gate),
            OPEN_INFERENCE.full_name: self._open_inference.handlers(self._gate),
            HEALTH: self._health.handlers(self._gate),
            **dict.fromkeys(REFLECTIONS, self._reflection.handlers(self._gate)),
        }

    async def _read_statistics(self, name: str, version: str) -> ModelStatistics:
        """What a version of a model did in all workers."""
        return read_statistics(await self.ask_sums(), name, version)
