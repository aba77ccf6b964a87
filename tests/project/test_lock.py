"""The files in requirements/: every package with its hashes, no host, and versions within the ranges of pyproject.toml.

`make lock` writes them. CI and the image are built from them.
"""

import re
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

FOLDER = ROOT / "requirements"
EXTRAS = {
    "ci": {"cpu", "train", "test", "test-web", "docs", "trace", "web"},
    "cpu": {"cpu", "trace", "web"},
    "gpu": {"gpu", "trace", "web"},
    "build": set[str](),
    "triton": set[str](),
}
"""What each file is locked for."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def read_lock(name: str) -> dict[str, tuple[Requirement, tuple[str, ...]]]:
    """The packages of a file, each with its requirement and its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (FOLDER / f"{name}.txt").read_text(), flags=re.MULTILINE)
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        parsed = Requirement(requirement)
        assert canonicalize_name(parsed.name) not in found, f"{parsed.name} is there twice"
        found[canonicalize_name(parsed.name)] = parsed, tuple(hashes)
    return found


def read_ranges(extras: set[str]) -> list[Requirement]:
    """The project's own requirements with those extras, and those of the extras that these name."""
    lines = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        lines += PROJECT["project"]["optional-dependencies"][extra]
    ranges = [Requirement(line) for line in lines]
    named = {extra for each in ranges if each.name == "inkling" for extra in each.extras}
    return [each for each in ranges if each.name != "inkling"] + (read_ranges(named) if named else [])


def list_ranges(name: str) -> list[Requirement]:
    """What the packages of a file are to satisfy."""
    ranges = [Requirement(line) for line in PROJECT["build-system"]["requires"]]
    if name == "build":
        return ranges
    if name == "triton":  # a stock client in an environment of its own
        return [Requirement("tritonclient>=2.73,<3")]
    return read_ranges(EXTRAS[name]) + (ranges if name == "ci" else [])


def version_of(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    assert pin.operator == "=="
    return pin.version


def test_every_file_of_the_folder_is_known() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"base-image.txt", *(f"{name}.txt" for name in EXTRAS)}


@pytest.mark.parametrize("name", EXTRAS)
def test_every_package_has_one_version_and_hashes(name: str) -> None:
    assert read_lock(name)
    for requirement, hashes in read_lock(name).values():
        assert version_of(requirement)
        assert not requirement.url
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)


@pytest.mark.parametrize("name", EXTRAS)
def test_no_file_names_a_host_or_a_folder(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text()
    assert set(re.findall(r"(?<!\S)--[\w-]+", text)) == {"--hash"}
    assert not re.search(r"://|(?<!\S)/|\.(org|com|net|io)\b", text)


@pytest.mark.parametrize("name", EXTRAS)
def test_every_range_of_the_project_is_met(name: str) -> None:
    locked = read_lock(name)
    for wanted in list_ranges(name):
        found, _ = locked[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version_of(found)), f"{found} is outside {wanted}: run make lock"


@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize("name", EXTRAS)
def test_only_packages_for_windows_are_left_out_on_linux(name: str, python: str) -> None:
    linux = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    windows = linux | {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"}
    markers = {key: each.marker for key, (each, _) in read_lock(name).items() if each.marker}
    left_out = {key for key, marker in markers.items() if not marker.evaluate(linux)}
    assert left_out <= {"colorama", "cffi", "pycparser"}
    assert all(markers[key].evaluate(windows) for key in left_out)


@pytest.mark.parametrize("name", ["build", "cpu", "gpu"])
def test_the_image_has_the_versions_that_the_tests_ran_with(name: str) -> None:
    tested = read_lock("ci")
    shared = set(tested) & set(read_lock(name))
    assert shared
    assert all(read_lock(name)[key][0] == tested[key][0] for key in shared)
    assert set(read_lock(name)) - shared == {
        key for key in read_lock(name) if key == "onnxruntime-gpu" or key.startswith("nvidia-")
    }


@pytest.mark.parametrize("name", EXTRAS)
def test_no_file_has_both_runtimes(name: str) -> None:
    """They own the same module."""
    assert not {"onnxruntime", "onnxruntime-gpu"} <= set(read_lock(name))


def test_the_image_and_ci_install_only_wheels_with_known_hashes() -> None:
    recipes = [(ROOT / "Dockerfile").read_text(), (ROOT / "Makefile").read_text()]
    installs = [line for text in recipes for line in text.splitlines() if "--requirement" in line]
    assert {re.search(r"--requirement requirements/(\w+)\.txt", line)[1] for line in installs} == set(EXTRAS)  # type: ignore[index]
    assert all("--require-hashes --only-binary :all:" in line for line in installs)
    assert "LOCKED=1" in (ROOT / ".ci/run").read_text()
