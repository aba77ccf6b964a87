"""`serve.bench.workload`: the images of a load, drawn or a person's own, and the requests with them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.bench.target import Target
from serve.bench.workload import make_images, make_requests, make_subject
from serve.errors import ConfigError
from tests.support import RunningServer


def test_images_and_requests_differ_from_call_to_call() -> None:
    images = make_images((28, 28, 1))
    assert len({image.tobytes() for image in images}) == len(images)
    requests = make_requests("m", [image.tobytes() for image in images], 4)
    assert len(set(requests)) == len(requests)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of other sizes and modes than the model's, and a text."""
    for number, mode in enumerate(("RGB", "L", "P")):
        Image.new(mode, (40, 30 + number), 80 * number).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_pictures_of_a_folder_are_sent_at_the_models_size(server: RunningServer, pictures: Path) -> None:
    subject = make_subject(Target(server.address, None), "bands", 0, os.fspath(pictures))
    assert len(subject.requests) == len(subject.images) == 3
    assert {image.shape for image in subject.images} == {(12, 12, 3)}
    np.testing.assert_array_equal(subject.images[1], np.full((12, 12, 3), 80))


def test_few_pictures_fill_a_larger_batch(server: RunningServer, pictures: Path) -> None:
    assert make_subject(Target(server.address, None), "bands", 8, os.fspath(pictures)).requests


@pytest.mark.parametrize(
    ("name", "problem"), [("empty", "wanted pictures, found none"), ("broken", "broken: wanted a PNG")]
)
def test_a_folder_without_pictures_is_refused(server: RunningServer, tmp_path: Path, name: str, problem: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    if name == "broken":
        (folder / "cat.png").write_bytes(b"nothing of an image")
    with pytest.raises(ConfigError, match=problem):
        make_subject(Target(server.address, None), "bands", 0, os.fspath(folder))
