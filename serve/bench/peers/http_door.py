"""`python -m serve.bench.peers.http_door`: what the HTTP door costs, as images a second over HTTP and over gRPC.

Enters: a folder of models. Leaves: a line a round, and a last line of JSON with the medians.
Does not know: how the door works. Both loads go to one server, in turn: gRPC, HTTP, gRPC, HTTP.
"""

import argparse
import asyncio
import json
import socket
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.bench.generators.grpc_aio import GrpcLoad
from serve.bench.generators.http import HttpLoad
from serve.bench.load import Measurement, Plan
from serve.bench.target import start_server
from serve.bench.workload import CLASSIFY, Subject, make_subject
from serve.machine.cores import count_usable_cores

START_S = 60.0
"""Seconds within which the door has to answer after the server does."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    models: Path
    model: str
    workers: int
    concurrency: int
    seconds: float
    rounds: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print. Exit code 1 if a call failed."""
    options = Options(**vars(_parser().parse_args(arguments)))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    flags = ["--models", str(options.models), "--workers", str(options.workers), "--metrics-port", "0"]
    found: list[tuple[Measurement, Measurement]] = []
    with start_server([*flags, "--web-port", str(port)]) as target:
        subject = make_subject(target, options.model, 0)
        asyncio.run(_wait_for_door(port))
        for number in range(options.rounds):
            found.append(asyncio.run(_measure(subject, port, options)))
            print(f"round {number + 1}: " + "; ".join(map(_describe, found[-1], ("gRPC", "HTTP"))), flush=True)
    print(json.dumps(_summarize(options, found)))
    return int(any(each.errors for pair in found for each in pair))


async def _wait_for_door(port: int) -> None:
    """Until the door takes a connection, which it does once the workers serve."""
    plan = Plan("", 1, 1, 1, 0, 0, 0.01)
    async with asyncio.timeout(START_S):
        await HttpLoad(port, "/v2/repository/index", [b"{}"], plan).run()


async def _measure(subject: Subject, port: int, options: Options) -> tuple[Measurement, Measurement]:
    plan = Plan(CLASSIFY, 1, options.concurrency, options.concurrency, 0, options.seconds, min(1.0, options.seconds))
    over_grpc = await GrpcLoad(subject.target.server, subject.requests, plan, lambda *_: None).run()
    over_http = await HttpLoad(port, f"/v1/models/{subject.model}:classify", subject.encoded, plan).run()
    return over_grpc, over_http


def _describe(found: Measurement, name: str) -> str:
    errors = f", errors {dict(found.errors)}" if found.errors else ""
    latencies = ", ".join(
        f"p{share:.0%}"[:-1] + f" {found.percentile_us(share) / 1000:.2f} ms" for share in (0.5, 0.99)
    )
    return f"{name} {found.images_per_s:,.0f} images/s, {latencies}{errors}"


def _summarize(options: Options, found: Sequence[tuple[Measurement, Measurement]]) -> dict[str, object]:
    def median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 4)

    return {
        "model": options.model,
        "cores": count_usable_cores(),
        "workers": options.workers,
        "concurrency": options.concurrency,
        "rounds": options.rounds,
        "grpc_images_per_s": median([grpc.images_per_s for grpc, _ in found]),
        "http_images_per_s": median([http.images_per_s for _, http in found]),
        "http_over_grpc": median([http.images_per_s / grpc.images_per_s for grpc, http in found]),
        "grpc_p50_ms": median([grpc.percentile_us(0.5) / 1000 for grpc, _ in found]),
        "http_p50_ms": median([http.percentile_us(0.5) / 1000 for _, http in found]),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve.bench.peers.http_door", description="Measure the HTTP door beside gRPC, in turn."
    )
    parser.add_argument("--models", type=Path, default=Path("models"), help="serve this folder (default: models)")
    parser.add_argument("--model", default="mnist-cnn", help="ask this model (default: mnist-cnn)")
    parser.add_argument("--workers", type=int, default=0, help="serve with this many workers (default: one per core)")
    parser.add_argument("--concurrency", type=int, default=16, help="keep this many calls in flight (default: 16)")
    parser.add_argument("--seconds", type=float, default=5, help="load for this many seconds a round (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="measure this many rounds (default: 3)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
