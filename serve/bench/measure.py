"""A server under load, round after round, in turn with the costs of its parts and with a peer.

Enters: a server, a model's name, the options of the command. Leaves: a row of figures for each round.
Does not know: how the rows are summarized and printed.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serve.bench.ceiling import measure_costs
from serve.bench.generators.grpc_aio import GrpcLoad
from serve.bench.generators.h2load import run_h2load, run_h2load_beside
from serve.bench.load import Measurement, Plan, percentile
from serve.bench.options import Options
from serve.bench.peers.triton import METHOD, make_peer_requests, start_peer
from serve.bench.probe import Probe
from serve.bench.report import BesideRow, Comparison, Costs, LoadRow, ServerFigures
from serve.bench.target import measure_stolen_s, measure_use
from serve.bench.workload import BATCH_CLASSIFY, CLASSIFY, Subject, check_answer, make_requests
from serve.client.endpoint import Endpoint
from serve.errors import ConfigError
from serve.machine.cores import count_usable_cores
from serve.machine.event_loop import new_event_loop
from serve.model_file.scan import find_model_files

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
REST_S = 4.0
"""Seconds without load before memory is read in an open loop: the server returns free memory when it is idle."""


def measure_round(subject: Subject, options: Options) -> LoadRow:
    """Load and costs in turn. Raises ConfigError."""
    plan, capacity_per_s = options.make_plan(), None
    if options.overload:
        capacity_per_s = measure_server(subject, plan, options.generator).images_per_s
        if not capacity_per_s:
            raise ConfigError("--overload: wanted some answers in a closed loop, got none")
        plan = replace(plan, rate=options.overload * capacity_per_s / plan.images_per_call)
    server = measure_server(subject, plan, options.generator)
    peer_per_s = measure_peer(subject, plan, options) if options.peer else None
    closed = replace(plan, rate=0)
    costs = measure_costs(
        find_file(options.models, subject.model, "float32"),
        subject.images,
        subject.encoded,
        plan.images_per_call,
        lambda address: load(
            address, [bytes(len(subject.encoded[0]) * plan.images_per_call)], closed, options.generator
        ),
    )
    comparison = compare(server, costs, plan.images_per_call, capacity_per_s, peer_per_s)
    return LoadRow(subject.model, plan.images_per_call, server, costs, comparison)


def compare(
    server: ServerFigures, costs: Costs, per_call: int, capacity_per_s: float | None, peer_per_s: float | None
) -> Comparison:
    """Put one round's figures beside the ceiling and the peer."""
    # The cost of rejected calls is lost to the others, and the server cannot avoid it.
    cores = count_usable_cores() - server.refusals_per_s * costs.call_us * per_call / 1e6
    call_us, busy_us = costs.call_us + costs.generator_us, costs.busy_run_us + costs.busy_decode_us
    ceiling_per_s = cores * 1e6 / (costs.run_us + costs.decode_us + call_us)
    return Comparison(
        ceiling_per_s=ceiling_per_s,
        fraction=server.images_per_s / ceiling_per_s,
        busy_fraction=server.images_per_s / (cores * 1e6 / (busy_us + call_us)),
        of_decode_and_run=server.images_per_s / (cores * 1e6 / busy_us),
        given_fraction=server.images_per_s / ceiling_per_s * cores / (cores - server.stolen_cores),
        over_floor=server.p50_ms / costs.floor_ms,
        capacity_per_s=capacity_per_s,
        peer_per_s=peer_per_s,
        over_peer=None if peer_per_s is None else server.images_per_s / peer_per_s,
    )


