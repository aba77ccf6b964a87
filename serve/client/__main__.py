"""`python -m serve.client IMAGE...`: files, folders and globs -> a table with bars, or JSON lines.

Enters: paths. Leaves: a line per image on stdout; exit code 0 if all were classified, 1 if any failed, 2 for bad
usage. Does not know: messages and channels (`client.py`).
"""

import argparse
import dataclasses
import glob
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from serve.client.client import DEFAULT_ADDRESS, Classification, Client
from serve.errors import CallError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"}
CONNECTIONS = 4
CALLS_IN_FLIGHT = 8
BAR_WIDTH = 24
MOST_LABELS = 2**31 - 1
"""What the request's field holds."""

Outcome: TypeAlias = Classification | CallError


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify what the command line names, and print it."""
    options = _parser().parse_args(arguments)
    print_any_name()
    files = list(find_images(options.images))
    with Client(options.address, connections=CONNECTIONS) as client:
        if options.wait:
            try:
                client.wait_until_ready(options.wait)
            except CallError as error:
                _parser().exit(1, f"serve.client: {options.address}: {error}\n")

        def classify(file: Path) -> Outcome:
            if is_folder(file):
                return CallError("INVALID_ARGUMENT", "FOLDER_EMPTY", "wanted images in the folder, found none")
            try:
                return client.classify(
                    file.read_bytes(), model=options.model, top_k=options.top, language=options.language
                )
            except OSError as error:
                return CallError("INVALID_ARGUMENT", "FILE_UNREADABLE", f"wanted a file that can be read: {error}")
            except CallError as error:
                return error

        try:
            outcomes = print_each(files, classify, _to_json if options.json else _row_printer(files))
        except BrokenPipeError:  # whoever reads, `head` perhaps, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would write there again
            return 1
    failed = sum(isinstance(outcome, CallError) for outcome in outcomes)
    if failed and not options.json:
        print(f"{failed} of {len(files)} failed")
    return 1 if failed else 0


def find_images(names: Iterable[str]) -> Iterator[Path]:
    """The files that names, folders and globs stand for; what matches or holds nothing is kept, to be reported."""
    for name in names:
        for path in map(Path, _match(name)):
            yield from _search(path) or [path] if is_folder(path) else [path]


def _match(name: str) -> list[str]:
    """What there is by that very name is meant, whatever a glob would make of it: `photo[1].png` is a usual one."""
    if os.path.lexists(name):
        return [name]
    return sorted(glob.glob(name, recursive=True)) or [name]  # noqa: PTH207  # Path.glob takes no absolute patterns


def _search(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if is_image(file))


def is_image(file: Path) -> bool:
    """By its name; a folder is none."""
    return file.suffix.lower() in IMAGE_SUFFIXES and not is_folder(file)


def is_folder(path: Path) -> bool:
    """False, too, where the system does not say: a name that is too long, or behind a closed door."""
    return os.path.isdir(path)  # noqa: PTH112  # Path.is_dir raises there


def print_any_name() -> None:
    """Let a file's name be printed that is no text, or a bar where the terminal has none, as escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def print_each(
    files: Sequence[Path], classify: Callable[[Path], Outcome], show: Callable[[Path, Outcome], str]
) -> list[Outcome]:
    """Classify with a few calls in flight, and print in the order of the files, each as soon as it is there."""
    outcomes = []
    with ThreadPoolExecutor(CALLS_IN_FLIGHT) as pool:
        for file, outcome in zip(files, pool.map(classify, files), strict=True):
            print(show(file, outcome), flush=True)
            outcomes.append(outcome)
    return outcomes


def _row_printer(files: Sequence[Path]) -> Callable[[Path, Outcome], str]:
    """A row: the file, the best label with a bar, the runners-up."""
    name_width = max((len(str(file)) for file in files), default=0)

    def show(file: Path, outcome: Outcome) -> str:
        if isinstance(outcome, CallError):
            return f"{file!s:{name_width}}  FAILED  {outcome}"
        best, *others = outcome.classes
        runners_up = "  ".join(f"{each.label} {each.probability:.1%}" for each in others)
        return f"{file!s:{name_width}}  {best.label:<10} {bar(best.probability)} {best.probability:6.1%}  {runners_up}"

    return show


def bar(share: float) -> str:
    """A bar of fixed width, to an eighth of a character."""
    eighths = round(share * BAR_WIDTH * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[rest]).ljust(BAR_WIDTH)[:BAR_WIDTH]


def _to_json(file: Path, outcome: Outcome) -> str:
    if isinstance(outcome, CallError):
        error = {"code": outcome.code, "reason": outcome.reason, "message": outcome.message}
        return json.dumps({"file": str(file), "error": error}, ensure_ascii=False)
    facts = dataclasses.asdict(outcome)
    facts.pop("prepared_png")
    return json.dumps({"file": str(file), **facts}, ensure_ascii=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve.client", description="Classify images with a running server."
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders (searched for images) or globs")
    address = os.environ.get("INKLING_ADDRESS", DEFAULT_ADDRESS)
    parser.add_argument(
        "--address", default=address, help=f"host:port (default: INKLING_ADDRESS, else {DEFAULT_ADDRESS})"
    )
    parser.add_argument("--model", default="", help="which model; may be left out where the server has one")
    parser.add_argument("--top", type=_read_top, default=3, metavar="K", help="labels per image (default: 3)")
    parser.add_argument("--language", default="", help="language of the labels, as en or ru (default: English)")
    parser.add_argument("--json", action="store_true", help="a line of JSON per image instead of the table")
    parser.add_argument("--wait", type=float, default=0, metavar="S", help="wait up to S seconds for the server")
    return parser


def _read_top(text: str) -> int:
    if not (text.isdecimal() and int(text) <= MOST_LABELS):
        raise argparse.ArgumentTypeError(f"wanted a number of labels from 0 (five) to {MOST_LABELS:,}, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
