"""`python -m serve.score --ray` over two nodes on one machine: the rows of one machine, also when a node is killed."""

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.score.local import Options, score
from serve.score.ray_data import count_actors
from tests.clusters import two_nodes
from tests.served import wait_until
from tests.support import ROOT, Png, write_tiny_model

COUNT = 400


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, png: Png) -> Path:
    """Images, one of which is broken, the tiny model, and the rows of one machine."""
    folder = tmp_path_factory.mktemp("scored")
    write_tiny_model(folder / "models/bands")
    (folder / "images").mkdir()
    for number in range(COUNT):
        data = png(number % 3, (12 + number % 5, 12)) if number != 7 else b"no image"
        (folder / f"images/{number:04}.png").write_bytes(data)
    score(Options(str(folder / "images"), folder / "models/bands", str(folder / "local.csv"), top_k=3, workers=1))
    return folder


def read_rows(files: list[Path]) -> list[dict[str, str]]:
    return [row for file in files for row in csv.DictReader(io.StringIO(file.read_text()))]


def start(folder: Path, out: Path, address: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "serve.score", str(folder / "images"), "--model", str(folder / "models/bands")]
    flags = ["--out", str(out), "--top-k", "3", "--ray", address]
    return subprocess.Popen([*command, *flags], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def check_rows(out: Path, folder: Path) -> None:
    """The same rows as on one machine, each once; probabilities within 1e-6."""
    found = {row["path"]: row for row in read_rows(sorted(out.glob("*.csv")))}
    assert len(read_rows(sorted(out.glob("*.csv")))) == COUNT
    for expected in read_rows([folder / "local.csv"]):
        row = found.pop(expected["path"])
        assert [row[name] for name in ("label", "label_2", "label_3", "reason", "model", "version", "seal")] == [
            expected[name] for name in ("label", "label_2", "label_3", "reason", "model", "version", "seal")
        ]
        for name in ("probability", "probability_2", "probability_3"):
            assert float(row[name] or -1) == pytest.approx(float(expected[name] or -1), abs=1e-6)
    assert not found


def test_an_actor_takes_each_core_but_one_that_reads() -> None:
    assert [count_actors(cores) for cores in (1, 2, 4, 64.0)] == [1, 1, 3, 63]


@pytest.mark.slow
def test_two_nodes_give_the_rows_of_one_machine(cluster: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with start(folder, out, cluster.address) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    check_rows(out, folder)


@pytest.mark.slow
def test_a_node_that_is_killed_in_the_middle_loses_nothing(cluster: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    node = cluster.list_all_nodes()[-1]
    with start(folder, out, cluster.address) as process:
        assert wait_until(lambda: any(out.glob("*.csv")), within_s=300)
        cluster.remove_node(node, allow_graceful=False)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    check_rows(out, folder)