def measure_server(subject: Subject, plan: Plan, generator: str) -> ServerFigures:
    """One round of load, with a health probe beside it."""
    pid = subject.target.pid
    time.sleep(REST_S if plan.rate else 0)
    before, stolen_s, start_s = measure_use(pid) if pid else None, measure_stolen_s(), time.perf_counter()
    with Probe(subject.target.server, HEALTH_CHECK, b"") as health:
        found = load(subject.target.server, subject.requests, plan, generator)
    elapsed_s = time.perf_counter() - start_s
    stolen_cores = (measure_stolen_s() - stolen_s) / elapsed_s
    after = measure_use(pid) if pid else None
    time.sleep(REST_S if plan.rate and pid else 0)
    rested = measure_use(pid) if pid else None
    return ServerFigures(
        images_per_s=found.images_per_s,
        p50_ms=found.percentile_us(0.5) / 1000,
        p90_ms=found.percentile_us(0.9) / 1000,
        p99_ms=found.percentile_us(0.99) / 1000,
        p99_9_ms=found.percentile_us(0.999) / 1000,
        refusals_per_s=found.errors.total() / found.elapsed_s,
        refusal_p99_ms=percentile(found.error_latencies_us, 0.99) / 1000,
        health_p99_ms=percentile(health.good_ms, 0.99),
        health_waits_for_cores=float(health.waits_for_cores),
        stolen_cores=stolen_cores,
        cpu=(after.cpu_s - before.cpu_s) / elapsed_s if before and after else None,
        pss_mib=after.pss_mib if after else None,
        pss_growth_at_once=after.pss_mib / before.pss_mib if before and after else None,
        pss_growth=rested.pss_mib / before.pss_mib if before and rested else None,
        errors=found.errors,
    )


def measure_peer(subject: Subject, plan: Plan, options: Options) -> float:
    """Images a second of a Triton with the same file under the same load."""
    file = find_file(options.models, subject.model, options.precision)
    with start_peer(options.peer, file, subject.model) as address:
        requests = make_peer_requests(address, subject.model, subject.encoded)
        return load(address, requests, replace(plan, method=METHOD), options.generator).images_per_s


def measure_beside_round(subject: Subject, options: Options) -> BesideRow:
    """A probe beside batches, and beside as many images in single requests. Raises ConfigError."""
    requests = make_requests(subject.model, subject.encoded, options.beside)
    check_answer(subject.target.server, requests[0], options.beside)
    single = replace(options.make_plan(), method=CLASSIFY, images_per_call=1, connections=1, concurrency=options.beside)
    batch = replace(single, method=BATCH_CLASSIFY, images_per_call=options.beside, concurrency=1)
    batches_per_s, batches_p99_ms, batch_errors = _measure_probe(subject, requests, batch, options)
    singles_per_s, singles_p99_ms, single_errors = _measure_probe(subject, subject.requests, single, options)
    return BesideRow(
        subject.model,
        batches_per_s=batches_per_s,
        p99_ms_beside_batches=batches_p99_ms,
        singles_per_s=singles_per_s,
        p99_ms_beside_singles=singles_p99_ms,
        ratio=batches_p99_ms / singles_p99_ms,
        errors=batch_errors + single_errors,
    )


def _measure_probe(
    subject: Subject, requests: Sequence[bytes], plan: Plan, options: Options
) -> tuple[float, float, Counter[str]]:
    """Images a second of the load, the p99 of the probe beside it in milliseconds, and the errors of both."""
    with Probe(subject.target.server, CLASSIFY, subject.requests[0]) as probe:
        found = load(subject.target.server, requests, plan, options.generator)
    return found.images_per_s, percentile(probe.good_ms, 0.99), found.errors + probe.failures


def load(server: Endpoint | str, requests: Sequence[bytes], plan: Plan, generator: str) -> Measurement:
    """Load a server with the chosen generator, and print progress."""
    if generator == "h2load":
        if plan.rate:
            return run_h2load_beside(Probe(server, plan.method, requests[0]), server, requests[0], plan)
        return run_h2load(server, requests[0], plan)

    async def run() -> Measurement:
        return await GrpcLoad(server, requests, plan, _print_progress).run()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(run())


def _print_progress(elapsed_s: float, images: int) -> None:
    print(f"\r  {elapsed_s:4.0f} s {images / elapsed_s:10,.0f} images/s ", end="", file=sys.stderr, flush=True)


def find_file(models: Path, model: str, precision: str) -> Path:
    """The file that a server takes: of the highest version, in a precision if it exists. Raises ConfigError."""
    files = [file for file in find_model_files(models, precision) if file.name == model]
    if not files:
        raise ConfigError(f"--models: wanted the file of {model} under {models} to measure the ceiling, found none")
    return max(files, key=lambda file: file.version).path
