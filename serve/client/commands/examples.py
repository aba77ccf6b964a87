"""Class folders -> examples with their class, and what a served model answers to them.

Enters: a folder, a client. Leaves: verdicts, and the files that no answer could be had for. Does not know: command
lines, how a report looks, or the model: it calls the server as any other client does.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from serve.client.client import DEFAULT_MAX_MESSAGE_BYTES, Client
from serve.client.commands.files import read_image
from serve.client.commands.verdicts import Verdict
from serve.errors import CallError, InklingError
from serve.folders import LeftOut, choose_unseen, find_parts, normalise
from serve.pb import classifier_pb2 as pb

IMAGES_PER_CALL = 64
MAX_CALL_BYTES = 8 * 2**20
"""Bytes of images in one call: half of the server's default limit. A larger file is sent alone."""
CALLS_IN_FLIGHT = 4
BROKEN = ("IMAGE_EMPTY", "IMAGE_UNREADABLE", "IMAGE_TRUNCATED", "IMAGE_TOO_LARGE", "FILE_UNREADABLE")
"""Reasons of errors that are a file's own fault."""


@dataclass(frozen=True, slots=True)
class Example:
    """An image and its class, which is the folder's name in NFC."""

    file: Path
    label: str


@dataclass(frozen=True)
class Examples:
    """What a folder holds."""

    chosen: Sequence[Example]
    left_out: Sequence[LeftOut]
    part: str
    """The part of a split that was chosen; empty if the folder gives none."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that no answer could be had for, and why."""

    file: Path
    problem: str


@dataclass(frozen=True)
class Judged:
    """The outcome for each example, in their order."""

    verdicts: list[Verdict] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def find_examples(folder: Path) -> Examples:
    """Every picture in the class folders of a folder; of one that gives a split, in its test or validation part.

    Raises InklingError if there is none.
    """
    parts = find_parts(folder)
    name = choose_unseen(parts)
    found = parts[name]
    chosen = [Example(file, label) for label, files in found.files.items() for file in files]
    if not chosen:
        raise InklingError(f"wanted class folders with images in them, found none in {folder}")
    return Examples(chosen, found.left_out, name if len(parts) > 1 else "")


def read_example(file: Path) -> bytes:
    """The bytes of an image. Raises CallError for what is no file or too large for a call."""
    return read_image(str(file), DEFAULT_MAX_MESSAGE_BYTES)


def judge(
    client: Client,
    examples: Sequence[Example],
    model: str,
    version: str,
    *,
    skip_broken: bool = False,
    read: Callable[[Path], bytes] = read_example,
) -> Judged:
    """Classify every example, with the bytes that `read` gives.

    Raises InklingError for the first image that fails, and for a folder that is not named by a label of the model.
    With `skip_broken`, files that cannot be read or decoded are skipped, and other failures are raised.
    """
    language = find_language(client.get_model(model, version), {example.label for example in examples})

    def judge_some(some: Sequence[Example]) -> list[Verdict | Skipped]:
        images = [_try(read, example.file) for example in some]
        sent = [image for image in images if isinstance(image, bytes)]
        answers = iter(
            client.classify_many(sent, model=model, version=version, top_k=1, language=language) if sent else []
        )
        outcomes: list[Verdict | Skipped] = []
        for example, image in zip(some, images, strict=True):
            answer = next(answers) if isinstance(image, bytes) else image
            if not isinstance(answer, CallError):
                got = normalise(answer.best.label)
                outcomes.append(Verdict(example.file, example.label, got, answer.best.probability))
            elif skip_broken and (answer.reason in BROKEN or answer is image):
                outcomes.append(Skipped(example.file, answer.message))
            else:
                raise InklingError(f"{example.file}: {answer.message if answer is image else answer}")
        return outcomes

    judged = Judged()
    with ThreadPoolExecutor(CALLS_IN_FLIGHT) as pool:
        for outcomes in pool.map(judge_some, split_into_calls(examples)):
            judged.verdicts.extend(each for each in outcomes if isinstance(each, Verdict))
            judged.skipped.extend(each for each in outcomes if isinstance(each, Skipped))
    if not judged.verdicts:
        raise InklingError(f"wanted images that can be classified, all {len(judged.skipped)} were skipped")
    return judged


def _try(read: Callable[[Path], bytes], file: Path) -> bytes | CallError:
    """The bytes of a file, or what keeps it from being read, such as a size above a message's."""
    try:
        return read(file)
    except CallError as error:
        return error


def find_language(model: pb.Model, names: set[str]) -> str:
    """The first of a model's languages that has all names among its labels, both in NFC. Raises InklingError."""
    for each in model.label_sets:
        if names <= set(map(normalise, each.labels)):
            return each.language_code
    labels = set(map(normalise, model.label_sets[0].labels))
    unknown = names - labels
    raise InklingError(f"wanted folders named {', '.join(sorted(labels))}; got {', '.join(sorted(unknown))}")


def split_into_calls(examples: Sequence[Example]) -> list[list[Example]]:
    """Split the examples, in their order, into calls within IMAGES_PER_CALL and MAX_CALL_BYTES."""
    parts: list[list[Example]] = []
    size = 0
    for example in examples:
        file_size = _measure(example.file)
        size += file_size
        if not parts or size > MAX_CALL_BYTES or len(parts[-1]) == IMAGES_PER_CALL:
            parts.append([])
            size = file_size
        parts[-1].append(example)
    return parts


def _measure(file: Path) -> int:
    """Bytes of a file; 0 if it cannot be told. Then it cannot be read either."""
    try:
        return file.stat().st_size
    except OSError:
        return 0
