"""Who may import what: one table of rooms, and what is not listed fails.

A room is a folder or a module at a package's root. Doors start a command of their own package and may import all of it.
"""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter

import pytest

from tests.support import ROOT

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("serve", "train")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
MOST_FILES = 9
"""In a folder, doors and __init__ not counted."""

DOORS = {
    *("serve.__main__", "serve.evaluate", "serve.health", "serve.cli"),
    *("train.cifar", "train.mnist", "train.folder", "train.study", "train.variants", "train.speed", "train.measure"),
    *("train.convert", "train.familiarity", "train.cascade"),
}
ROOMS: dict[str, set[str]] = {
    "serve": set(),
    "serve.errors": set(),
    "serve.machine": set(),
    "serve.flags": {"serve.errors"},
    "serve.folders": {"serve.errors"},
    "serve.packages": set(),
    "serve.pb": set(),
    "serve.program": set(),
    "serve.settings": {"serve.errors"},
    "serve.config": {"serve.settings", "serve.program", "serve.errors"},
    "serve.model_file": {"serve.errors"},
    "serve.telemetry": {"serve.errors"},
    "serve.images": {"serve.model_file", "serve.errors"},
    "serve.inference": {"serve.images", "serve.model_file", "serve.machine", "serve.telemetry", "serve.errors"},
    "serve.api": {"serve.inference", "serve.images", "serve.pb", "serve.telemetry", "serve.errors"},
    "serve.process": {
        *("serve.api", "serve.inference", "serve.machine", "serve.telemetry", "serve.config", "serve.pb"),
        *("serve.images", "serve.model_file", "serve.packages", "serve.errors"),
    },
    "serve.web": {"serve.client", "serve.pb", "serve.telemetry", "serve.program", "serve.errors"},
    "serve.cluster": {"serve.errors"},
    "serve.client": {"serve.pb", "serve.folders", "serve.program", "serve.flags", "serve.errors"},
    "serve.score": {
        *("serve.inference", "serve.images", "serve.model_file", "serve.machine", "serve.folders", "serve.cluster"),
        *("serve.program", "serve.flags", "serve.errors"),
    },
    "serve.bench": {
        *("serve.client", "serve.pb", "serve.images", "serve.model_file", "serve.machine", "serve.folders"),
        *("serve.program", "serve.flags", "serve.packages", "serve.errors"),
    },
    "train": {"serve"},
    "train.flags": {"serve.model_file"},
    "train.run_folder": {"serve.model_file", "serve.errors"},
    "train.recipes": {"serve.model_file"},
    "train.evaluation": {"serve.model_file"},
    "train.data": {"train.flags", "serve.images", "serve.model_file", "serve.folders", "serve.errors"},
    "train.nets": {"train.recipes", "train.data", "train.evaluation"},
    "train.fitting": {
        *("train.nets", "train.recipes", "train.data", "train.evaluation", "serve.errors", "serve.model_file"),
    },
    "train.export": {
        *("train.nets", "train.data", "train.evaluation", "serve.model_file", "serve.images", "serve.errors"),
        "serve.packages",
    },
    "train.studies": {
        *("train.fitting", "train.nets", "train.recipes", "train.data", "train.evaluation", "train.run_folder"),
        "serve.errors",
    },
    "train.commands": {
        *("train.fitting", "train.nets", "train.recipes", "train.data", "train.evaluation", "train.run_folder"),
        *("train.export", "train.studies", "train.flags"),
        *("serve.folders", "serve.errors", "serve.model_file", "serve.images"),
        *("serve.cluster", "serve.program", "serve.packages"),
    },
}
TRAINING_PACKAGES = {"tensorflow", "keras", "tf2onnx", "onnx", "train"}
OWNERS = {
    "grpc": ("serve.api", "serve.process.listening.listeners", "serve.client", "serve.web", "serve.bench", "serve.pb"),
    "grpc_health": ("serve.api", "serve.client", "serve.bench"),
    "grpc_reflection": ("serve.api",),
    "prometheus_client": ("serve.telemetry",),
    "starlette": ("serve.web",),
    "uvicorn": ("serve.web.listening",),
    "python_multipart": ("serve.web.requests",),
    "opentelemetry": ("serve.telemetry",),
    "onnxruntime": ("serve.inference", "serve.bench.ceiling", "serve.bench.peers", "serve.score", "train.export"),
    "pyarrow": ("serve.score",),
    "ray": ("serve.cluster", "serve.score", "train.studies"),
}
"""Packages that only some rooms or modules may import."""
OPEN_INFERENCE_STUBS = {"serve.pb.open_inference_pb2", "serve.pb.open_inference_pb2_grpc"}
OPEN_INFERENCE_OWNERS = ("serve.api", "serve.web", "serve.pb")
"""The stubs define the package `inference`, as those of tritonclient do: a process may have one of the two."""


