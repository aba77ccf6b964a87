"""deploy/: every query of the dashboard and of the alert rules names metrics and labels that the server has.

`promtool` (Debian's package prometheus) also runs the rules against made-up series, `tests/project/alerts.yaml`.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.config import PREFIX, read_config
from serve.telemetry.metrics import METRICS
from tests.serve.telemetry.running import running
from tests.support import ROOT

DASHBOARD = ROOT / "deploy/grafana/inkling.json"
RULES = ROOT / "deploy/prometheus/alerts.yaml"
SCRAPE_CONFIG = ROOT / "deploy/prometheus/prometheus.yaml"
RULES_TEST = ROOT / "tests/project/alerts.yaml"

ADDED = {"job", "instance"}
"""Labels that Prometheus itself adds to every series."""
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?")
MATCHER = re.compile(r'\s*(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"\s*')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
WORDS = {
    *("sum", "rate", "increase", "count", "min", "max", "histogram_quantile", "absent", "time"),
    *("by", "on", "or", "and", "unless", "offset", "label_values"),
}
"""Functions and operators that the queries use."""


def list_series() -> dict[str, set[str]]:
    """Every name that a query may have, with its labels; `up` is Prometheus' own."""
    series: dict[str, set[str]] = {"up": set()}
    for metric in METRICS.values():
        labels = set(metric.labels)
        if metric.kind == "histogram":
            series |= {f"{metric.name}_sum": labels, f"{metric.name}_count": labels}
            series[f"{metric.name}_bucket"] = labels | {"le"}
        else:
            series[metric.name] = labels
    return series


SERIES = list_series()


def read_rules() -> list[dict[str, Any]]:
    """The alert rules."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def list_queries() -> list[str]:
    """Every query of the dashboard's panels and variables, and of the rules."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [each["definition"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    return queries + [rule["expr"] for rule in read_rules()]


def find_problems(query: str) -> list[str]:
    """What a query names that there is not."""
    problems, used = [], set[str]()
    plain = re.sub(r"\[[^\]]*\]", "", query)  # without ranges, which have words of their own
    labels = {label.strip() for found in GROUPING.findall(plain) for label in found.split(",")}
    bare = GROUPING.sub("", plain)
    if call := re.fullmatch(r"label_values\((.*), (\w+)\)", bare):
        bare, labels = call[1], {call[2]}
    for name, matchers in SELECTOR.findall(bare):
        if name in WORDS or re.fullmatch(r"\d*[smhd]", name):
            continue
        if name not in SERIES:
            problems.append(f"no metric {name}")
            continue
        used |= SERIES[name] | ADDED
        problems += [f"{name} has no label {each}" for each in match_labels(matchers) - SERIES[name] - ADDED]
    return problems + [f"no label {label}" for label in labels - used]


def match_labels(matchers: str) -> set[str]:
    """The labels of a selector's braces."""
    assert not MATCHER.sub("", matchers).strip(" ,"), f"not understood: {matchers}"
    return set(MATCHER.findall(matchers))


@pytest.mark.parametrize("query", list_queries())
def test_a_query_names_metrics_and_labels_that_exist(query: str) -> None:
    assert not find_problems(query)


@pytest.mark.parametrize(
    "query",
    [
        "rate(inkling_request_total[5m])",
        'inkling_waiting_images{modell="mnist"}',
        "sum by (reason) (inkling_cancelled_total)",
        "inkling_queue_duration_seconds",
        "label_values(inkling_build_info, model)",
        "sum by (le) (rate(inkling_batch_images_sum[5m]))",
    ],
)
def test_a_query_of_something_else_is_found(query: str) -> None:
    assert find_problems(query)


def test_each_metric_is_on_the_dashboard() -> None:
    text = DASHBOARD.read_text()
    assert [name for name in METRICS if name not in text] == []


def test_panels_and_rules_are_told_apart_and_explained() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    rules = read_rules()
    assert len({rule["alert"] for rule in rules}) == len(rules) == 10
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)


def test_each_rule_has_a_case_in_which_it_fires_and_an_advice() -> None:
    cases = yaml.safe_load(RULES_TEST.read_text())["tests"]
    names = {rule["alert"] for rule in read_rules()}
    fired = {each["alertname"] for case in cases for each in case["alert_rule_test"] if each.get("exp_alerts")}
    quiet = {each["alertname"] for case in cases for each in case["alert_rule_test"] if not each.get("exp_alerts")}
    assert names == fired == quiet
    page = (ROOT / "docs/serving/observability.md").read_text()
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    "arguments",
    [["check", "rules", RULES], ["check", "config", SCRAPE_CONFIG], ["test", "rules", RULES_TEST]],
    ids=["rules", "config", "cases"],
)
def test_promtool_finds_nothing_wrong(arguments: list[object]) -> None:
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed; Debian has it in the package prometheus")
    done = subprocess.run([promtool, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_settings_of_the_image_are_those_of_a_container_behind_a_balancer() -> None:
    """Load spreads over new replicas, and every interface is listened to; a container publishes what it likes."""
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    environment = dict(re.findall(r"(\w+)=(\S+)", block))
    config = read_config([], {name: value for name, value in environment.items() if name.startswith(PREFIX)})
    assert (config.host, config.metrics_host) == ("0.0.0.0", "0.0.0.0")  # noqa: S104
    assert config.max_connection_age_s == 300
    assert config.models == Path("/models")


def test_the_images_health_check_follows_readyz(repository_folder: Path) -> None:
    """The command of the Dockerfile, run beside a server; with a proxy in the environment, which it does not ask."""
    (found,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    python, *arguments = json.loads(found)
    assert python == "python"
    with running(repository_folder, "--workers", "1") as server:
        environment = {"INKLING_SERVE_METRICS_PORT": str(server.http_port), "http_proxy": "http://127.0.0.1:1"}

        def check() -> int:
            return subprocess.run([sys.executable, *arguments], env=environment, check=False, timeout=30).returncode

        assert server.address
        assert check() == 0
        os.kill(server.worker_pids[0], signal.SIGKILL)
        server.wait_for("ended with SIGKILL")
        assert check() == 1
