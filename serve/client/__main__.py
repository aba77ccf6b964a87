"""`python -m serve.client IMAGE...`: files, folders and globs -> a table with bars, or JSON lines.

Enters: paths. Leaves: a line for each image on stdout. Exit code 0 if all images were classified, 1 if any failed, 2
for bad usage. Does not know: gRPC and its messages (`client.py`).
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

from serve.client.client import Classification, Client, open_client
from serve.client.endpoint import ConnectionFlags, add_connection_flags
from serve.errors import CallError, ConfigError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"}
CONNECTIONS = 4
CALLS_IN_FLIGHT = 8
BAR_WIDTH = 24
MAX_LABELS = 2**31 - 1
"""The largest number that the request's int32 field holds."""

Outcome: TypeAlias = Classification | CallError


@dataclasses.dataclass(frozen=True, slots=True)
class Options(ConnectionFlags):
    """The command line."""

    images: Sequence[str]
    model: str
    top: int
    language: str
    json: bool
    wait: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify the images that the command line names, and print the answers."""
    options = Options(**vars(_parser().parse_args(arguments)))
    escape_unprintable_names()
    files = list(find_images(options.images))
    try:
        opened = open_client(options.read_endpoint(), CONNECTIONS)
    except ConfigError as error:
        _parser().exit(2, f"serve.client: {error}\n")
    with opened as client:
        if options.wait:
            try:
                client.wait_until_ready(options.wait)
            except CallError as error:
                _parser().exit(1, f"serve.client: {options.address}: {error}\n")
        show = _to_json if options.json else _row_printer(files)
        try:
            outcomes = print_each(files, lambda file: _classify(client, file, options), show)
        except BrokenPipeError:  # the reader of stdout, such as `head`, has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout at exit
            return 1
    failed = sum(isinstance(outcome, CallError) for outcome in outcomes)
    if failed and not options.json:
        print(f"{failed} of {len(files)} failed")
    return 1 if failed else 0


def _classify(client: Client, file: Path, options: Options) -> Outcome:
    if is_folder(file):
        return CallError("INVALID_ARGUMENT", "FOLDER_EMPTY", "wanted images in the folder, found none")
    try:
        return client.classify(file.read_bytes(), model=options.model, top_k=options.top, language=options.language)
    except OSError as error:
        return CallError("INVALID_ARGUMENT", "FILE_UNREADABLE", f"wanted a file that can be read: {error}")
    except CallError as error:
        return error


def find_images(names: Iterable[str]) -> Iterator[Path]:
    """The files that names, folders and globs stand for. A name without a match and an empty folder are kept."""
    for name in names:
        for path in map(Path, _match(name)):
            yield from _search(path) or [path] if is_folder(path) else [path]


def _match(name: str) -> list[str]:
    """An existing path is taken literally, even if it looks like a glob: `photo[1].png` is a common name."""
    if os.path.lexists(name):
        return [name]
    return sorted(glob.glob(name, recursive=True)) or [name]  # noqa: PTH207  # Path.glob takes no absolute patterns


def _search(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if is_image(file))


def is_image(file: Path) -> bool:
    """Whether a path has an image's suffix and is not a folder."""
    return file.suffix.lower() in IMAGE_SUFFIXES and not is_folder(file)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder. False if the system cannot tell: the name is too long, or access is denied."""
    return os.path.isdir(path)  # noqa: PTH112  # Path.is_dir raises there


def escape_unprintable_names() -> None:
    """Print characters that stdout cannot encode as escapes: file names that are not UTF-8, and bars."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def print_each(
    files: Sequence[Path], classify: Callable[[Path], Outcome], show: Callable[[Path, Outcome], str]
) -> list[Outcome]:
    """Classify with several calls in flight. Print each answer as soon as it is there, in the order of the files."""
    outcomes = []
    with ThreadPoolExecutor(CALLS_IN_FLIGHT) as pool:
        for file, outcome in zip(files, pool.map(classify, files), strict=True):
            print(show(file, outcome), flush=True)
            outcomes.append(outcome)
    return outcomes


def _row_printer(files: Sequence[Path]) -> Callable[[Path, Outcome], str]:
    """A function that formats a row: the file, the best label with a bar, the other labels."""
    name_width = max((len(str(file)) for file in files), default=0)

    def show(file: Path, outcome: Outcome) -> str:
        if isinstance(outcome, CallError):
            return f"{file!s:{name_width}}  FAILED  {outcome}"
        best, *others = outcome.classes
        runners_up = "  ".join(f"{each.label} {each.probability:.1%}" for each in others)
        return f"{file!s:{name_width}}  {best.label:<10} {bar(best.probability)} {best.probability:6.1%}  {runners_up}"

    return show


def bar(share: float) -> str:
    """A bar whose full part is `share` of its fixed width, to an eighth of a character."""
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
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="classify these files, folders (searched for images) and globs")
    add_connection_flags(parser)
    add("--model", default="", metavar="NAME", help="use the model NAME (default: the server's only model)")
    add("--top", type=_read_top, default=3, metavar="K", help="print K labels per image; 0 prints 5 (default: 3)")
    add("--language", default="", metavar="CODE", help="print labels in the language CODE, such as ru (default: en)")
    add("--json", action="store_true", help="print a line of JSON per image instead of the table")
    add(
        "--wait",
        type=float,
        default=0,
        metavar="S",
        help="wait up to S seconds for the server (default: 0)",
    )
    return parser


def _read_top(text: str) -> int:
    if not (text.isdecimal() and int(text) <= MAX_LABELS):
        raise argparse.ArgumentTypeError(f"wanted a number of labels from 0 (five) to {MAX_LABELS:,}, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
