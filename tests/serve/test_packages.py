"""`serve.packages`: a package has its version under each name that it is installed by."""

import importlib
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from serve.packages import UNKNOWN, find_version


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which distributions are found. It has none yet."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    return tmp_path


def install(site: Path, name: str, number: str) -> None:
    facts = site / f"{name.replace('-', '_')}-{number}.dist-info" / "METADATA"
    facts.parent.mkdir()
    facts.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    importlib.invalidate_caches()


def test_a_version_is_that_of_the_distribution() -> None:
    assert find_version("numpy") == version("numpy")


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-gpu"])
def test_either_distribution_of_onnx_runtime_has_its_version(name: str, site: Path) -> None:
    install(site, name, "1.30.2")
    assert find_version("onnxruntime") == "1.30.2"


def test_the_distribution_for_gpus_is_not_found_as_the_one_for_cpus(site: Path) -> None:
    install(site, "onnxruntime", "1.30.2")
    assert find_version("onnxruntime-gpu") == UNKNOWN


def test_a_package_that_is_no_distribution_has_an_unknown_version(site: Path) -> None:
    """It may be a folder of code, and a training must not end without a file for it."""
    assert find_version("onnxruntime") == UNKNOWN
