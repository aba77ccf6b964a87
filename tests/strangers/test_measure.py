"""`tests.strangers.measure`: the figures of familiarity that the cards have, measured on few images."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from tests.support import ROOT
from train.commands.familiarity import main as add
from train.data.datasets import default_folder

pytest.importorskip("skimage", reason="wanted scikit-image, which has textures and faces")
from tests.strangers.images import list_kinds
from tests.strangers.measure import measure, prepare_all

FILES = ("mnist/train-images-idx3-ubyte.gz", "cifar-10-batches-py/test_batch")
has_data = all((default_folder() / name).is_file() for name in FILES)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_strangers_of_every_kind_are_inputs_and_the_same_for_a_seed(name: str) -> None:
    digits = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8)
    objects = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    target, prepare = {
        "mnist": (InputSpec((28, 28, 1), "uint8", "grey"), PrepareSpec("digit", 1, {"box": 20})),
        "cifar10": (InputSpec((32, 32, 3), "uint8", "rgb"), PrepareSpec("photo", 1, {})),
    }[name]
    kinds = list_kinds(name, digits, objects)
    assert {"textures", "blank pages"} < set(kinds)
    for draw in kinds.values():
        first, second = (prepare_all(draw, find_policy(prepare, target), 3, seed=1) for _ in range(2))
        assert first.shape == (3, *target.shape)
        assert np.array_equal(first, second)


@pytest.mark.slow
@pytest.mark.skipif(not has_data, reason="wanted the datasets mnist and cifar10, INKLING_DATA lacks one")
def test_a_digit_is_told_from_textures_and_blank_pages(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "mnist-mlp" / "1", tmp_path / "1")
    assert add([str(tmp_path / "1")]) == 0
    figures = measure(tmp_path / "1" / "model.onnx", count=40, test_count=300, seed=0)
    assert figures["test images"]["below"] < 0.05
    assert figures["textures"]["roc_auc"] > 0.8
    assert figures["letters"]["count"] == 40
