"""docs/: what is generated is up to date, rows of figures are whole, and the site builds without a network."""

import json
import re
import subprocess
import sys
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import ROOT

RESULTS = ROOT / "docs/benchmarks/results"
HEADLINE = "headline.jsonl"
REMOTE = re.compile(r"<(?:link|script|img|iframe|source)\b[^>]*\b(?:href|src)=\"(?:https?:)?//[^\"]*\"")
IMPORTED = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//")
SERVING = ("serve", "serve.bench", "serve.client", "serve.evaluate", "serve.health")
MODEL_ACTIONS = ("list", "show", "load", "unload")
NOT_RECORDED = "not recorded"


def read_rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.skipif(find_spec("grpc_tools") is None, reason="needs grpcio-tools, of the extra [test]")
def test_the_generated_parts_of_the_pages_are_those_of_the_code() -> None:
    command = [sys.executable, "-m", "docs.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((f"python -m {module}", ["-m", module]) for module in SERVING),
        ("inkling inspect", ["-m", "serve.cli", "inspect"]),
        *((f"inkling models {action}", ["-m", "serve.cli", "models", action]) for action in MODEL_ACTIONS),
    ],
)
def test_every_flag_of_a_serving_command_is_on_the_page_of_commands(name: str, words: list[str]) -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    (section,) = re.findall(rf"^##+ `{re.escape(name)}`\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    done = subprocess.run([sys.executable, *words, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    flags = set(re.findall(r"^ +(--[a-z][a-z0-9-]*)", done.stdout, re.MULTILINE))
    assert flags
    assert flags == set(re.findall(r"^\| `(--[a-z][a-z0-9-]*)", section, re.MULTILINE))


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.jsonl")), ids=lambda file: file.name)
def test_every_row_has_its_date_its_commit_and_its_machine(file: Path) -> None:
    machines = {row["machine"] for row in read_rows(RESULTS / "machines.jsonl")} | {NOT_RECORDED}
    rows = [row for row in read_rows(file) if row.get("date") != "MEASURE"]
    for row in rows if file.name != "machines.jsonl" else ():
        assert row["machine"] in machines
        assert date.fromisoformat(str(row["date"]))
        assert re.fullmatch(r"[0-9a-f]{7,40}", str(row["commit"]))


def test_no_row_waits_for_a_measurement_but_the_headline() -> None:
    waiting = {file.name for file in RESULTS.glob("*.jsonl") if "MEASURE" in file.read_text()}
    assert waiting <= {HEADLINE}


def test_every_file_of_figures_is_on_a_page() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    shown = set(re.findall(r"<!-- generated: results (\S+) -->", text)) | {"machines"}
    assert shown == {file.stem for file in RESULTS.glob("*.jsonl")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from nothing; a warning is an error."""
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason="needs the extra [docs]")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "-q",
        "-E",
        "-d",
        folder / "doctrees",
        ROOT / "docs",
        folder / "html",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_page_is_in_the_site_and_can_be_reached_from_its_side(site: Path) -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")}
    built = {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")}
    assert pages <= built
    front = (site / "index.html").read_text()
    linked = set(re.findall(r'href="([\w/-]+\.html)', front))
    assert {f"{page}.html" for page in pages if page.name != "table"} - {"index.html"} <= linked


def test_no_page_of_the_site_loads_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not REMOTE.search(page.read_text()), page
    for sheet in (*site.rglob("*.css"), *site.rglob("*.html")):
        assert not IMPORTED.search(sheet.read_text()), sheet


def test_the_site_has_the_docstrings_of_the_client(site: Path) -> None:
    page = (site / "reference/python.html").read_text()
    assert all(f'id="serve.client.Client.{name}"' in page for name in ("classify", "classify_many", "list_models"))
