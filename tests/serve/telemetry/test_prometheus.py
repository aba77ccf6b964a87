"""`/metrics` in a real Prometheus (Debian's package of that name): its sums are what the load generators counted."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.bench.generators.grpc_aio import GrpcLoad
from serve.bench.load import Measurement, Plan
from serve.bench.workload import BATCH_CLASSIFY, CLASSIFY
from serve.pb import classifier_pb2 as pb
from serve.telemetry.metrics import METRICS
from tests.serve.telemetry.running import Running, find, find_free_port, running
from tests.support import ROOT, Png

PROGRAM = shutil.which("prometheus")
CONFIG = ROOT / "deploy/prometheus/prometheus.yaml"
LOAD_S = 60
SCRAPE_S = 2
"""Seconds between two scrapes, and seconds that one may take."""
BATCH = 5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="needs prometheus, Debian's package of that name"),
]


class Prometheus:
    """A Prometheus on a free port, with the configuration that ships, which scrapes one server more often."""

    def __init__(self, folder: Path, target_port: int) -> None:
        config = yaml.safe_load(CONFIG.read_text())
        config["global"]["scrape_interval"] = config["global"]["evaluation_interval"] = f"{SCRAPE_S}s"
        config["rule_files"] = [str(CONFIG.parent / name) for name in config["rule_files"]]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{target_port}"]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self._address = f"127.0.0.1:{find_free_port()}"
        command = [
            PROGRAM or "",
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
        ]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*command, f"--web.listen-address={self._address}"], stderr=log)

    def ask(self, path: str, **parameters: str) -> Any:
        """What its HTTP API answers."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as reply:
            return json.load(reply)["data"]

    def query(self, text: str) -> dict[tuple[str, ...], float]:
        """The values of a query now that are not 0, by the values of their labels in the order of the labels' names."""
        found = self.ask("query", query=text)["result"]
        values = {
            tuple(label for _, label in sorted(each["metric"].items())): float(each["value"][1]) for each in found
        }
        return {labels: value for labels, value in values.items() if value}

    def wait_for(self, text: str, wanted: dict[tuple[str, ...], float], within_s: float) -> None:
        """Until a query has these values."""
        ends_s = time.monotonic() + within_s
        found: object = None
        while found != wanted and time.monotonic() < ends_s:
            time.sleep(SCRAPE_S / 4)
            with contextlib.suppress(OSError):  # it does not listen yet
                found = self.query(text)
        assert found == wanted, self.log.read_text()

    def stop(self) -> None:
        """End it, and wait."""
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def server(repository_folder: Path) -> Iterator[Running]:
    """A server of two workers."""
    with running(repository_folder, "--workers", "2") as server:
        assert server.address
        yield server


@pytest.fixture
def prometheus(server: Running, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that has scraped the server."""
    started = Prometheus(tmp_path, server.http_port)
    try:
        started.wait_for("up", {("up", f"127.0.0.1:{server.http_port}", "inkling"): 1}, 30)
        yield started
    finally:
        started.stop()


def load(server: Running, png: Png) -> dict[str, Measurement]:
    """Calls of two methods at set rates: one in four of Classify has no image. What they came to, by method."""
    image = png(1)
    requests = [pb.ClassifyRequest(model="bands", image=each) for each in (image, image, b"no image", image)]
    batch = pb.BatchClassifyRequest(model="grey-bands", images=[image] * BATCH)
    single_plan = Plan(CLASSIFY, 1, 0, 8, rate=150, seconds=LOAD_S, warm_up_s=0)
    batch_plan = Plan(BATCH_CLASSIFY, BATCH, 0, 4, rate=15, seconds=LOAD_S, warm_up_s=0)

    async def scrape(measuring: list[asyncio.Task[Measurement]]) -> None:
        """As another collector does, by the parser of prometheus_client; no sum falls."""
        last = 0.0
        while not all(task.done() for task in measuring):
            calls = find(await asyncio.to_thread(server.scrape), "inkling_requests_total")
            assert calls >= last
            last = calls
            await asyncio.sleep(SCRAPE_S)

    async def main() -> dict[str, Measurement]:
        loads = {
            "Classify": GrpcLoad(server.address, [each.SerializeToString() for each in requests], single_plan, ignore),
            "BatchClassify": GrpcLoad(server.address, [batch.SerializeToString()], batch_plan, ignore),
        }
        measuring = [asyncio.create_task(each.run()) for each in loads.values()]
        await scrape(measuring)
        return dict(zip(loads, await asyncio.gather(*measuring), strict=True))

    return asyncio.run(main())


def ignore(*_: object) -> None:
    """Take a report of progress."""


def test_the_sums_in_prometheus_are_what_the_load_counted(server: Running, prometheus: Prometheus, png: Png) -> None:
    found = load(server, png)
    single, batch = found["Classify"], found["BatchClassify"]
    assert single.calls == 150 * LOAD_S
    assert single.errors == Counter(INVALID_ARGUMENT=150 * LOAD_S // 4)
    assert (batch.good_calls, batch.errors) == (15 * LOAD_S, Counter())
    prometheus.wait_for(
        "sum by (method, model, code) (inkling_requests_total)",
        {
            ("OK", "Classify", "bands"): single.good_calls,
            ("INVALID_ARGUMENT", "Classify", "bands"): single.errors.total(),
            ("OK", "BatchClassify", "grey-bands"): batch.good_calls,
        },
        within_s=10,
    )
    calls = {("Classify", "bands"): single.calls, ("BatchClassify", "grey-bands"): batch.calls}
    assert prometheus.query("sum by (method, model) (inkling_request_duration_seconds_count)") == calls
    images = {("bands",): single.good_calls, ("grey-bands",): BATCH * batch.good_calls}
    for metric in ("inkling_batch_images_sum", "inkling_queue_duration_seconds_count"):
        assert prometheus.query(f"sum by (model) ({metric})") == images
    # Nearly every scrape was answered in time, on a busy machine, too; and no series has fallen.
    assert prometheus.query("sum(avg_over_time(up[10m]))")[()] >= 0.9
    assert prometheus.query("sum(count_over_time(up[10m]))")[()] >= 0.8 * LOAD_S / SCRAPE_S
    for metric in METRICS.values():
        for name in (f"{metric.name}_bucket", f"{metric.name}_sum") if metric.kind == "histogram" else (metric.name,):
            assert metric.kind == "gauge" or prometheus.query(f"sum(resets({name}[10m]))") == {}
    (target,) = prometheus.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    (group,) = prometheus.ask("rules")["groups"]
    assert {rule["name"]: rule["health"] for rule in group["rules"] if rule["health"] != "ok"} == {}
