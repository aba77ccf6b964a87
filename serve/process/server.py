"""One process that serves: load, listen, drain, close.

Enters: a ServerConfig. Leaves: nothing; it returns when it was told to stop and everything accepted is answered.
Does not know: flags, how messages look (`api/inkling_v1.py`), how models answer (`inference/runner.py`).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import grpc

from serve.api.gate import CallGate
from serve.api.inkling_v1 import SERVICE, ClassifierService, check_description
from serve.api.standard import HEALTH, REFLECTIONS, Health, Reflection
from serve.config import ServerConfig
from serve.errors import ConfigError
from serve.images.pool import DecodePool
from serve.inference.device import choose_device
from serve.inference.engine import Placement
from serve.inference.loader import Loader
from serve.inference.registry import Refusal, Registry
from serve.inference.runner import RunnerLimits
from serve.machine.cores import count_usable_cores
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.idle_cores import IdleCores
from serve.machine.memory import keep_loaded, return_after_bursts
from serve.machine.scheduling import lower_thread_priority
from serve.machine.watchdog import Watchdog
from serve.model_file.folder import ModelFile
from serve.model_file.repository import Repository, count_live
from serve.process.port import SPREADS_CONNECTIONS, join_address

logger = logging.getLogger(__name__)

REGISTERED = ("Classify", "BatchClassify")
"""Methods that are registered with gRPC. The others are found by name: grpc.aio waits at every call for the next one of
each registered method, so every one costs all calls (docs/benchmarks/history.md)."""

LISTENERS = 32 if SPREADS_CONNECTIONS else 1
"""grpc.aio servers of a process, each with a share of the connections.

One takes its calls one after the other, over several iterations of the event loop each. Calls that come faster wait
inside gRPC, where they cannot be rejected, and hold up all connections of that server (docs/benchmarks/history.md).
"""

LEAST_STREAMS = 64
"""Calls that a connection may always have under way. RFC 9113, section 6.5.2, recommends 100 or more, for a server that
could use them; here the rest waits in the client and not in the server's memory."""

MOST_DECODERS = 8
"""Threads of a worker that decode large images. Workers share the cores, and use those that the others leave idle."""

LONGEST_QUIET_WAIT_S = 0.5
"""Seconds that a stop waits for a moment without a new call."""
CLOSE_S = 2.0
"""Seconds that connections have to close once no handler runs."""


class Server:
    """A server of one process. Made and used on one event loop."""

    def __init__(
        self,
        config: ServerConfig,
        idle_cores: IdleCores | None = None,
        on_loading: Callable[[ModelFile], None] = lambda file: None,
    ) -> None:
        """`idle_cores` is this worker's view of the cores that the others use; `on_loading` is told of each file."""
        self._on_loading = on_loading
        self._watchdog = Watchdog(config.hang_timeout_s / 2)
        self._config = config
        self.registry = Registry()
        self._cpu = CpuPolicy(config.workers, config.busy_poll_us, idle_cores)
        threads = min(count_usable_cores(), MOST_DECODERS)
        self._decoders = ThreadPoolExecutor(threads, "decoder", initializer=lower_thread_priority)
        self._pool = DecodePool(self._decoders, threads, config.max_pending_pixels, config.max_image_pixels)
        self._live_versions = count_live(config.version_policy)
        self._loader = self._make_loader()
        self._gate = CallGate()
        self._service = ClassifierService(self.registry, config.max_request_images)
        self._health = Health()
        self._listens = False
        self._reflection = Reflection([SERVICE.full_name])
        self._shares_port = config.workers > 1 or LISTENERS > 1
        self._listeners = [self._make_listener() for _ in range(LISTENERS)]
        self.port = config.port

    async def load(self, files: Sequence[ModelFile] | None = None) -> list[Refusal]:
        """Load models: of those files, or of the folder. Raises ConfigError if none can be served."""
        if files is None:
            repository = Repository(self._config.models, self._config.precision, self._live_versions)
            for problem in repository.look_first():
                logger.warning("%s", problem)
            files = list(chain.from_iterable(repository.models.values()))
        refusals = await self.follow(files)
        if files and not self.registry.names:
            folder = self._config.models
            raise ConfigError(f"--models: every model file under {folder} was refused; the reasons are above")
        return refusals

    async def follow(self, files: Sequence[ModelFile], retries: Collection[str] = ()) -> list[Refusal]:
        """Serve those files from now on, as `Loader.follow` says: versions that none of their files serves."""
        return await self._loader.follow(files, self._live_versions, retries)

    async def start(self, files: Sequence[ModelFile] | None = None) -> list[Refusal]:
        """Load models, then listen. Raises ConfigError if none can be served or the address cannot be had."""
        refusals = await self.load(files)
        keep_loaded()
        self._listen()
        for listener in self._listeners:
            await listener.start()
        self._memory_task = asyncio.create_task(return_after_bursts(lambda: self._gate.call_count))
        self._listens = True
        self._set_serving()
        return refusals

    async def stop(self) -> None:
        """Say NOT_SERVING, send clients away, finish what was accepted, close."""
        ends_s = time.monotonic() + self._config.grace_s
        self._health.end()
        self._reflection.end()
        await self._gate.wait_until_quiet(LONGEST_QUIET_WAIT_S)
        # Each sends GOAWAY and closes its listening socket at once, then waits for its connections. These may be silent
        # for ever; the stop waits for handlers alone.
        stops = [asyncio.create_task(listener.stop(self._config.grace_s)) for listener in self._listeners]
        await self._gate.wait_until_idle(max(0.0, ends_s - time.monotonic()))
        ended = asyncio.gather(*(listener.stop(None) for listener in self._listeners), *stops)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended, CLOSE_S)
        await self._loader.close()
        for runner in self.registry.list():
            await runner.close()
        self._memory_task.cancel()
        # Not waited for: an image whose caller has left may still be decoding.
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _set_serving(self) -> None:
        """Health knows the live models, once calls can come."""
        if self._listens:
            self._health.set_serving(["", SERVICE.full_name, *self.registry.names])

    def _make_loader(self) -> Loader:
        config = self._config
        device, problem = choose_device(config.device, config.device_id)
        if problem:
            logger.info("running on %s: %s", device, problem)
        placement = Placement(
            device=device,
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
            on_change=self._set_serving,
        )

    def _listen(self) -> None:
        """Take the port with every listener; port 0 becomes a free one. Raises ConfigError if it cannot be had."""
        for listener in self._listeners:
            address = join_address(self._config.host, self.port)
            try:
                self.port = listener.add_insecure_port(address)
            except RuntimeError as error:
                raise ConfigError(f"--host, --port: cannot listen on {address}; is another server there?") from error

    def _make_listener(self) -> grpc.aio.Server:
        options = [
            ("grpc.max_receive_message_length", self._config.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", int(self._shares_port)),
            # At least two full batches per connection, one that runs and one that gathers; the rest waits in the
            # client. Without a bound, calls wait inside gRPC, which cancels them silently past a thousand.
            ("grpc.max_concurrent_streams", max(LEAST_STREAMS, 2 * self._config.max_batch)),
            # It counts calls whose callers have left, and then rejects the others.
            ("grpc.http.overload_protection", 0),
        ]
        server = grpc.aio.server(options=options)
        handlers = self._service.handlers(self._gate)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
        server.add_registered_method_handlers(SERVICE.full_name, {name: handlers[name] for name in REGISTERED})
        standard = {HEALTH: self._health.handlers(self._gate)}
        standard |= dict.fromkeys(REFLECTIONS, self._reflection.handlers(self._gate))
        server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in standard.items())
        )
        return server
