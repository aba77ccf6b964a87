"""docs/serving/http.md: each of its curl lines gets an answer from a door before the shipped models."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.serve.web.doors import Door, open_door
from tests.support import ROOT, RunningServer

PAGE = (ROOT / "docs/serving/http.md").read_text()
LINES = re.findall(r"^curl .*$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def shipped_door(start_server: Callable[..., RunningServer]) -> Iterator[Door]:
    """A door before the shipped models."""
    with open_door(start_server(ROOT / "models").address) as door:
        yield door


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("line", LINES)
def test_a_curl_line_of_the_page_gets_an_answer(shipped_door: Door, line: str) -> None:
    command = line.replace("http://127.0.0.1:8080", shipped_door.url)
    done = subprocess.run(["sh", "-c", f"{command} -sS --fail"], cwd=ROOT, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    if "cat-chelsea" in line:
        assert answer["classification"]["classes"][0]["label"] == "cat"
    if "/v1/" in line and "7-crossed" in line:
        assert answer["classification"]["classes"][0]["label"] == "7"
        assert len(answer["classification"]["classes"]) == 2
    if "/infer" in line:
        assert max(range(10), key=answer["outputs"][0]["data"].__getitem__) == 7


def test_the_page_has_lines_of_every_kind() -> None:
    assert len(LINES) >= 7
    assert all(any(part in line for line in LINES) for part in ("-F image=@", "--data-binary", "/v2/", "/infer"))
