"""Who may import what: the rules that keep TensorFlow out of the server and ONNX Runtime out of the client."""

import ast
import subprocess
import sys

import pytest

from tests.support import ROOT

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for folder in ("serve", "train")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
SERVE = [name for name in MODULES if name.startswith("serve.")]
TRAIN = [name for name in MODULES if name.startswith("train.")]

TRAINING_PACKAGES = {"tensorflow", "keras", "tf2onnx", "onnx", "train"}
GRPC_PACKAGES = {"grpc", "grpc_health", "grpc_reflection", "grpc_status"}
# A name here is a module, or a package with all that is in it.
GRPC_MODULES = {"serve.api", "serve.process.server", "serve.client", "serve.bench", "serve.pb"}
ONNXRUNTIME_MODULES = {
    *("serve.inference", "serve.bench"),
    *("train.onnx_file", "train.quantize", "train.variants"),
}
SHARED_MODULES = {"serve.errors", "serve.images", "serve.model_file"}


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


def our_modules_of(name: str, package: str) -> set[str]:
    """The modules of one of our packages that a module imports."""
    found = (imported for imported in imports_of(name) if imported.startswith(package + "."))
    return {imported if imported in MODULES else imported.rpartition(".")[0] for imported in found}


def outside(names: list[str], allowed: set[str]) -> list[str]:
    """The names that are neither one of those allowed nor in a package of that name."""
    return [name for name in names if not any(f"{name}.".startswith(f"{each}.") for each in allowed)]


def test_there_are_modules_to_look_at() -> None:
    assert {"serve.inference.engine", "serve.pb.classifier_pb2_grpc"} <= set(SERVE)
    assert "train.export" in TRAIN


@pytest.mark.parametrize("name", SERVE)
def test_serving_imports_nothing_of_training(name: str) -> None:
    assert not packages_of(name) & TRAINING_PACKAGES


@pytest.mark.parametrize("name", TRAIN)
def test_training_shares_with_serving_only_what_needs_no_server(name: str) -> None:
    assert not outside(sorted(our_modules_of(name, "serve")), SHARED_MODULES)
    assert not packages_of(name) & GRPC_PACKAGES


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(outside(list(MODULES), SHARED_MODULES))))
def test_what_training_shares_needs_numpy_and_pillow_alone(name: str) -> None:
    assert packages_of(name) <= sys.stdlib_module_names | {"numpy", "PIL", "serve"}
    assert not outside(sorted(our_modules_of(name, "serve")), SHARED_MODULES)


@pytest.mark.parametrize("name", outside(list(MODULES), ONNXRUNTIME_MODULES))
def test_onnxruntime_is_for_what_runs_measures_or_writes_model_files(name: str) -> None:
    assert "onnxruntime" not in packages_of(name)


@pytest.mark.parametrize("name", outside(SERVE, GRPC_MODULES))
def test_grpc_is_for_the_modules_at_the_edge(name: str) -> None:
    assert not packages_of(name) & GRPC_PACKAGES


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("serve.process.server", {"tensorflow", "keras", "tf2onnx", "onnx", "train"}),
        ("serve.client", {"onnxruntime", "serve.inference.engine", "serve.process.server"}),
        ("serve.client.__main__", {"onnxruntime"}),
        ("serve.images.pixels", {"onnxruntime", "grpc"}),
        ("serve.process.supervisor", {"onnxruntime", "grpc"}),
        ("train.export", {"tensorflow", "keras", "grpc"}),
        ("train.onnx_file", {"tensorflow", "keras", "grpc"}),
    ],
)
def test_importing_a_module_does_not_bring_what_it_must_do_without(name: str, absent: set[str]) -> None:
    """In a fresh process: also what the packages bring that it does import."""
    script = f"import {name}, sys; print(*sys.modules)"
    brought = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    modules = set(brought.stdout.split())
    assert name in modules
    assert not modules & absent
