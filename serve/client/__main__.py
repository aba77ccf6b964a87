"""`python -m serve.client IMAGE...`: files, folders and globs -> a table with bars, or JSON lines.

Enters: paths, or an image on standard input. Leaves: a line for each image on stdout. Exit code 0 if all images were
classified, 1 if any failed, 2 for bad usage, 130 after Ctrl-C. Does not know: gRPC and its messages (`client.py`).
"""

import dataclasses
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from serve.client.client import DEFAULT_MAX_MESSAGE_BYTES, NO_CONNECTION, Client, open_client
from serve.client.commands.classify_flags import Options, make_parser
from serve.client.commands.explain import make_folder, write_steps
from serve.client.commands.files import STANDARD_INPUT, find_images, read_image, read_standard_input
from serve.client.commands.output import (
    INTERRUPTED,
    Outcome,
    check_answer,
    describe_error,
    dump,
    escape,
    escape_unprintable_names,
    give_up_stdout,
    measure_width,
    to_json,
    to_row,
)
from serve.errors import CallError, ConfigError
from serve.folders import describe_left_out

CONNECTIONS = 4
CALLS_IN_FLIGHT = 8
DEAD_AFTER = 8
"""Images in a row that reached no server before the others are given up."""
UNREACHED = ("GRPC", "TLS_FAILED", "NO_SERVER")
"""Reasons of calls that no server answered."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify the images that the command line names, and print the answers."""
    parser = make_parser()
    options = Options(**vars(parser.parse_args(arguments)))
    if options.images.count(STANDARD_INPUT) > 1:
        parser.error("wanted standard input (-) at most once, got it twice")
    escape_unprintable_names()
    counts = Counts()
    try:
        return _run(options, counts)
    except KeyboardInterrupt:
        give_up_stdout()
        print(f"serve.client: interrupted after {counts.done} of {counts.files} images", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of stdout, such as `head`, has closed it
        give_up_stdout()
        return 1
    except OSError as error:  # a full disk; files that cannot be read are CallErrors
        give_up_stdout()
        print(f"serve.client: cannot write to standard output: {error.strerror}", file=sys.stderr)
        return 1


def _run(options: Options, counts: "Counts") -> int:
    """The exit code, with a sentence on stderr for what failed before any image."""
    try:
        return _classify_all(options, counts)
    except ConfigError as error:
        _print_failure(options, CallError("INVALID_ARGUMENT", "USAGE", str(error)))
        make_parser().exit(2, f"serve.client: {error}\n")
    except CallError as error:
        _print_failure(options, error)
        make_parser().exit(1, f"serve.client: {escape(options.address)}: {error}\n")


@dataclasses.dataclass(slots=True)
class Counts:
    """How far a command came."""

    files: int = 0
    done: int = 0
    failed: int = 0
    unreached_in_a_row: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count an image's outcome."""
        self.done += 1
        self.failed += isinstance(outcome, CallError)
        self.unreached_in_a_row = self.unreached_in_a_row + 1 if is_unreached(outcome) else 0


def is_unreached(outcome: Outcome) -> bool:
    """Whether no server answered a call."""
    return isinstance(outcome, CallError) and outcome.code in NO_CONNECTION and outcome.reason in UNREACHED


def _classify_all(options: Options, counts: Counts) -> int:
    """The exit code. Raises ConfigError, CallError if the server does not get ready, and OSError of stdout."""
    if options.explain:
        make_folder(options.explain)
    with open_client(options.read_endpoint(), CONNECTIONS) as client:
        images = find_images(options.images)
        if images.left_out:
            print(f"serve.client: {escape(describe_left_out(images.left_out))}", file=sys.stderr)
        files = images.names
        counts.files = len(files)
        if options.wait:
            client.wait_until_ready(options.wait)
        given = read_given_input(files)
        width = measure_width(files)
        outcomes = classify_in_order(client, files, lambda name: _classify(client, name, given, options))
        with closing(outcomes):
            for name, outcome in outcomes:
                row = to_json(name, outcome) if options.json else to_row(name, outcome, width, options.language)
                print(row, flush=True)
                counts.add(outcome)
                if counts.unreached_in_a_row == DEAD_AFTER:
                    break
    _print_summary(options, counts)
    return 1 if counts.failed else 0


def read_given_input(files: Sequence[str]) -> bytes | CallError:
    """The image on standard input, if it is among the files. It is read here, where Ctrl-C ends it."""
    try:
        return read_standard_input(DEFAULT_MAX_MESSAGE_BYTES) if STANDARD_INPUT in files else b""
    except CallError as error:
        return error


def classify_in_order(
    client: Client, files: Sequence[str], classify: Callable[[str], Outcome]
) -> Generator[tuple[str, Outcome], None, None]:
    """Classify with several calls in flight, in the order of the files. Nothing is begun far ahead of the reader."""
    waiting: deque[tuple[str, Future[Outcome]]] = deque()
    with ThreadPoolExecutor(CALLS_IN_FLIGHT) as pool:
        try:
            for name in files:
                waiting.append((name, pool.submit(classify, name)))
                if len(waiting) >= CALLS_IN_FLIGHT:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        except BaseException:  # the reader stopped early, or Ctrl-C
            client.close()
            pool.shutdown(cancel_futures=True)
            raise


def _classify(client: Client, name: str, given: bytes | CallError, options: Options) -> Outcome:
    try:
        image = given if name == STANDARD_INPUT else read_image(name, DEFAULT_MAX_MESSAGE_BYTES)
        if isinstance(image, CallError):
            return image
        answer = client.classify(
            image,
            model=options.model,
            top_k=options.top,
            language=options.language,
            min_familiarity=options.min_familiarity,
            return_steps=options.explain is not None,
        )
        if options.explain:
            write_steps(options.explain, name, answer.steps)
        return check_answer(answer)
    except CallError as error:
        return error


def _print_failure(options: Options, error: CallError) -> None:
    """What failed before any image, as JSON on stdout, for programs. People read stderr."""
    if options.json:
        print(dump(describe_error(error)), flush=True)


def _print_summary(options: Options, counts: Counts) -> None:
    untried = counts.files - counts.done
    sentence = f"{untried} of {counts.files} were not tried, because no server answered the {DEAD_AFTER} before them"
    if options.json and untried:
        error = CallError("UNAVAILABLE", "NOT_TRIED", sentence)
        print(dump({"not_tried": untried, **describe_error(error)}), flush=True)
    elif not options.json and counts.failed:
        print(f"{counts.failed} of {counts.files} failed{f'; {sentence}' if untried else ''}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
