"""The model file is the interface: a served file gives the probabilities of its Keras model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serve.client.client import Client
from serve.images.pixels import to_png
from tests.support import RunningServer
from train.data.datasets import Dataset
from train.export import from_keras as export
from train.nets import build
from train.recipes.shipped import RECIPES

SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


def make_dataset(name: str) -> Dataset:
    """Eight images of the dataset's shape, with black borders like MNIST's."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, *SHAPES[name]), dtype=np.uint8)
    images[:, [0, -1]] = images[:, :, [0, -1]] = 0
    labels = random.integers(0, 10, 8)
    names = {"en": tuple("abcdefghij"), "ru": tuple("абвгдежзий")}
    return Dataset.of_test(name, images, labels, names)


@pytest.mark.parametrize("name", RECIPES)
def test_a_served_file_answers_as_its_keras_model(
    name: str, tmp_path: Path, start_server: Callable[..., RunningServer]
) -> None:
    recipe = RECIPES[name]
    dataset = make_dataset(recipe.dataset)
    model = build.build(recipe.net, dataset.shape, 10, name=name)
    exported = export.export(
        model, dataset, tmp_path / name / "1", prepare=recipe.prepare, recipe={"epochs": 0}, source_commit="unknown"
    )
    assert exported.parity.largest_difference <= export.LARGEST_DIFFERENCE
    expected = model.predict(dataset.test.images, verbose=0)
    with Client(start_server(tmp_path).address) as client:
        answers = client.classify_many([to_png(image) for image in dataset.test.images], model=name, top_k=10)
    for answer, row in zip(answers, expected, strict=True):
        assert not isinstance(answer, Exception)
        found = {each.index: each.probability for each in answer.classes}
        assert [found[index] for index in range(10)] == pytest.approx(row.tolist(), abs=1e-5)
