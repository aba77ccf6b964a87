"""`python -m serve.evaluate DIR`: a folder of class folders, through a running server -> accuracy.

Enters: images in folders named by their label, as `python -m train.data --export` writes them, and an address.
Leaves: accuracy, accuracy per class, and the mistakes. With `--compare V1 V2`: the images on which two versions differ.
With `--corruptions`: accuracy for each corruption of CIFAR-10-C and each severity.
Does not know: the model; it calls the server as any other client does.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from serve.client.client import Client, open_client
from serve.client.commands.examples import Example, Examples, Judged, find_examples, judge, read_example
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
from serve.flags import count_from, read_text
from serve.folders import describe_left_out
from serve.program import name_program

CONNECTIONS = 4
SKIPPED_SHOWN = 10
"""Files that were skipped and are named; all are counted."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Options(ConnectionFlags):
    """The command line."""

    folder: Path
    model: str
    version: str
    compare: Sequence[str] | None
    corruptions: Sequence[str] | None
    sample: int
    mistakes: int
    skip_broken: bool
    json: bool


def take_sample(files: Sequence[Item], count: int) -> Sequence[Item]:
    """At most so many of the files, evenly from all of them; 0 takes all."""
    step = max(1, len(files) // count) if count else 1
    return files[::step][: count or None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a report. Exit code 0; 1 if an image, the server, a folder or stdout prevented it; 130 after Ctrl-C."""
    parser = _parser()
    options = Options(**vars(parser.parse_args(arguments)))
    if options.compare and options.corruptions is not None:
        parser.error("--compare, --corruptions: wanted one of them, got both")
    escape_unprintable_names()
    try:
        return _evaluate(options)
    except KeyboardInterrupt:
        give_up_stdout()
        print("serve.evaluate: interrupted", file=sys.stderr)
        return INTERRUPTED


def judge_corrupted(client: Client, examples: Sequence[Example], options: Options) -> dict[str, list[float]]:
    """The accuracy for each corruption of the options and each severity, over all examples."""
    numbers = {example.file: number for number, example in enumerate(examples)}

    def measure(name: str, severity: int) -> float:
        def read(file: Path) -> bytes:
            return corrupt_file(read_example(file), name, severity, numbers[file])

        judged = judge(client, examples, options.model, options.version, skip_broken=options.skip_broken, read=read)
        accuracy: float = summarize(judged.verdicts)["accuracy"]
        return accuracy

    return {name: [measure(name, severity) for severity in SEVERITIES] for name in options.corruptions or ()}


def _evaluate(options: Options) -> int:
    corrupted: dict[str, list[float]] = {}
    try:
        with open_client(options.read_endpoint(), CONNECTIONS) as client:
            examples = find_examples(options.folder)
            chosen = take_sample(examples.chosen, options.sample)
            versions = options.compare or [options.version]
            judged = [judge(client, chosen, options.model, each, skip_broken=options.skip_broken) for each in versions]
            if options.corruptions is not None:
                corrupted = judge_corrupted(client, chosen, options)
    except (InklingError, OSError) as error:
        failure = (
            dump(describe_error(to_call_error(error))) if options.json else f"serve.evaluate: {escape(str(error))}"
        )
        _write(lambda: print(failure))
        return 1
    return 0 if _write(lambda: _report(options, examples, judged, corrupted)) else 1


def _write(report: Callable[[], None]) -> bool:
    """Print a report. Whether stdout took all of it."""
    try:
        report()
        print(end="", flush=True)  # sys.stdout is None if it is closed
    except OSError as error:
        give_up_stdout()
        if not isinstance(error, BrokenPipeError):  # that is `head`, which has what it wanted
            print(f"serve.evaluate: cannot write to standard output: {error.strerror}", file=sys.stderr)
        return False
    return True


def to_call_error(error: Exception) -> CallError:
    """An error as the field `error` of JSON has it."""
    return error if isinstance(error, CallError) else CallError("FAILED_PRECONDITION", "NOT_EVALUATED", str(error))


def _report(options: Options, examples: Examples, judged: Sequence[Judged], corrupted: dict[str, list[float]]) -> None:
    first = judged[0]
    summary = summarize(first.verdicts)
    if corrupted and options.json:
        print(dump({"accuracy": summary["accuracy"], "images": summary["images"], **summarize_table(corrupted)}))
    elif corrupted:
        print_table(corrupted, summary["accuracy"], summary["images"])
    elif options.compare:
        print_comparison(options.compare, *take_common(first, judged[1]), options.mistakes)
    elif options.json:
        counts = {"skipped": len(first.skipped), "left_out": len(examples.left_out), "part": examples.part}
        print(json.dumps(summary | counts, allow_nan=False))
    else:
        print_report(first.verdicts, options.mistakes)
    for line in [] if options.json and not options.compare else describe_rest(examples, first):
        print(escape(line))


def take_common(first: Judged, second: Judged) -> tuple[list[Verdict], list[Verdict]]:
    """The verdicts on files that both versions answered."""
    files = {each.file for each in first.verdicts} & {each.file for each in second.verdicts}
    return [each for each in first.verdicts if each.file in files], [
        each for each in second.verdicts if each.file in files
    ]


def describe_rest(examples: Examples, judged: Judged) -> list[str]:
    """What was not evaluated: the other parts of a split, what is no picture, and files that were skipped."""
    lines = [f"evaluated the part {examples.part} of the folder's split"] if examples.part else []
    lines += [describe_left_out(examples.left_out)] if examples.left_out else []
    if judged.skipped:
        lines.append(f"skipped {len(judged.skipped)} files that cannot be used")
    return lines + [f"  {each.file}: {each.problem}" for each in judged.skipped[:SKIPPED_SHOWN]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name_program("serve.evaluate"), description="Measure a served model's accuracy."
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="evaluate the images in the class folders of DIR")
    add_connection_flags(parser)
    only = "use the model NAME (default: the server's only model)"
    add("--model", type=read_text, default="", metavar="NAME", help=only)
    add("--version", type=read_text, default="", metavar="V", help="use version V of the model (default: the highest)")
    both = "compare two versions of the model, image by image"
    add("--compare", type=read_text, nargs=2, metavar=("V1", "V2"), help=both)
    corrupted = "measure these corruptions of CIFAR-10-C, names with commas or all; without names those of its mean"
    add("--corruptions", type=read_names, nargs="?", const=read_names(""), metavar="NAMES", help=corrupted)
    evenly = "evaluate N images, evenly from all; 0 is all (default: 0)"
    add("--sample", type=count_from(0), default=0, metavar="N", help=evenly)
    most = "list at most N mistakes; 0 lists none (default: 10)"
    add("--mistakes", type=count_from(0), default=10, metavar="N", help=most)
    add("--skip-broken", action="store_true", help="skip and count files that cannot be decoded, instead of stopping")
    add("--json", action="store_true", help="print one line of JSON instead of the table")
    return parser
