"""`python -m serve.evaluate DIR`: a folder of class folders, through a running server -> accuracy.

Enters: images in folders named by their label, as `python -m train.data --export` writes them, and an address.
Leaves: accuracy, accuracy per class, and the mistakes. With `--compare V1 V2`: the images on which two versions differ.
With `--corruptions`: accuracy for each corruption of CIFAR-10-C and each severity.
Does not know: the model; it calls the server as any other client does.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from serve.client.client import DEFAULT_MAX_MESSAGE_BYTES, Client, open_client
from serve.client.commands.files import is_image, read_image
from serve.client.commands.output import (
    INTERRUPTED,
    describe_error,
    dump,
    escape,
    escape_unprintable_names,
    give_up_stdout,
)
from serve.client.commands.verdicts import Verdict, print_comparison, print_report, summarize
from serve.client.corruptions.report import print_table, read_names, summarize_table
from serve.client.corruptions.table import SEVERITIES, corrupt_file
from serve.client.endpoint import ConnectionFlags, add_connection_flags
from serve.errors import CallError, InklingError
from serve.pb import classifier_pb2 as pb

IMAGES_PER_CALL = 64
MAX_CALL_BYTES = 8 * 2**20
"""Bytes of images in one call: half of the server's default limit. A larger file is sent alone."""
CONNECTIONS = 4
CALLS_IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class Options(ConnectionFlags):
    """The command line."""

    folder: Path
    model: str
    version: str
    compare: Sequence[str] | None
    corruptions: str | None
    sample: int
    mistakes: int
    json: bool


def find_examples(folder: Path) -> list[Path]:
    """Every image in the class folders of a folder. Raises InklingError if there is none."""
    files = sorted(file for file in folder.glob("*/*") if is_image(file))
    if not files:
        raise InklingError(f"wanted class folders with images in them, found none in {folder}")
    return files


def read_example(file: Path) -> bytes:
    """The bytes of an image. Raises InklingError, with its path, for what is no file or too large for a call."""
    try:
        return read_image(str(file), DEFAULT_MAX_MESSAGE_BYTES)
    except CallError as error:
        raise InklingError(f"{file}: {error.message}") from error


