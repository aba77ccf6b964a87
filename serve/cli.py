"""`inkling COMMAND`: every command of the project under one name.

Enters: the words of a command line. Leaves: the module that they name, started as `python -m` starts it; or a
list of the commands; or a sentence that says what to install. It imports no command at the top, so that `--help` and
`--version` answer at once. `inspect` alone is here: it needs rooms that no other command has together.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from runpy import run_module
from typing import TYPE_CHECKING, Any

from serve.program import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

    from serve.model_file.familiarity import FamiliaritySpec
    from serve.model_file.spec import ModelSpec

HELP = (["-h"], ["--help"])


@dataclass(frozen=True, slots=True)
class Command:
    """A door: its module, what it does, and the extras of the package that it needs."""

    module: str
    summary: str
    extras: str = ""


COMMANDS = {
    "serve": Command("serve", "serve a folder of model files over gRPC", "cpu"),
    "classify": Command("serve.client", "classify images with a running server"),
    "evaluate": Command("serve.evaluate", "measure the accuracy of a served model"),
    "score": Command("serve.score", "score any number of images without a server", "cpu"),
    "models": Command("serve.client.commands.models", "list the models of a server; load and unload them"),
    "inspect": Command("serve.cli", "describe a model file, and check its seal and self-test"),
    "health": Command("serve.health", "ask a server whether it serves", "server"),
    "web": Command("serve.web", "serve a page and an HTTP API in front of a server", "web"),
    "bench": Command("serve.bench", "measure the throughput and latency of a server", "cpu"),
    "train mnist": Command("train.mnist", "train a classifier of handwritten digits", "cpu,train"),
    "train cifar": Command("train.cifar", "train a classifier of CIFAR-10's ten objects", "cpu,train"),
    "train folder": Command("train.folder", "train a classifier of your own pictures", "cpu,train"),
    "study": Command("train.study", "compare the values of one training setting", "cpu,train"),
    "convert": Command("train.convert", "turn a trained model into a file that is served", "cpu,train"),
    "cascade": Command("train.cascade", "join two model files, of which the second is asked when unsure", "cpu,train"),
    "measure": Command("train.measure", "measure what an answer of each model file costs", "cpu,train"),
    "variants": Command("train.variants", "write a model file in fewer bits", "cpu,train"),
    "familiarity": Command("train.familiarity", "add the output familiarity to a model file", "cpu,train"),
}
PACKAGES = {
    "": (),
    "server": ("grpc_health",),
    "web": ("starlette", "uvicorn", "python_multipart"),
    "cpu": ("onnxruntime", "grpc_health"),
    "cpu,train": ("tensorflow", "train", "onnxruntime"),
}
"""Packages that are importable if the extras are installed. The extra `gpu` brings those of `cpu`, too."""


def main() -> int:
    """Start a command, which then decides the exit code; 2 for an unknown one, 1 if its packages are missing."""
    words = sys.argv[1:]
    if words == ["--version"]:
        return _print_version()
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), "")
    if not name:
        return _list_commands(words)
    command = COMMANDS[name]
    if missing := [package for package in PACKAGES[command.extras] if not find_spec(package)]:
        advice = f'install the extras [{command.extras}], in a checkout with: pip install -e ".[{command.extras}]"'
        print(f"inkling {name}: {missing[0]} is not installed; {advice}", file=sys.stderr)
        return 1
    if name == "inspect":
        return inspect(words[1:])
    COMMAND.set(name)
    sys.argv[1:] = words[len(name.split()) :]
    run_module(command.module, run_name="__main__", alter_sys=True)
    return 0


def _print_version() -> int:
    from importlib.metadata import version  # here: importing it would slow --help down

    print(f"inkling {version('inkling')}")
    return 0


def _list_commands(words: list[str]) -> int:
    """Print the commands that begin with the words before `--help`, or all of them and what was wrong."""
    group = [name for name in COMMANDS if name.split()[: len(words) - 1] == words[:-1]]
    if words[-1:] in HELP and group:
        print(_describe(group))
        return 0
    print(_describe(COMMANDS), file=sys.stderr)
    print(f"inkling: wanted one of these commands, got {' '.join(words[:2])!r}", file=sys.stderr)
    return 2


def _describe(names: Iterable[str]) -> str:
    rows = (f"  {name:<12}  {COMMANDS[name].summary}" for name in names)
    head = "usage: inkling COMMAND [FLAGS] | --help | --version\n\ncommands (COMMAND --help lists the flags of one):"
    return "\n".join([head, *rows])


def inspect(arguments: Sequence[str]) -> int:
    """Describe a model file. Exit code 0 if it may be served, 1 with the reason if not, 2 for bad usage."""
    import argparse  # here, as below: importing it would slow --help down
    import json
    from dataclasses import asdict
    from pathlib import Path

    from serve.client.commands.output import escape, escape_unprintable_names
    from serve.errors import ModelFileError
    from serve.images.policies.find import find_policy
    from serve.model_file.spec import from_metadata
    from serve.model_file.whole import read_model_bytes

    parser = argparse.ArgumentParser(
        prog="inkling inspect", description="Describe a model file, and check its seal and its self-test."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the model.onnx")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args(arguments)
    escape_unprintable_names()
    try:
        spec = from_metadata(read_metadata(read_model_bytes(options.file)))
        find_policy(spec.prepare, spec.input)
        self_test = run_self_test(options.file)
    except (ModelFileError, OSError, ValueError) as error:  # ValueError: a name with a null character
        print(f"inkling inspect: {escape(str(options.file))}: {escape(str(error))}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({**asdict(spec), "seal": "intact", "self_test": self_test}, default=str))
    else:
        print("\n".join(map(escape, _tell(spec, self_test))))
    return 0


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata in an ONNX file, without ONNX or its runtime. Raises InvalidMetadata."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

    from serve.errors import InvalidMetadata

    # The two messages of onnx.proto on the way to the metadata. Parsers skip the fields that these lack.
    text, repeated_message = {"type": 9, "label": 1}, {"type": 11, "label": 3}
    file = descriptor_pb2.FileDescriptorProto(name="metadata.proto", package="inkling.metadata")
    entry, model = file.message_type.add(name="Entry"), file.message_type.add(name="Model")
    entry.field.add(name="key", number=1, **text)
    entry.field.add(name="value", number=2, **text)
    model.field.add(name="metadata_props", number=14, type_name=".inkling.metadata.Entry", **repeated_message)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("inkling.metadata.Model"))
    try:
        return {each.key: each.value for each in kind.FromString(data).metadata_props}  # type: ignore[attr-defined]
    except message.DecodeError as error:
        raise InvalidMetadata("wanted an ONNX model with metadata in UTF-8, got bytes that are none") from error


def run_self_test(path: "Path") -> str:
    """What the self-test said. Raises ModelFileError if the file must not be served."""
    if not find_spec("onnxruntime"):
        return "not run, because onnxruntime is not installed"
    from serve.inference.device import Placement
    from serve.inference.engine import load

    load(path, Placement("cpu", threads=1, max_batch=16, gpu_memory_bytes=0))
    return "passed on the cpu"


def _tell_familiarity(familiarity: "FamiliaritySpec") -> str:
    share, threshold = familiarity.turned_away, familiarity.threshold
    kinds = ", ".join(f"{kind} {figures.caught:.0%}" for kind, figures in familiarity.strangers.items())
    return f"{familiarity.method}; below {threshold:g} are {share:.1%} of the test images, and of strangers: {kinds}"


def _word(value: Any) -> str:
    """A value of a recipe in words. Values within a value are in parentheses; what is None is left out."""
    if isinstance(value, Mapping):
        words = {name: _word(each) for name, each in value.items() if each is not None}
        return ", ".join(f"{name} ({each})" if ", " in each else f"{name} {each}" for name, each in words.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tell(spec: "ModelSpec", self_test: str) -> list[str]:
    """A line for each fact about a model file, and for each setting of its recipe."""
    settings = [f"{name} {_word(value)}" for name, value in spec.recipe.items() if value is not None] or ["none"]
    facts: dict[str, str | list[str]] = {
        "model": spec.name,
        "trained on": spec.dataset,
        "input": f"{'x'.join(map(str, spec.input.shape))} {spec.input.dtype}, {spec.input.colour}",
        "policy": f"{spec.prepare.policy}/{spec.prepare.version} {dict(spec.prepare.parameters) or ''}".rstrip(),
        "precision": spec.precision,
        "accuracy": f"{spec.accuracy} of {spec.test_count:,} test images" if spec.test_count else spec.accuracy,
        "familiarity": _tell_familiarity(spec.familiarity) if spec.familiarity else "none",
        "parameters": f"{spec.parameters:,}",
        "created": spec.created.isoformat(),
        "commit": spec.source_commit,
        "recipe": settings,
        "versions": ", ".join(f"{name} {version}" for name, version in spec.versions.items()),
        **{f"labels, {language}": ", ".join(labels) for language, labels in spec.labels.items()},
        "seal": "intact",
        "self-test": self_test,
    }
    width = max(map(len, facts))
    lines = []
    for name, fact in facts.items():
        first, *more = [fact] if isinstance(fact, str) else fact
        lines += [f"{name:{width}}  {first}", *(f"{'':{width}}  {line}" for line in more)]
    return lines


if __name__ == "__main__":
    sys.exit(main())
