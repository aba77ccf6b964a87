"""`serving.toml` beside a model of a running server that polls: followed by every worker, refused when it is wrong."""

from pathlib import Path

import pytest

from serve.client.client import Client
from serve.pb import open_inference_pb2, open_inference_pb2_grpc
from tests.served import served, wait_until
from tests.support import Png, write_tiny_model

grpc = pytest.importorskip("grpc")


@pytest.mark.slow
def test_a_running_server_follows_the_file_and_keeps_what_it_has_if_it_is_wrong(tmp_path: Path, png: Png) -> None:
    models = tmp_path / "models"
    file = write_tiny_model(models / "bands").parent / "serving.toml"
    flags = ("--model-control", "poll", "--poll-s", "1", "--workers", "2", "--metrics-port", "0")
    with served(models, *flags) as server, grpc.insecure_channel(server.address) as channel:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = open_inference_pb2.ModelConfigRequest(name="bands")

        def ask_batch() -> int:
            batching = stub.ModelConfig(request).config.dynamic_batching
            return int(batching.preferred_batch_size[0])

        assert ask_batch() == 32
        file.write_text("max_batch = 3")
        server.wait_for("decision 1 on models: every worker follows")
        assert ask_batch() == 3
        file.write_text("max_batch = 3\nmax_bach = 4")
        server.wait_for("decision 2 on models: every worker follows")
        assert ask_batch() == 3
        with Client(server.address) as client:
            (refused,) = client.list_models().refused_models
            assert "serving.toml: unknown keys: max_bach" in refused.reason
            assert client.classify(png(1)).best.label == "middle"
            file.unlink()
            assert wait_until(lambda: ask_batch() == 32)
            assert not client.list_models().refused_models
