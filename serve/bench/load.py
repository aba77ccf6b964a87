"""A load and its result: what to send, how much and for how long -> latencies, errors and the generator's cost.

Enters: the settings of a load; a request. Leaves: the `Plan` and the `Measurement` of all generators; replies.
Does not know: how a load is generated, or what the requests ask.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from serve.client.channel import open_channel
from serve.client.endpoint import Endpoint, to_endpoint
from serve.errors import ConfigError

TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Plan:
    """How to load a server: a closed loop, or an open loop that starts calls at fixed times."""

    method: str
    """The full name, such as "/inkling.v1.ClassifierService/Classify"."""
    images_per_call: int
    concurrency: int
    """Calls in flight in a closed loop."""
    connections: int
    rate: float
    """Calls a second in an open loop; 0 is a closed loop."""
    seconds: float
    warm_up_s: float


@dataclass(slots=True)
class Measurement:
    """The result of a plan. In an open loop, latencies count from the intended start of a call."""

    images_per_call: int
    elapsed_s: float = 0
    latencies_us: list[float] = field(default_factory=list)
    """Latencies of the successful calls."""
    errors: Counter[str] = field(default_factory=Counter)
    """The number of failed calls by status code."""
    error_latencies_us: list[float] = field(default_factory=list)
    good_calls: int = 0
    generator_cpu_s: float = 0

    @property
    def images_per_s(self) -> float:
        """The throughput of successful calls."""
        return self.good_calls * self.images_per_call / self.elapsed_s

    @property
    def calls(self) -> int:
        """The number of all calls."""
        return self.good_calls + self.errors.total()

    def percentile_us(self, share: float) -> float:
        """A percentile of the successful calls' latencies, `share` from 0 to 1. NaN if there are none."""
        return percentile(self.latencies_us, share)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share, from 0 to 1, of the values lies. NaN if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def fetch_replies(server: Endpoint | str, method: str, request: bytes, count: int) -> list[bytes]:
    """The replies to a request that is sent `count` times on one connection. Raises ConfigError if a call fails."""
    metadata = to_endpoint(server).metadata
    with open_channel(server) as channel:
        call: Any = channel.unary_unary(method)
        try:
            return [bytes(call(request, timeout=TIMEOUT_S, metadata=metadata)) for _ in range(count)]
        except grpc.RpcError as error:
            status: Any = error
            raise ConfigError(f"{method}: wanted an answer, got {status.code().name}: {status.details()}") from error
