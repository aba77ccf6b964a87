"""The answers for images -> lines on stdout: a table with bars, or JSON.

Enters: names, classifications and errors. Leaves: lines whose control characters are escaped.
Does not know: gRPC, files.
"""

import dataclasses
import io
import json
import math
import os
import sys
from collections.abc import Iterable
from typing import Any, TypeAlias

from serve.client.messages import Classification
from serve.errors import CallError

BAR_WIDTH = 24
ORDINARY_NOTE = "ONE_PART"
"""The note of an image as it should be, which a row does not repeat."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""

UNKNOWN = {
    "en": "unknown",
    "ru": "неизвестно",
    "de": "unbekannt",
    "fr": "inconnu",
    "es": "desconocido",
    "it": "sconosciuto",
    "pt": "desconhecido",
    "uk": "невідомо",
}
"""The word by language, for an image that shows none of the classes."""

Outcome: TypeAlias = Classification | CallError


def escape_unprintable_names() -> None:
    """Print characters that stdout cannot encode as escapes: file names that are not UTF-8, and bars."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def give_up_stdout() -> None:
    """Write nothing more to stdout. The interpreter flushes it at exit, and would fail again as it did before."""
    if sys.stdout is not None:  # it is where stdout is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_answer(outcome: Outcome) -> Outcome:
    """The outcome, or an error in place of an answer that cannot be shown: no classes, or no finite probability."""
    if isinstance(outcome, CallError):
        return outcome
    if not outcome.classes:
        return CallError("INTERNAL", "ANSWER_INVALID", "wanted at least one class in the answer, got none")
    for each in outcome.classes:
        if not math.isfinite(each.probability):
            return CallError("INTERNAL", "ANSWER_INVALID", f"wanted finite probabilities, got {each.probability}")
    return outcome


def to_row(name: str, outcome: Outcome, width: int, language: str = "") -> str:
    """A row of the table: the name, the best label with a bar, the other labels, and the familiarity if there is one.

    An unknown image has that word in the label's place, the familiarity in the bar's, and then all labels.
    """
    shown = f"{escape(name):{width}}"
    if isinstance(outcome, CallError):
        return f"{shown}  FAILED  {escape(str(outcome))}"
    best, *others = outcome.classes
    first, share, rest = escape(best.label), best.probability, others
    notes = [note.replace("_", " ").lower() for note in outcome.notes if note != ORDINARY_NOTE]
    ending = [] if outcome.familiarity is None else [f"familiarity {outcome.familiarity:.1%}"]
    if outcome.unknown and outcome.familiarity is not None:
        first, share, rest = name_unknown(language), outcome.familiarity, [best, *others]
    labels = [f"{escape(each.label)} {each.probability:.1%}" for each in rest]
    ending += [f"({escape(', '.join(notes))})"] if notes else []
    return f"{shown}  {first:<10} {bar(share)} {share:6.1%}  {'  '.join([*labels, *ending])}"


def name_unknown(language: str) -> str:
    """The word for an image of no class, in the language of a tag such as `ru-RU`, or in English."""
    return UNKNOWN.get(language.lower().partition("-")[0], UNKNOWN["en"])


def measure_width(names: Iterable[str]) -> int:
    """The characters of the longest name in the table."""
    return max((len(escape(name)) for name in names), default=0)


def escape(text: str) -> str:
    """A text in one line: characters that a terminal would obey, such as line breaks, as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def bar(share: float) -> str:
    """A bar whose full part is `share` of its fixed width, to an eighth of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * BAR_WIDTH * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[rest]).ljust(BAR_WIDTH)[:BAR_WIDTH]


def to_json(name: str, outcome: Outcome) -> str:
    """A line of JSON for an image."""
    if isinstance(outcome, CallError):
        return dump({"file": name, **describe_error(outcome)})
    facts = dataclasses.asdict(outcome)
    facts = {name: fact for name, fact in facts.items() if name not in ("prepared_png", "steps")}
    if outcome.familiarity is None:
        facts.pop("familiarity")
        facts.pop("unknown")
    return dump({"file": name, **facts})


def describe_error(error: CallError) -> dict[str, Any]:
    """The field `error` of a line of JSON."""
    return {"error": {"code": error.code, "reason": error.reason, "message": error.message}}


def dump(facts: dict[str, Any]) -> str:
    """One line of JSON that stays JSON in the encoding of stdout, which has none where it is closed."""
    encoding = getattr(sys.stdout, "encoding", None) or ""
    takes_all = encoding.lower().replace("-", "") == "utf8"
    return json.dumps(facts, ensure_ascii=not takes_all, allow_nan=False)
