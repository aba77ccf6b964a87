"""One process of the server: load, warm, serve, drain, close.

Enters: a ServerConfig. Leaves: an exit when it was told to stop and everything accepted is answered.
Does not know: flags, how messages look (`service.py`), how models answer (`classifier.py`).
"""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from serve.api.inkling_v1 import ClassifierService, make_handlers
from serve.api.standard import Health, Reflection, Registrar
from serve.config import ServerConfig
from serve.errors import ConfigError
from serve.inference import engine
from serve.inference.admission import Admission
from serve.inference.device import choose_device
from serve.inference.loader import load_repository
from serve.inference.registry import Repository
from serve.inference.runner import Classifier
from serve.machine.busy_poll import BusyPoll
from serve.machine.cores import count_usable_cores, has_quota
from serve.machine.idle_cores import MOST_CORES, Neighbours
from serve.machine.memory import give_back_after_crowds, settle
from serve.machine.scheduling import Turns
from serve.model_file.folder import ModelFile
from serve.pb import classifier_pb2
from serve.process.port import SPREADS_CONNECTIONS, join_address, reserve_port

logger = logging.getLogger(__name__)

SERVICE = classifier_pb2.DESCRIPTOR.services_by_name["ClassifierService"].full_name
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

OFTEN = ("Classify", "BatchClassify")
"""The methods that are registered with gRPC; the others are found by name, which costs these nothing."""

LISTENERS = 32 if SPREADS_CONNECTIONS else 1
"""grpc.aio servers of a process, each with a share of the connections.

One takes its calls one after the other, about four turns of the event loop a call: what comes faster waits inside gRPC,
where nothing can refuse it, and whoever shares the listener waits behind it. With four, a call to `mnist-cnn` took 0.61
of the CPU time; with sixteen, one caller beside sixteen that flood the server waits 24 ms instead of 730. With 32 fewer
share one with them: refusals took over 50 ms for one of 64 callers beside an overload, with sixteen for five of 22.
"""

LEAST_STREAMS = 64
"""Calls that a connection may always have under way. RFC 9113, section 6.5.2, recommends 100 or more, for a server that
could use them; here they would wait in its memory instead of the client's."""

QUIET_S = 0.1
"""A stop goes on to its next step once no call came for so long."""
LONGEST_FAREWELL_S = 1.0
"""For so long, calls that come are still answered: callers hear of a stop a little later."""