def room_of(module: str) -> str:
    """The room that a module is in: `serve.images` of `serve.images.policies.find`."""
    return ".".join(module.split(".")[:2])


@cache
def imports_of(name: str) -> set[str]:
    """What a module imports anywhere, also inside functions: full names of modules and of what is taken from them."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import, which these rules do not read"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages_of(name: str) -> set[str]:
    """The top-level packages that a module imports."""
    return {imported.partition(".")[0] for imported in imports_of(name)}


def rooms_of(name: str) -> set[str]:
    """The other rooms of ours that a module imports from."""
    ours = (imported for imported in imports_of(name) if imported.partition(".")[0] in ("serve", "train"))
    return {room if (room := room_of(imported)) in ROOMS else imported for imported in ours} - {room_of(name)}


def is_in(name: str, places: tuple[str, ...]) -> bool:
    """Whether a module is one of the places, or in one."""
    return any(f"{name}.".startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("name", sorted(set(MODULES) - DOORS))
def test_a_module_imports_from_the_rooms_that_the_table_lists_for_its_own(name: str) -> None:
    assert rooms_of(name) <= ROOMS[room_of(name)]


@pytest.mark.parametrize("name", sorted(DOORS & set(MODULES)))
def test_a_door_imports_from_its_own_package_and_the_errors(name: str) -> None:
    package = name.partition(".")[0]
    assert {room.partition(".")[0] for room in rooms_of(name) - {"serve.errors"}} <= {package}


def test_every_room_of_the_table_is_there() -> None:
    assert {room_of(name) for name in set(MODULES) - DOORS} == set(ROOMS)


def test_the_table_has_no_circle() -> None:
    order = list(TopologicalSorter(ROOMS).static_order())
    assert order.index("serve.model_file") < order.index("serve.images") < order.index("serve.api")


@pytest.mark.parametrize("room", [room for room in ROOMS if room.startswith("serve")])
def test_the_table_lets_serving_import_nothing_of_training(room: str) -> None:
    assert all(other.startswith("serve") for other in ROOMS[room])


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("serve")])
def test_serving_imports_no_package_of_training(name: str) -> None:
    assert not packages_of(name) & TRAINING_PACKAGES


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("package", OWNERS)
def test_a_package_is_imported_by_its_owners_alone(name: str, package: str) -> None:
    assert package not in packages_of(name) or is_in(name, OWNERS[package])


@pytest.mark.parametrize("name", MODULES)
def test_the_stubs_that_clash_with_tritonclients_are_imported_by_their_owners(name: str) -> None:
    assert not imports_of(name) & OPEN_INFERENCE_STUBS or is_in(name, OPEN_INFERENCE_OWNERS)


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) in ("serve.images", "serve.model_file")])
def test_what_training_shares_needs_numpy_and_pillow_alone(name: str) -> None:
    assert packages_of(name) <= sys.stdlib_module_names | {"numpy", "PIL", "serve"}


def test_a_folder_has_at_most_nine_files() -> None:
    folders: dict[str, int] = {}
    for name, path in MODULES.items():
        if path.name != "__init__.py" and name not in DOORS and room_of(name) != "serve.pb":
            folders[str(path.parent)] = folders.get(str(path.parent), 0) + 1
    assert max(folders.values()) <= MOST_FILES, folders


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("serve.process.server", {"tensorflow", "keras", "tf2onnx", "onnx", "train"}),
        ("serve.client", {"onnxruntime", "serve.inference.engine", "serve.process.server", *OPEN_INFERENCE_STUBS}),
        ("serve.client.__main__", {"onnxruntime"}),
        ("serve.images.policies.find", {"onnxruntime", "grpc"}),
        ("serve.process.supervisor", {"onnxruntime", "grpc", "prometheus_client", "opentelemetry", "starlette"}),
        ("serve.web.__main__", {"onnxruntime", "serve.inference", "serve.api", "prometheus_client"}),
        ("serve.process.worker", {"prometheus_client", "opentelemetry"}),
        ("train.export.from_keras", {"tensorflow", "keras", "grpc"}),
        ("train.export.onnx_file", {"tensorflow", "keras", "grpc"}),
    ],
)
def test_importing_a_module_does_not_bring_what_it_must_do_without(name: str, absent: set[str]) -> None:
    """In a fresh process: also what the packages bring that it does import."""
    script = f"import {name}, sys; print(*sys.modules)"
    brought = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    modules = set(brought.stdout.split())
    assert name in modules
    assert not modules & absent
