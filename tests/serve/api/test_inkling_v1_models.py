"""serve.api.inkling_v1: what a caller is told of the models, and which file of a model answers."""

from collections.abc import Callable
from pathlib import Path

from serve.client.client import Client
from tests.support import LABELS, Png, RunningServer, write_tiny_model


def test_list_models_shows_every_version_and_what_was_refused(
    start_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "bands", 1)
    damaged = write_tiny_model(tmp_path / "bands", 2)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with Client(start_server(tmp_path).address) as client:
        listing = client.list_models()
        assert client.get_model().version == "1"
    assert [(model.name, model.version) for model in listing.models] == [("bands", "1")]
    (refused,) = listing.refused_models
    assert (refused.name, refused.version) == ("bands", "2")
    assert "sha256" in refused.reason


def test_get_model_tells_what_the_file_says(client: Client) -> None:
    model = client.get_model("bands", "1")
    assert list(model.input_shape) == [12, 12, 3]
    assert {labels.language_code: tuple(labels.labels) for labels in model.label_sets} == LABELS
    assert (model.precision, model.device, model.prepare_policy) == ("float32", "cpu", "photo/1")
    assert model.create_time.ToJsonString() == "2026-01-02T03:04:05Z"
    assert model.recipe["epochs"] == 1


def test_the_file_of_the_precision_asked_for_runs_and_the_reply_names_it(
    start_server: Callable[..., RunningServer], tmp_path: Path, png: Png
) -> None:
    write_tiny_model(tmp_path / "both")
    other = write_tiny_model(tmp_path / "both", 2, precision="int8")
    other.rename(tmp_path / "both" / "1" / "model.int8.onnx")
    other.parent.rmdir()
    write_tiny_model(tmp_path / "one")
    with Client(start_server(tmp_path, precision="int8").address) as client:
        assert client.classify(png(0), model="both").precision == "int8"
        assert client.classify(png(0), model="one").precision == "float32"
        assert client.get_model("both").precision == "int8"
