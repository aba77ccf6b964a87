"""`inkling COMMAND`: every command of the project under one name.

Enters: the words of a command line. Leaves: the module that they name, started as `python -m` starts it; or a
list of the commands; or a sentence that says what to install. Does not know: what a command does. It imports none of
them, so that `--help` and `--version` answer at once.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from runpy import run_module

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
    "health": Command("serve.health", "ask a server whether it serves", "server"),
    "bench": Command("serve.bench", "measure the throughput and latency of a server", "cpu"),
    "train mnist": Command("train.mnist", "train a classifier of handwritten digits", "cpu,train"),
    "train cifar": Command("train.cifar", "train a classifier of CIFAR-10's ten objects", "cpu,train"),
    "train folder": Command("train.folder", "train a classifier of your own pictures", "cpu,train"),
    "study": Command("train.study", "compare the values of one training setting", "cpu,train"),
    "variants": Command("train.variants", "write a model file in fewer bits", "cpu,train"),
}
PACKAGES = {
    "": (),
    "server": ("grpc_health",),
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
        advice = f'install the extras [{command.extras}], in a checkout with: pip install ".[{command.extras}]"'
        print(f"inkling {name}: {missing[0]} is not installed; {advice}", file=sys.stderr)
        return 1
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


if __name__ == "__main__":
    sys.exit(main())
