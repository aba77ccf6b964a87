"""serve.api.open_inference: tritonclient and perf_analyzer, each in an environment and a process of its own.

INKLING_TRITON_PYTHON names a Python that has `tritonclient[grpc]`, INKLING_PERF_ANALYZER the program of that name.
Without them these tests skip.
"""

import ast
import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.client.client import Client
from serve.images.pixels import to_png
from tests.serve.api.malformed import MALFORMED
from tests.served import served
from tests.support import LABELS, ROOT, Png, RunningServer, draw_images

PYTHON = os.environ.get("INKLING_TRITON_PYTHON", "")
ANALYZER = os.environ.get("INKLING_PERF_ANALYZER", "")
SCRIPT = Path(__file__).with_name("triton_checks.py")
CONTROL = "control"
"""The check that needs a server whose models clients may change."""
CHECKS = [
    node.name.removeprefix("check_")
    for node in ast.parse(SCRIPT.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_") and node.name != f"check_{CONTROL}"
]


@pytest.fixture(scope="module")
def given(server: RunningServer, client: Client, png: Png, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script gets: it cannot import anything of ours."""
    files, pixels = [png(2), png(0, (90, 60), "L"), png(1, (900, 900)), png(1, (40, 50), "RGB", "JPEG")], draw_images(5)

    def ask(images: list[bytes]) -> list[list[float]]:
        answers = [client.classify(image, model="bands").classes for image in images]
        return [[each.probability for each in sorted(answer, key=lambda each: each.index)] for answer in answers]

    facts = {
        "address": server.address,
        "files": [base64.b64encode(file).decode() for file in files],
        "expected": ask(files),
        "pixels": pixels.tolist(),
        "expected_of_pixels": ask([to_png(each) for each in pixels]),
        "labels": LABELS["en"],
        "malformed": [
            {
                "name": each.name,
                "request": each.request.SerializeToString().hex(),
                "code": each.code,
                "sentence": each.sentence,
            }
            for each in MALFORMED
        ],
    }
    path = tmp_path_factory.mktemp("triton") / "given.json"
    path.write_text(json.dumps(facts))
    return path


def test_the_script_has_a_check_for_each_way_to_call() -> None:
    assert {"infer", "typed", "classification", "async", "stream", "aio", "repository", "malformed"} <= set(CHECKS)


@pytest.mark.skipif(not PYTHON, reason="needs INKLING_TRITON_PYTHON, a Python that has tritonclient[grpc]")
@pytest.mark.parametrize("check", CHECKS)
def test_tritonclient_gets_what_it_expects(given: Path, check: str) -> None:
    run_check(check, given)


@pytest.mark.skipif(not PYTHON, reason="needs INKLING_TRITON_PYTHON, a Python that has tritonclient[grpc]")
def test_tritonclient_loads_and_unloads(given: Path, repository_folder: Path, tmp_path: Path) -> None:
    with served(repository_folder, "--model-control", "explicit", "--version-policy", "all") as server:
        facts = json.loads(given.read_text()) | {"address": server.address}
        (tmp_path / "given.json").write_text(json.dumps(facts))
        run_check(CONTROL, tmp_path / "given.json")


def run_check(check: str, given: Path) -> None:
    """Run one check of the script."""
    command = [PYTHON, str(SCRIPT), check, str(given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, f"{check} is right\n"), done.stderr


@pytest.mark.skipif(not shutil.which(ANALYZER), reason="needs INKLING_PERF_ANALYZER, the program of tritonclient 2.42")
@pytest.mark.parametrize("concurrency", [1, 64])
@pytest.mark.parametrize("flags", [[], ["-a"], ["--streaming", "-a"]], ids=["sync", "async", "streaming"])
def test_perf_analyzer_runs_and_reports_what_the_server_counted(
    start_server: Callable[..., RunningServer], concurrency: int, flags: list[str]
) -> None:
    """It asks for metadata, configuration and statistics, and sends random tensors."""
    address = start_server(ROOT / "models").address
    command = [ANALYZER, "-m", "mnist-cnn", "-i", "grpc", "-u", address, "--concurrency-range", str(concurrency)]
    command += ["--measurement-interval", "1000", "--stability-percentage", "999", "--max-trials", "10", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(rf"Concurrency: {concurrency}, throughput: ([\d.]+) infer/sec", done.stdout)
    counted = re.search(r"Inference count: (\d+)", done.stdout)
    assert found, done.stdout
    assert counted, done.stdout
    assert float(found[1]) > 0
    assert int(counted[1]) > 0