class Server:
    """A server that has loaded its models. Created and used on one event loop."""

    def __init__(self, config: ServerConfig, neighbours: Neighbours | None = None) -> None:
        """Load and warm every model. Raises ConfigError where none can be served."""
        self._config = config
        cores = count_usable_cores()
        self._neighbours = neighbours or Neighbours(cores)
        self._side_thread = ThreadPoolExecutor(1, "large-images")
        self._turns = Turns()
        self._busy_poll = BusyPoll(config.busy_poll_us if cores > 1 and not has_quota() else 0)
        device, problem = choose_device(config.device, config.device_id)
        if problem:
            logger.info("running on %s: %s", device, problem)
        self._placement = engine.Placement(
            device=device,
            threads=max(1, cores // config.workers),
            most_threads=min(cores, MOST_CORES),
            max_batch=config.max_batch,
            gpu_memory_bytes=config.gpu_memory_mib * 2**20,
        )
        self.repository: Repository = load_repository(config.models, config.precision, self._load)
        self._service = ClassifierService(self.repository, config.max_request_images)
        self._health = Health()
        self._reflection = Reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME))
        self._shares_port = config.workers > 1 or LISTENERS > 1
        self._reserved: socket.socket | None = None
        self._listeners = [self._make_listener() for _ in range(LISTENERS)]
        self.port = config.port

    async def start(self) -> None:
        """Listen and say so. Raises ConfigError where the address cannot be had."""
        for name in self._health_names():
            await self._health.set(name, _NOT_SERVING)  # a new HealthServicer says SERVING at once
        self._take_port()
        for listener in self._listeners:
            await listener.start()
        self._memory_watch = asyncio.create_task(give_back_after_crowds(lambda: self._service.call_count))
        for name in self._health_names():
            await self._health.set(name, _SERVING)
        # One of many says it quietly: the supervisor says it for all.
        level = logging.INFO if self._config.workers == 1 else logging.DEBUG
        address = join_address(self._config.host, self.port)
        logger.log(level, "serving %s on %s", ", ".join(self.repository.names), address)

    async def stop(self) -> None:
        """Answer what is on its way, refuse what still comes, finish what was accepted, close."""
        ends_s = time.monotonic() + self._config.grace_s
        await self._health.enter_graceful_shutdown()
        self._reflection.end()
        await self._become_quiet(LONGEST_FAREWELL_S)
        self._service.is_draining = True
        await self._become_quiet(self._config.grace_s / 2)
        left_s = max(0.0, ends_s - time.monotonic())
        await asyncio.gather(*(listener.stop(left_s) for listener in self._listeners))
        for classifier in self.repository.list():
            await classifier.close()
        self._memory_watch.cancel()
        # Not waited for, here or at the end of the process: an image whose caller has left may still be decoding.
        self._side_thread.shutdown(wait=False, cancel_futures=True)
        if self._reserved:
            self._reserved.close()
        logger.info("stopped")

    async def _become_quiet(self, longest_s: float) -> None:
        """Until no more calls come: gRPC would cancel, without a word, those that it has and no handler has yet."""
        ends_s, seen = time.monotonic() + min(longest_s, self._config.grace_s), -1
        while seen != self._service.call_count and time.monotonic() < ends_s:
            seen = self._service.call_count
            await asyncio.sleep(QUIET_S)

    def _take_port(self) -> None:
        """Listen with every listener. Raises ConfigError where the port cannot be had.

        A port to be shared could be another server's, too, so it is reserved first: for workers by their supervisor.
        """
        if self._shares_port and self._config.workers == 1:
            self._reserved = reserve_port(self._config.host, self._config.port)
            self.port = self._reserved.getsockname()[1]
        for listener in self._listeners:
            address = join_address(self._config.host, self.port)
            try:
                self.port = listener.add_insecure_port(address)
            except RuntimeError as error:
                raise ConfigError(f"--host, --port: cannot listen on {address}; is another server there?") from error

    def _load(self, file: ModelFile) -> Classifier:
        config = self._config
        loaded = engine.load(file.path, self._placement)
        loaded.warm_up()
        return Classifier(
            file.name,
            file.version,
            loaded,
            admission=Admission(config.max_pending, config.max_pending_bytes),
            side_thread=self._side_thread,
            turns=self._turns,
            busy_poll=self._busy_poll,
            neighbours=self._neighbours,
            max_queue_delay_us=config.max_queue_delay_us,
            max_image_pixels=config.max_image_pixels,
        )

    def _make_listener(self) -> grpc.aio.Server:
        options = [
            ("grpc.max_receive_message_length", self._config.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", int(self._shares_port)),
            # At least two full batches a connection, one that runs and one that gathers; more waits in the client.
            # Without a bound, calls that came faster than they could be refused waited inside gRPC for seconds, and
            # past a thousand it cancelled them without a word.
            ("grpc.max_concurrent_streams", max(LEAST_STREAMS, 2 * self._config.max_batch)),
            # It counts calls whose callers have left, and then refuses those who stay: 4,200 of 5,000 in a test.
            ("grpc.http.overload_protection", 0),
        ]
        server = grpc.aio.server(options=options)
        handlers = make_handlers(self._service)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        server.add_registered_method_handlers(SERVICE, {name: handlers[name] for name in OFTEN})
        seldom: Any = Registrar(server)  # Any: its types ask for a server, its code for what a Registrar has
        health_pb2_grpc.add_HealthServicer_to_server(self._health, seldom)
        # Not `enable_server_reflection`, which takes a Registrar for a server of threads: a caller who does not read
        # would keep one for good.
        add_reflection: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server  # Any: it has no types
        add_reflection(self._reflection, seldom)
        return server

    def _health_names(self) -> list[str]:
        """The whole server, its service, and each model by name."""
        return ["", SERVICE, *self.repository.names]


async def serve(
    config: ServerConfig,
    stop: asyncio.Event,
    on_serving: Callable[[], None] = lambda: None,
    neighbours: Neighbours | None = None,
) -> None:
    """Serve until `stop` is set, by SIGTERM, SIGINT or the caller. Raises ConfigError where it cannot start."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Server(config, neighbours)
    settle()
    await server.start()
    on_serving()
    await stop.wait()
    logger.info("stopping; accepted calls have %d s to finish", config.grace_s)
    await server.stop()
