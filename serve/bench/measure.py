"""One server under one load, round after round, in turn with the cost of its parts.

Enters: a server, a model's name, the settings of the command. Leaves: a row of figures, the medians of the rounds.
Does not know: how the rows are shown.
"""

import argparse
import asyncio
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serve.bench import ceiling
from serve.bench.h2load import run_h2load, run_h2load_beside
from serve.bench.load import GrpcLoad, Measurement, Plan, look_at_reply, percentile
from serve.bench.peers.triton import METHOD, make_peer_requests, start_peer
from serve.bench.probe import Probe
from serve.bench.target import Target, measure_stolen_s, measure_use
from serve.bench.workload import make_images, make_requests
from serve.client.client import Client
from serve.errors import ConfigError
from serve.images.pixels import Pixels, to_png
from serve.machine.cores import count_usable_cores
from serve.machine.event_loop import new_event_loop
from serve.model_file.folder import find_model_files
from serve.pb import classifier_pb2 as pb

CLASSIFY = "/inkling.v1.ClassifierService/Classify"
BATCH_CLASSIFY = "/inkling.v1.ClassifierService/BatchClassify"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
PARTS = ("run_us", "decode_us", "call_us", "generator_us")
REST_S = 4.0
"""Before and after an open loop, until memory is looked at: a server gives back what it took once it is quiet."""


def load(target: str, requests: Sequence[bytes], plan: Plan, generator: str) -> Measurement:
    """Put load on an address by the generator asked for, showing progress."""
    if generator == "h2load":
        if plan.rate:
            return run_h2load_beside(Probe(target, plan.method, requests[0]), target, requests[0], plan)
        return run_h2load(target, requests[0], plan)

    async def run() -> Measurement:
        return await GrpcLoad(target, requests, plan, _show_progress).run()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(run())


