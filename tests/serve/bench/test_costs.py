"""`python -m serve.bench --costs`: pairs of servers in turn, and the requests of the Open Inference Protocol."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serve.bench.costs.setups import Setup, ask_with_bytes, ask_with_tensors, make_pairs
from serve.bench.load import fetch_replies
from serve.bench.options import read_options
from serve.bench.peers.triton import METHOD
from serve.bench.target import Target
from serve.bench.workload import make_subject
from serve.client.client import Client
from serve.pb import open_inference_pb2 as pb
from tests.support import ROOT, RunningServer

FEATURES = ["metrics", "tokens", "metrics and tokens", "Open Inference, BYTES", "Open Inference, tensors", "TLS"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl, which makes the certificate")
def test_each_feature_has_its_ratio_in_the_last_line(repository_folder: Path) -> None:
    command = [sys.executable, "-m", "serve.bench", "--costs", "--short", "--models", str(repository_folder)]
    command += ["--model", "bands", "--workers", "1", "--before", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    *table, last = done.stdout.splitlines()
    assert table[0].split() == ["model", "feature", "without_per_s", "with_per_s", "ratio"]
    rows = json.loads(last)["results"]
    assert [row["feature"] for row in rows] == [*FEATURES, "metrics and tokens, over the code before"]
    for row in rows:
        assert row["errors"] == {}
        assert row["without_per_s"] > 0
        assert row["ratio"] == pytest.approx(row["with_per_s"] / row["without_per_s"], abs=1e-3)


def test_the_requests_of_the_protocol_get_the_answers_of_classify(server: RunningServer) -> None:
    subject = make_subject(Target(server.address, None), "bands", batch=0)
    with Client(server.address) as client:
        for make_requests in (ask_with_bytes, ask_with_tensors):
            for request, image in list(zip(make_requests(subject), subject.encoded, strict=True))[:5]:
                (reply,) = fetch_replies(server.address, METHOD, request, 1)
                (found,) = pb.ModelInferResponse.FromString(reply).raw_output_contents
                best = max(memoryview(found).cast("f"))
                assert best == pytest.approx(client.classify(image, model="bands").best.probability, abs=1e-6)


def test_a_pair_differs_in_its_feature_alone(tmp_path: Path) -> None:
    pairs = {pair.name: pair for pair in make_pairs(tmp_path, before=None)}
    assert {*pairs, "TLS"} == set(FEATURES)
    assert all(pair.without == Setup() != pair.with_it for pair in pairs.values())
    assert "--tokens" in pairs["tokens"].with_it.flags
    assert pairs["tokens"].with_it.flags[:2] == Setup().flags
    assert "--tokens" not in pairs["metrics"].with_it.flags
    assert set(pairs["metrics and tokens"].with_it.flags) == {
        *pairs["metrics"].with_it.flags,
        *pairs["tokens"].with_it.flags[2:],
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--costs", "--address", "127.0.0.1:1"],
        ["--costs", "--start"],
        ["--costs", "--batch", "8"],
        ["--before", str(ROOT)],
        ["--costs", "--before", "docs"],
    ],
    ids=" ".join,
)
def test_flags_that_do_not_fit_together_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(arguments)
    assert "wanted" in capsys.readouterr().err