def take_sample(files: list[Path], count: int) -> list[Path]:
    """At most so many of the files, evenly from all of them; 0 takes all."""
    step = max(1, len(files) // count) if count else 1
    return files[::step][: count or None]


def judge(
    client: Client,
    files: Sequence[Path],
    model: str,
    version: str,
    read: Callable[[Path], bytes] = read_example,
) -> list[Verdict]:
    """Classify every file, with the bytes that `read` gives.

    Raises InklingError for the first image that fails, and for a folder that is not named by a label of the model.
    Raises OSError for a file that cannot be read.
    """
    language = find_language(client.get_model(model, version), {file.parent.name for file in files})

    def judge_some(some: Sequence[Path]) -> Iterator[Verdict]:
        images = [read(file) for file in some]
        answers = client.classify_many(images, model=model, version=version, top_k=1, language=language)
        for file, answer in zip(some, answers, strict=True):
            if isinstance(answer, CallError):
                raise InklingError(f"{file}: {answer}")
            yield Verdict(file, file.parent.name, answer.best.label, answer.best.probability)

    parts = split_into_calls(files)
    with ThreadPoolExecutor(CALLS_IN_FLIGHT) as pool:
        return [verdict for verdicts in pool.map(lambda part: list(judge_some(part)), parts) for verdict in verdicts]


def find_language(model: pb.Model, names: set[str]) -> str:
    """The first of a model's languages that has all names among its labels. Raises InklingError if none has."""
    for each in model.label_sets:
        if names <= set(each.labels):
            return each.language_code
    labels = model.label_sets[0].labels
    unknown = names - set(labels)
    raise InklingError(f"wanted folders named {', '.join(sorted(labels))}; got {', '.join(sorted(unknown))}")


def split_into_calls(files: Sequence[Path]) -> list[list[Path]]:
    """Split the files, in their order, into calls within IMAGES_PER_CALL and MAX_CALL_BYTES."""
    parts: list[list[Path]] = []
    size = MAX_CALL_BYTES
    for file in files:
        size += file.stat().st_size
        if size > MAX_CALL_BYTES or len(parts[-1]) == IMAGES_PER_CALL:
            parts.append([])
            size = file.stat().st_size
        parts[-1].append(file)
    return parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a report. Exit code 0; 1 if an image, the server, a folder or stdout prevented it; 130 after Ctrl-C."""
    options = Options(**vars(_parser().parse_args(arguments)))
    escape_unprintable_names()
    try:
        return _evaluate(options)
    except KeyboardInterrupt:
        give_up_stdout()
        print("serve.evaluate: interrupted", file=sys.stderr)
        return INTERRUPTED


def judge_corrupted(client: Client, files: Sequence[Path], options: Options) -> dict[str, list[float]]:
    """The accuracy for each corruption that the options name and each severity, over all files."""
    numbers = {file: number for number, file in enumerate(files)}

    def measure(name: str, severity: int) -> float:
        def read(file: Path) -> bytes:
            return corrupt_file(read_example(file), name, severity, numbers[file])

        accuracy: float = summarize(judge(client, files, options.model, options.version, read))["accuracy"]
        return accuracy

    names = read_names(options.corruptions or "")
    return {name: [measure(name, severity) for severity in SEVERITIES] for name in names}


def _evaluate(options: Options) -> int:
    corrupted: dict[str, list[float]] = {}
    try:
        with open_client(options.read_endpoint(), CONNECTIONS) as client:
            files = take_sample(find_examples(options.folder), options.sample)
            versions = options.compare or [options.version]
            verdicts = [judge(client, files, options.model, version) for version in versions]
            if options.corruptions is not None:
                corrupted = judge_corrupted(client, files, options)
    except (InklingError, OSError) as error:
        if options.json:
            print(dump(describe_error(to_call_error(error))))
        else:
            print(f"serve.evaluate: {escape(str(error))}")
        return 1
    try:
        _report(options, verdicts, corrupted)
        sys.stdout.flush()
    except OSError as error:
        give_up_stdout()
        if not isinstance(error, BrokenPipeError):  # that is `head`, which has what it wanted
            print(f"serve.evaluate: cannot write to standard output: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def to_call_error(error: Exception) -> CallError:
    """An error as the field `error` of JSON has it."""
    return error if isinstance(error, CallError) else CallError("FAILED_PRECONDITION", "NOT_EVALUATED", str(error))


def _report(options: Options, verdicts: Sequence[Sequence[Verdict]], corrupted: dict[str, list[float]]) -> None:
    summary = summarize(verdicts[0])
    if corrupted and options.json:
        print(dump({"accuracy": summary["accuracy"], "images": summary["images"], **summarize_table(corrupted)}))
    elif corrupted:
        print_table(corrupted, summary["accuracy"], summary["images"])
    elif options.compare:
        print_comparison(options.compare, verdicts[0], verdicts[1], options.mistakes)
    elif options.json:
        print(json.dumps(summary, allow_nan=False))
    else:
        print_report(verdicts[0], options.mistakes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.evaluate", description="Measure a served model's accuracy.")
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="evaluate the images in the class folders of DIR")
    add_connection_flags(parser)
    add("--model", default="", metavar="NAME", help="use the model NAME (default: the server's only model)")
    add("--version", default="", metavar="V", help="use version V of the model (default: the highest)")
    add("--compare", nargs=2, metavar=("V1", "V2"), help="compare two versions of the model, image by image")
    corrupted = "measure these corruptions of CIFAR-10-C, names with commas or all; without names those of its mean"
    add("--corruptions", nargs="?", const="", metavar="NAMES", help=corrupted)
    add("--sample", type=int, default=0, metavar="N", help="evaluate N images, evenly from all; 0 is all (default: 0)")
    add("--mistakes", type=int, default=10, metavar="N", help="list at most N mistakes; 0 lists none (default: 10)")
    add("--json", action="store_true", help="print one line of JSON instead of the table")
    return parser