def _show_progress(elapsed_s: float, images: int) -> None:
    print(f"\r  {elapsed_s:4.0f} s {images / elapsed_s:10,.0f} images/s ", end="", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model on a server, and what it is asked."""

    target: Target
    model: str
    images: list[Pixels]
    encoded: list[bytes]
    requests: list[bytes]


def make_subject(target: Target, model: str, batch: int) -> Subject:
    """Images of the model's shape, and a look at an answer before any are counted. Raises CallError or ConfigError."""
    with Client(target.address) as client:
        height, width, channels = client.get_model(model).input_shape
    images = make_images((height, width, channels))
    encoded = [to_png(pixels) for pixels in images]
    requests = make_requests(model, encoded, batch)
    check_answer(target.address, requests[0], batch)
    return Subject(target, model, images, encoded, requests)


def check_answer(address: str, request: bytes, batch: int) -> None:
    """Send one of the requests that a load will send. Raises ConfigError where it, or an image of it, is refused."""
    reply = look_at_reply(address, BATCH_CLASSIFY if batch else CLASSIFY, request)
    for result in pb.BatchClassifyResponse.FromString(reply).results if batch else ():
        if result.HasField("error"):
            raise ConfigError(f"{BATCH_CLASSIFY}: wanted an answer for each image, got {result.error.message}")


def measure(subject: Subject, options: argparse.Namespace) -> dict[str, Any]:
    """Server and ceiling in turn, `--rounds` times; the medians of what they give."""
    plan = make_plan(options)
    rounds = [_measure_round(subject, plan, options) for _ in range(options.rounds)]
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    row: dict[str, Any] = {"model": subject.model, "images_per_call": plan.images_per_call}
    row |= _medians(rounds)
    row["errors"] = dict(sum((each["errors"] for each in rounds), Counter()))
    return row


def _measure_round(subject: Subject, plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    row = {}
    if options.overload:
        row["capacity_per_s"] = measure_server(subject, plan, options.generator)["images_per_s"]
        if not row["capacity_per_s"]:
            raise ConfigError("--overload: wanted some answers in a closed loop, got none")
        plan = replace(plan, rate=options.overload * row["capacity_per_s"] / plan.images_per_call)
    row |= measure_server(subject, plan, options.generator)
    if options.peer:
        row["peer_per_s"] = measure_peer(subject, plan, options)
        row["over_peer"] = row["images_per_s"] / row["peer_per_s"]
    row |= measure_costs(subject, replace(plan, rate=0), options.models, options.generator)
    # What refused calls cost is lost to the good ones, and is no fault of the server's.
    cores = count_usable_cores() - row["refusals_per_s"] * row["call_us"] * plan.images_per_call / 1e6
    row["ceiling_per_s"] = cores * 1e6 / sum(row[part] for part in PARTS)
    row["fraction"] = row["images_per_s"] / row["ceiling_per_s"]
    busy_us = row["busy_run_us"] + row["busy_decode_us"]
    row["busy_fraction"] = row["images_per_s"] / (cores * 1e6 / (busy_us + row["call_us"] + row["generator_us"]))
    row["of_decode_and_run"] = row["images_per_s"] / (cores * 1e6 / busy_us)
    given = cores - row["stolen_cores"]
    row["given_fraction"] = row["fraction"] * cores / given
    row["over_floor"] = row["p50_ms"] / row["floor_ms"]
    return row


def measure_server(subject: Subject, plan: Plan, generator: str) -> dict[str, Any]:
    """One round of load."""
    pid = subject.target.pid
    time.sleep(REST_S if plan.rate else 0)
    before, stolen_s, start_s = measure_use(pid) if pid else None, measure_stolen_s(), time.perf_counter()
    with Probe(subject.target.address, HEALTH_CHECK, b"") as health:
        found = load(subject.target.address, subject.requests, plan, generator)
    elapsed_s = time.perf_counter() - start_s
    row: dict[str, Any] = {"images_per_s": found.images_per_s, "errors": found.errors}
    row["stolen_cores"] = (measure_stolen_s() - stolen_s) / elapsed_s
    row |= {f"p{share}_ms": found.percentile_us(float(share) / 100) / 1000 for share in ("50", "90", "99", "99.9")}
    row |= {"refusals_per_s": found.errors.total() / found.elapsed_s, "health_p99_ms": percentile(health.good_ms, 0.99)}
    row["refusal_p99_ms"] = percentile(found.error_latencies_us, 0.99) / 1000
    row["health_waits_for_cores"] = float(health.waits_for_cores)
    if pid and before:
        after = measure_use(pid)
        row |= {"cpu": (after.cpu_s - before.cpu_s) / elapsed_s}
        row |= {"pss_mib": after.pss_mib, "pss_growth_at_once": after.pss_mib / before.pss_mib}
        time.sleep(REST_S if plan.rate else 0)
        row["pss_growth"] = measure_use(pid).pss_mib / before.pss_mib
    return row


def measure_peer(subject: Subject, plan: Plan, options: argparse.Namespace) -> float:
    """Images a second of a Triton with the same file under the same load."""
    with start_peer(
        options.peer, find_file(options.models, subject.model, options.precision), subject.model
    ) as address:
        requests = make_peer_requests(address, subject.model, subject.encoded)
        return load(address, requests, replace(plan, method=METHOD), options.generator).images_per_s


def find_file(models: Path, model: str, precision: str) -> Path:
    """The file that a server would take: the highest version, in a precision where it has it. Raises ConfigError."""
    files = [file for file in find_model_files(models, precision) if file.name == model]
    if not files:
        raise ConfigError(
            f"--models: wanted the file of {model} under {models}, which the ceiling is that of; found none"
        )
    return max(files, key=lambda file: file.version).path


def measure_costs(subject: Subject, plan: Plan, models: Path, generator: str) -> dict[str, float]:
    """The cost of the parts in core-microseconds an image, and what a lone call takes at the least."""
    file = find_file(models, subject.model, "float32")
    request = bytes(len(subject.encoded[0]) * plan.images_per_call)
    call = ceiling.measure_call(lambda address: load(address, [request], plan, generator))
    decode_us = ceiling.measure_decode_us(subject.encoded)
    run_alone_us = ceiling.measure_run_us(file, subject.images, plan.images_per_call)
    with ceiling.all_cores() as on_all_cores:
        on_all_cores(ceiling.measure_decode_us, subject.encoded)  # the processes are slow to start
        busy_decode_us = on_all_cores(ceiling.measure_decode_us, subject.encoded)
        busy_run_us = on_all_cores(ceiling.measure_run_us, file, subject.images)
    return {
        "run_us": ceiling.measure_run_us(file, subject.images),
        "decode_us": decode_us,
        "busy_run_us": busy_run_us,
        "busy_decode_us": busy_decode_us,
        "call_us": call.server_us / plan.images_per_call,
        "generator_us": call.generator_us / plan.images_per_call,
        "floor_ms": (call.p50_us + (decode_us + run_alone_us) * plan.images_per_call) / 1000,
    }


def measure_beside(subject: Subject, options: argparse.Namespace) -> dict[str, Any]:
    """What a lone caller sees beside one that sends batches back to back, and beside as many single calls."""
    plan = replace(make_plan(options), method=CLASSIFY, images_per_call=1, connections=1)
    batches = replace(plan, method=BATCH_CLASSIFY, images_per_call=options.beside, concurrency=1)
    singles = replace(plan, concurrency=options.beside)
    check_answer(
        subject.target.address, make_requests(subject.model, subject.encoded, options.beside)[0], options.beside
    )
    rounds, errors = [], Counter[str]()
    for _ in range(options.rounds):
        row: dict[str, Any] = {}
        for name, neighbour, batch in (("batches", batches, options.beside), ("singles", singles, 0)):
            requests = make_requests(subject.model, subject.encoded, batch)
            with Probe(subject.target.address, CLASSIFY, subject.requests[0]) as caller:
                found = load(subject.target.address, requests, neighbour, options.generator)
            errors += found.errors + caller.failures
            row |= {f"{name}_per_s": found.images_per_s, f"p99_ms_beside_{name}": percentile(caller.good_ms, 0.99)}
        rounds.append(row | {"ratio": row["p99_ms_beside_batches"] / row["p99_ms_beside_singles"]})
    return {"model": subject.model, **_medians(rounds), "errors": dict(errors)}


def _medians(rounds: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of each figure, over the rounds that have it; NaN where none has."""
    found = {key: [each[key] for each in rounds if not math.isnan(each[key])] for key in rounds[0] if key != "errors"}
    return {key: round(statistics.median(values), 4) if values else math.nan for key, values in found.items()}


def make_plan(options: argparse.Namespace) -> Plan:
    """The load that the command's settings ask for."""
    return Plan(
        method=BATCH_CLASSIFY if options.batch else CLASSIFY,
        images_per_call=options.batch or 1,
        concurrency=options.concurrency,
        connections=min(options.connections, options.concurrency),
        rate=options.rate,
        seconds=options.seconds,
        warm_up_s=options.warm_up,
    )
