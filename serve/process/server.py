"""One process that serves: load, listen, drain, close.

Enters: a ServerConfig. Leaves: nothing; it returns when it was told to stop and everything accepted is answered.
Does not know: flags, how messages look (`api/inkling_v1.py`), how models answer (`inference/runner.py`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from serve.api.gate import CallGate
from serve.api.inkling_v1 import SERVICE, ClassifierService, check_description
from serve.api.standard import Health, Reflection, Registrar
from serve.config import ServerConfig
from serve.errors import PortTaken
from serve.inference.device import choose_device
from serve.inference.engine import Placement
from serve.inference.loader import Loader
from serve.inference.registry import Registry
from serve.inference.runner import RunnerLimits
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.idle_cores import IdleCores
from serve.machine.memory import keep_loaded, return_after_bursts
from serve.machine.watchdog import Watchdog
from serve.model_file.folder import ModelFile
from serve.process.port import SPREADS_CONNECTIONS, join_address
from serve.telemetry.counts import Counts, Tally
from serve.telemetry.metrics import State
from serve.telemetry.tracing import Tracing

logger = logging.getLogger(__name__)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

REGISTERED = ("Classify", "BatchClassify")
"""Methods that are registered with gRPC; the others are found by name, which costs these nothing."""

LISTENERS = 32 if SPREADS_CONNECTIONS else 1
"""grpc.aio servers of a process, each with a share of the connections.

One takes its calls one after the other, over several iterations of the event loop each. Calls that come faster wait
inside gRPC, where they cannot be rejected, and hold up all connections of that server (docs/benchmarks/history.md).
"""

LEAST_STREAMS = 64
"""Calls that a connection may always have under way. RFC 9113, section 6.5.2, recommends 100 or more, for a server that
could use them; here the rest waits in the client and not in the server's memory."""

QUIET_S = 0.1
"""Seconds without a new call, after which a stop takes its next step."""
LONGEST_LAME_DUCK_S = 1.0
"""Seconds for which new calls are still answered: clients learn of a stop a little later."""


class Server:
    """A server of one process. Made and used on one event loop."""

    def __init__(
        self,
        config: ServerConfig,
        idle_cores: IdleCores | None = None,
        on_loading: Callable[[ModelFile], None] = lambda file: None,
        ask_sums: Callable[[], Awaitable[Tally]] | None = None,
    ) -> None:
        """`idle_cores` is this worker's view of the cores that the others use; `on_loading` is told of each file.

        `ask_sums` gives the counts of all workers; without it there are no others.
        """
        self._on_loading = on_loading
        self.counts = Counts()
        self._own_sums = Tally()
        self.ask_sums = ask_sums or self._sum_own
        self.certificate_expiry_s = 0.0
        """When the certificate in use expires, in seconds since 1970; 0 without one."""
        self._watchdog = Watchdog(config.hang_timeout_s / 2)
        self._config = config
        self.registry = Registry()
        self._cpu = CpuPolicy(config.workers, config.busy_poll_us, idle_cores)
        self._side_thread = ThreadPoolExecutor(1, "large-images")
        self._tracing = Tracing(config.trace_endpoint) if config.trace_endpoint else None
        self._gate = CallGate(self.counts, self._tracing)
        self._service = ClassifierService(self.registry, config.max_request_images)
        self._health = Health()
        self._reflection = Reflection((SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME))
        self._shares_port = config.workers > 1 or LISTENERS > 1
        self._listeners = [self._make_listener() for _ in range(LISTENERS)]
        self.port = config.port

    async def start(self) -> None:
        """Load every model, then listen. Raises ConfigError if none can be served or the address cannot be had."""
        await self._make_loader().load_folder(self._config.models, self._config.precision)
        keep_loaded()
        for name in self._health_names():
            await self._health.set(name, _NOT_SERVING)  # a new HealthServicer says SERVING at once
        self._listen()
        for listener in self._listeners:
            await listener.start()
        self._memory_task = asyncio.create_task(return_after_bursts(lambda: self._gate.call_count))
        for name in self._health_names():
            await self._health.set(name, _SERVING)

    async def stop(self) -> None:
        """Answer the calls that are on their way, reject later ones, finish what was accepted, close."""
        ends_s = time.monotonic() + self._config.grace_s
        await self._health.enter_graceful_shutdown()
        self._reflection.end()
        await self._wait_until_quiet(LONGEST_LAME_DUCK_S)
        self._gate.is_draining = True
        await self._wait_until_quiet(self._config.grace_s / 2)
        left_s = max(0.0, ends_s - time.monotonic())
        await asyncio.gather(*(listener.stop(left_s) for listener in self._listeners))
        for runner in self.registry.list():
            await runner.close()
        self._memory_task.cancel()
        if self._tracing:
            await self._tracing.close()
        # Not waited for: an image whose caller has left may still be decoding.
        self._side_thread.shutdown(wait=False, cancel_futures=True)

    def read_state(self) -> State:
        """What is true now, for the metrics."""
        runners = self.registry.list()
        waiting = dict.fromkeys(self.registry.names, 0)
        for runner in runners:
            waiting[runner.name] += runner.admission.images
        models = [(runner.name, str(runner.version), runner.spec.precision, runner.device) for runner in runners]
        return State(waiting, models, self.certificate_expiry_s)

    async def _sum_own(self) -> Tally:
        self._own_sums.add(self.counts.take())
        return self._own_sums

    async def _wait_until_quiet(self, longest_s: float) -> None:
        """Until no more calls come: gRPC would cancel those that it has and no handler has yet."""
        ends_s, seen = time.monotonic() + min(longest_s, self._config.grace_s), -1
        while seen != self._gate.call_count and time.monotonic() < ends_s:
            seen = self._gate.call_count
            await asyncio.sleep(QUIET_S)

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
            side_thread=self._side_thread,
            watchdog=self._watchdog,
            describe=check_description,
            on_loading=self._on_loading,
            counts=self.counts,
        )

    def _listen(self) -> None:
        """Take the port with every listener; port 0 becomes a free one. Raises PortTaken if it cannot be had."""
        for listener in self._listeners:
            address = join_address(self._config.host, self.port)
            try:
                self.port = listener.add_insecure_port(address)
            except RuntimeError as error:
                raise PortTaken(f"--host, --port: cannot listen on {address}; is another server there?") from error

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
        registrar: Any = Registrar(server, self._gate)  # Any: its types ask for a server, its code for a Registrar
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registrar)
        # Not `enable_server_reflection`, which takes a Registrar for a server of threads: a client that does not read
        # would keep a thread for good.
        add_reflection: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server  # Any: it has no types
        add_reflection(self._reflection, registrar)
        return server

    def _health_names(self) -> list[str]:
        """The whole server, its service, and each model by name."""
        return ["", SERVICE.full_name, *self.registry.names]
