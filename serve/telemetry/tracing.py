"""Traces: a span for each call, and in it what the call waited for, by OpenTelemetry's SDK and OTLP over HTTP.

Enters: calls that begin and end, the trace context of their callers (W3C), stages with their times. Leaves: spans, sent
to a collector. Does not know: gRPC, models.

OpenTelemetry's own instrumentation of grpc.aio is not used: it swallows cancellation.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from serve.errors import ConfigError
from serve.telemetry.calls import CURRENT_CALL, Call

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

logger = logging.getLogger(__name__)

TRACES_PATH = "/v1/traces"
"""Path of a collector that takes OTLP over HTTP."""
FLUSH_S = 3.0
"""Seconds that a stop waits for the last spans to be sent."""


class Stage(NamedTuple):
    """A part of a call, on the clock of `time.perf_counter_ns`."""

    name: str
    start_ns: int
    end_ns: int


class CallSpan:
    """The span of one call."""

    def __init__(self, tracer: "Tracer", span: "Span", context: "Context") -> None:
        self.span = span
        self._tracer = tracer
        self._context = context

    def add_stages(self, stages: Iterable[Stage]) -> None:
        """Add a span within this one for each stage."""
        offset_ns = time.time_ns() - time.perf_counter_ns()
        for stage in stages:
            span = self._tracer.start_span(stage.name, self._context, start_time=stage.start_ns + offset_ns)
            span.end(stage.end_ns + offset_ns)


class Tracing:
    """Makes the spans of calls and sends them.

    OpenTelemetry's own variables (`OTEL_...`) choose the sampler, the service's name, headers and certificates.
    """

    def __init__(self, endpoint: str) -> None:
        """`endpoint` is a URL; without a path it gets TRACES_PATH. Raises ConfigError without the extra [trace]."""
        try:
            # Here: only those who ask for traces need the packages.
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigError(f"--trace-endpoint: {error.name} is not installed; install the extra [trace]") from error
        resource = Resource.create({SERVICE_NAME: "inkling"}).merge(OTELResourceDetector().detect())
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(complete(endpoint))))
        self._tracer = self._provider.get_tracer("inkling")

    def start(self, call: Call, method: str, metadata: Iterable[tuple[str, Any]]) -> None:
        """Begin the span of a call, within its caller's if the metadata names one."""
        parent = self._propagator.extract({key: value for key, value in metadata if isinstance(value, str)})
        span = self._tracer.start_span(
            method, parent, self._trace.SpanKind.SERVER, {"rpc.system": "grpc", "rpc.method": method}
        )
        if span.is_recording():
            call.span = CallSpan(self._tracer, span, self._trace.set_span_in_context(span, parent))

    def end(self, call: Call) -> None:
        """End the span of a call, if it has one."""
        if not call.span:
            return
        span = call.span.span
        model, version = call.served_by
        span.set_attributes({"inkling.model": model, "inkling.version": version, "inkling.code": call.code})
        if call.id_metadata:
            span.set_attribute("inkling.request_id", call.request_id)
        if call.code != "OK":
            span.set_status(self._trace.StatusCode.ERROR, call.code)
        span.end()

    async def close(self) -> None:
        """Send what is left, for FLUSH_S at most."""
        # A thread that nobody waits for at the end of the process: a collector that does not answer is tried again.
        sending = asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), self._provider.force_flush)
        try:
            await asyncio.wait_for(sending, FLUSH_S)
        except TimeoutError:
            logger.warning("the last traces could not be sent within %g s", FLUSH_S)


def find_current_span() -> CallSpan | None:
    """The span of the call that is being answered in this task, if it is traced."""
    call = CURRENT_CALL.get()
    return call.span if call else None


def complete(endpoint: str) -> str:
    """The URL that spans are sent to. Raises ConfigError if it is none."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("--trace-endpoint: wanted a URL that begins with http:// or https://")
    return endpoint if parts.path.strip("/") else parts._replace(path=TRACES_PATH).geturl()
