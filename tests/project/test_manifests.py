"""deploy/: manifests for Compose, Kubernetes and KServe, against their schemas and against our own flags and ports.

kubernetes-validate has Kubernetes' schemas inside. docker-compose (Debian's package) has that of Compose, and runs
without an engine. Kinds of KServe, KEDA and Prometheus' operator have no schema here.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from serve.config import ServerConfig, read_config
from tests.project.test_deploy import find_problems
from tests.support import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes"
VARIANTS = ("cpu", "gpu", "models-image", "models-volume", "keda")
VERSION = "1.33"
"""The first version of Kubernetes that has image volumes in beta."""
FOREIGN = ("keda.sh", "monitoring.coreos.com", "serving.kserve.io")
PORTS = {"grpc": 50051, "h2c": 50051, "metrics": 9464, "http1": 8080}


WORKERS, PROCESSES_MIB = 2, 700
"""Of a pod of two cores, and what its processes take beside the images: the supervisor, the workers, the page."""


def read(path: Path) -> list[dict[str, Any]]:
    """The documents of a file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def merge(base: Any, patch: Any) -> Any:
    """A strategic merge: mappings by key, lists of named things by name. Other values are replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: merge(base.get(key), value) for key, value in patch.items()}
    if isinstance(base, list) and isinstance(patch, list) and all("name" in each for each in [*base, *patch]):
        named = {each["name"]: each for each in base}
        return list((named | {each["name"]: merge(named.get(each["name"]), each) for each in patch}).values())
    return patch


def build(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What `kubectl kustomize` makes of a folder, as far as ours use it: resources, patches and images."""
    (kustomization,) = read(folder / "kustomization.yaml")
    made: dict[tuple[str, str], dict[str, Any]] = {}
    for resource in kustomization["resources"]:
        path = folder / resource
        parts = build(path) if path.is_dir() else {(e["kind"], e["metadata"]["name"]): e for e in read(path)}
        assert not made.keys() & parts.keys()
        made |= parts
    for each in kustomization.get("patches", []):
        patch = yaml.safe_load(each["patch"]) if "patch" in each else read(folder / each["path"])[0]
        key = patch["kind"], patch["metadata"]["name"]
        assert key in made, f"a patch of {key}, which there is not"
        if patch.get("$patch") == "delete":
            del made[key]
        else:
            made[key] = merge(made[key], patch)
    for image in kustomization.get("images", []):
        for container in list_containers(made.values()):
            if container["image"].partition(":")[0] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    return made


def list_containers(documents: Any) -> Iterator[dict[str, Any]]:
    """The containers of deployments and of KServe's runtime."""
    for document in documents:
        spec = document.get("spec", {})
        yield from spec.get("template", {}).get("spec", {}).get("containers", spec.get("containers", []))


def check_container(container: dict[str, Any]) -> ServerConfig:
    """Its settings, once its ports and probes have been held against them."""
    settings = read_config(container["args"], {each["name"]: each["value"] for each in container.get("env", [])})
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {name: PORTS[name] for name in ports}
    assert settings.port == PORTS["grpc"]
    assert settings.metrics_port == PORTS["metrics"]
    for kind, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        if kind == "startupProbe" and kind not in container:
            continue
        probe = container[kind]["httpGet"]
        assert probe["path"] == path
        assert ports.get(probe["port"], probe["port"]) == settings.metrics_port
    hardened = container["securityContext"]
    assert hardened["readOnlyRootFilesystem"]
    assert not hardened["allowPrivilegeEscalation"]
    assert hardened["capabilities"] == {"drop": ["ALL"]}
    return settings


def bound_memory_mib(settings: ServerConfig) -> float:
    """What two workers with the shipped models take at most, by docs/serving/limits.md."""
    decoded = 12 * max(settings.max_pending_pixels, 2 * settings.max_image_pixels)
    files = settings.max_pending_bytes * len(list((ROOT / "models").iterdir()))
    return PROCESSES_MIB + WORKERS * (decoded + files + 16 * settings.max_message_bytes) / 2**20


