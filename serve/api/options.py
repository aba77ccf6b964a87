"""How a caller asks for an answer: options -> labels, or what is wrong with them.

Enters: the options of a request, and what a model's file says. Leaves: the labels of a language, or OptionError.
Does not know: images, answers, or how a reply is written.
"""

from collections.abc import Mapping

from serve.errors import OptionError, list_some, quote
from serve.inference.runner import Runner
from serve.pb import classifier_pb2 as pb

DEFAULT_TOP_K = 5
DEFAULT_LANGUAGE = "en"
LONGEST_TAG = 100
"""Characters of a language tag that are read: it is shortened subtag by subtag, which takes time for megabytes."""


def find_labels(labels: Mapping[str, tuple[str, ...]], options: pb.ClassifyOptions) -> tuple[str, ...]:
    """The labels in the language asked for, by the lookup of RFC 4647: "ru-RU" and "RU" find "ru".

    Raises OptionError for an unknown language, with the known ones, and for a negative top_k.
    """
    if options.top_k < 0:
        raise OptionError(f"top_k: wanted 0 (the first {DEFAULT_TOP_K}) or more, got {options.top_k}")
    tag = options.language_code[:LONGEST_TAG].lower()
    if not tag:
        return labels.get(DEFAULT_LANGUAGE) or next(iter(labels.values()))
    known = {code.lower(): texts for code, texts in labels.items()}
    while tag:
        if tag in known:
            return known[tag]
        tag = tag.rpartition("-")[0]
    raise OptionError(f"language_code: wanted one of {list_some(labels)}; got {quote(options.language_code)}")


def check_familiarity(runner: Runner, options: pb.ClassifyOptions) -> None:
    """Raise OptionError for a least familiarity that is no share, or that the model cannot tell."""
    least = options.min_familiarity
    if not least:
        return
    if not 0 < least <= 1:  # also where it is not a number
        raise OptionError(f"min_familiarity: wanted a share from 0 (off) to 1, got {least:g}")
    if runner.spec.familiarity is None:
        raise OptionError(f"min_familiarity: wanted 0, for {runner.name} gives no familiarity; got {least:g}")
