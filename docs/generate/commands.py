"""Every command and its flags, from the parsers themselves.

Enters: nothing. Leaves: a section for each command. Does not know: what a command does.

A command's parser is found by running its module up to the point at which it would read its arguments.
"""

import argparse
import contextlib
import io
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from docs.generate.markdown import code, escape, fence, make_table

ROOT = Path(__file__).parents[2]
IS_COMMAND = re.compile(r'^if __name__ == "__main__":', re.MULTILINE)


class _FoundParser(BaseException):  # not an Exception, which a command may catch
    """Ends a command where it would read its arguments."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


INSTALLED = {"inkling inspect": ("serve.cli", "inspect"), "inkling models": ("serve.client.commands.models",)}
"""Commands that only `inkling` has a name for: the module and the words that its parser needs."""


def write_commands() -> str:
    """A section for each command: first those of serve, then those of train, then those of `inkling` alone."""
    sections = [write_command(f"python -m {module}", read_parser(module)) for module in find_commands()]
    sections += [write_command(name, read_parser(*words)) for name, words in INSTALLED.items()]
    return "\n\n".join(sections)


def find_commands() -> Iterator[str]:
    """Modules at a package's root, and rooms, that can be run with `python -m`."""
    for package in ("serve", "train"):
        for file in sorted([*(ROOT / package).glob("*.py"), *(ROOT / package).glob("*/__main__.py")]):
            if file.name == "__main__.py" or IS_COMMAND.search(file.read_text()):
                yield ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")


def write_command(name: str, found: argparse.ArgumentParser | str) -> str:
    """The heading, the description and the flags of one command, or of each of its actions."""
    heading = f"## {code(name)}"
    if isinstance(found, str):
        return f"{heading}\n\n{fence(found, 'text')}"
    parts = [heading, escape(found.description or "")]
    hidden = ("help", argparse.SUPPRESS)
    actions = [action for action in found._actions if action.dest not in hidden and action.help not in hidden]
    if actions and isinstance(actions[0], argparse._SubParsersAction):
        return "\n\n".join([*parts, *write_actions(name, actions[0])])
    parts.append(make_table(("argument", "meaning"), map(write_argument, actions)))
    if found.epilog:
        parts.append(fence(found.epilog, "text") if "\n" in found.epilog else escape(found.epilog))
    return "\n\n".join(part for part in parts if part)


def write_actions(name: str, choice: "argparse._SubParsersAction[argparse.ArgumentParser]") -> Iterator[str]:
    """For each action of a command what it does, and its flags."""
    helps = {each.dest: each.help or "" for each in choice._choices_actions}
    for action, parser in choice.choices.items():
        rows = [write_argument(argument) for argument in parser._actions if argument.dest != "help"]
        yield f"### {code(f'{name} {action}')}"
        yield escape(helps[action][:1].upper() + helps[action][1:] + ".")
        yield make_table(("argument", "meaning"), rows)


def read_parser(module: str, *words: str) -> argparse.ArgumentParser | str:
    """The parser of a command; of a command without one, what it prints for `--help`."""

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _FoundParser(parser)

    sys.modules.pop(f"{module}.__main__", None)  # another command may have imported it, of which runpy would warn
    printed = io.StringIO()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INKLING_")}
    with (
        patch.dict(os.environ, environment, clear=True),  # some defaults come from there
        patch.object(argparse.ArgumentParser, "parse_args", stop),
        patch.object(argparse.ArgumentParser, "parse_known_args", stop),
        patch.object(sys, "argv", [module, *words, "--help"]),
        contextlib.redirect_stdout(printed),
    ):
        try:
            runpy.run_module(module, run_name="__main__")
        except _FoundParser as found:
            return found.parser
        except SystemExit:
            pass
    return printed.getvalue()


def write_argument(action: argparse.Action) -> tuple[str, str]:
    """The cells of one argument: how it is written, and its help."""
    if action.nargs == 0:
        value = ""
    elif action.metavar:
        value = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    elif action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        value = action.dest.upper()
    name = " ".join([*action.option_strings[-1:], value]).strip()
    return code(name), escape((action.help or "") % {**vars(action), "prog": ""})