@pytest.mark.parametrize("file", ["kubernetes/base/deployment.yaml", "kserve/runtime.yaml"])
def test_the_images_of_strangers_fit_into_a_pods_memory(file: str) -> None:
    (container,) = list_containers(read(DEPLOY / file))
    assert container["resources"]["limits"] == {"cpu": str(WORKERS), "memory": "3Gi"}
    assert bound_memory_mib(read_config(container["args"], {})) < 3 * 1024


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_valid_and_fits_the_servers_flags_and_ports(variant: str) -> None:
    made = build(KUBERNETES / variant)
    for document in made.values():
        if not document["apiVersion"].startswith(FOREIGN):
            kubernetes_validate.validate(document, VERSION, strict=True)
    deployment = made["Deployment", "inkling"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = check_container(container)
    assert container["image"] == ("inkling:gpu" if variant == "gpu" else "inkling:cpu")
    assert settings.device == ("cuda" if variant == "gpu" else "auto")
    assert pod["terminationGracePeriodSeconds"] > settings.lame_duck_s + settings.grace_s
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert made["Service", "inkling"]["spec"]["selector"] == labels
    assert made["PodDisruptionBudget", "inkling"]["spec"]["selector"]["matchLabels"] == labels
    assert (("HorizontalPodAutoscaler", "inkling") in made) != (variant in ("gpu", "keda"))
    mounted = {each["name"]: each["mountPath"] for each in container.get("volumeMounts", [])}
    assert mounted.keys() == {each["name"] for each in pod.get("volumes", [])}
    if mounted:
        assert str(settings.models).startswith(mounted["models"])


def test_a_field_that_kubernetes_does_not_have_is_found() -> None:
    document = build(KUBERNETES / "cpu")["Deployment", "inkling"]
    document["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_keda_scales_on_a_metric_that_exists_and_the_monitor_on_a_port_that_does() -> None:
    made = build(KUBERNETES / "keda")
    (trigger,) = made["ScaledObject", "inkling"]["spec"]["triggers"]
    assert not find_problems(trigger["metadata"]["query"])
    assert made["ScaledObject", "inkling"]["spec"]["scaleTargetRef"]["name"] == "inkling"
    (endpoint,) = made["ServiceMonitor", "inkling"]["spec"]["endpoints"]
    service = made["Service", "inkling"]
    assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
    assert made["ServiceMonitor", "inkling"]["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]


def test_kserves_runtime_fits_the_servers_flags_and_ports_and_its_service() -> None:
    (runtime,) = read(DEPLOY / "kserve/runtime.yaml")
    (service,) = read(DEPLOY / "kserve/inference-service.yaml")
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    settings = check_container(container)
    assert str(settings.models) == "/mnt/models"
    assert (settings.web_port, settings.web_host) == (PORTS["http1"], "0.0.0.0")  # noqa: S104  # in a container
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in {each["name"] for each in runtime["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_the_compose_file_fits_its_schema() -> None:
    tool = shutil.which("docker-compose")
    if not tool:
        pytest.skip("docker-compose is not installed; Debian has it in the package docker-compose")
    done = subprocess.run([tool, "--file", COMPOSE, "config", "-q"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_compose_files_services_fit_the_servers_flags_and_ports() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    settings = read_config(services["server"]["command"], {})
    assert services["server"]["deploy"]["resources"]["limits"] == {"cpus": str(WORKERS), "memory": "3G"}
    assert bound_memory_mib(settings) < 3 * 1024
    stop_s = int(services["server"]["stop_grace_period"].removesuffix("s"))
    assert stop_s > settings.lame_duck_s + settings.grace_s
    for service in services.values():
        for volume in service.get("volumes", []):
            assert (DEPLOY / volume.partition(":")[0]).exists(), volume
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    haproxy = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    assert f"server:{settings.port}" in haproxy
    assert f"port {settings.metrics_port} " in haproxy
    (job,) = yaml.safe_load((DEPLOY / "prometheus/compose.yaml").read_text())["scrape_configs"]
    assert job["dns_sd_configs"][0]["port"] == settings.metrics_port


def test_haproxy_takes_its_configuration() -> None:
    tool = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if not tool:
        pytest.skip("haproxy is not installed; Debian has it in the package haproxy")
    done = subprocess.run(
        [tool, "-c", "-f", DEPLOY / "haproxy/haproxy.cfg"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
