"""`python -m serve.score IN --model DIR --out FILE`: score any number of images without a server.

Enters: flags. Leaves: a file of results, and a sentence on stderr. The exit code is 0: done, also if images had errors;
2: bad usage; 130: Ctrl-C; 1: otherwise. After an interruption the same command goes on.
Does not know: how images are found, scored and written.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from serve.errors import ConfigError, InklingError
from serve.flags import count_from
from serve.program import name_program, prepare_streams
from serve.score.local import Options, Summary, score
from serve.score.scorer import BATCH, MAX_IMAGE_PIXELS

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Score what the flags name."""
    prepare_streams()
    given = vars(_parser().parse_args(arguments))
    address = given.pop("ray")
    options = Options(**given)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it cleans up as Ctrl-C does
    try:
        if address is None:
            print(_tell(score(options), options.out), file=sys.stderr)
        else:
            from serve.score.ray_data import score_over_ray  # here: only this form needs the extra [ray]

            score_over_ray(options, address)
            print(f"wrote {options.out}", file=sys.stderr)
    except KeyboardInterrupt:
        print("serve.score: interrupted; the same command goes on behind the last finished shard", file=sys.stderr)
        return INTERRUPTED
    except (InklingError, OSError) as error:
        print(f"serve.score: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _tell(summary: Summary, out: str) -> str:
    before = summary.images - summary.scored
    earlier = f", {before:,} in an earlier run" if before else ""
    rate = summary.scored / summary.elapsed_s
    return (
        f"wrote {out}: {summary.images:,} images{earlier}; {summary.errors:,} have an error; "
        f"{summary.elapsed_s:.1f} s, {rate:,.0f} images/s"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name_program("serve.score"),
        allow_abbrev=False,
        description="Score images without a server: labels and probabilities of every one, in one file.",
        epilog="A run that was interrupted goes on with the same command.",
    )
    add = parser.add_argument
    add(
        "place",
        metavar="IN",
        help="score the images of this folder, glob, tar or Parquet file; - reads names, a line each",
    )
    add(
        "--model", type=Path, required=True, metavar="DIR", help="use this model.onnx, or the highest version below DIR"
    )
    add("--out", required=True, metavar="FILE", help="write to this file, which ends in .csv, .jsonl or .parquet")
    add("--top-k", type=count_from(1), default=1, metavar="K", help="write the K most probable labels (default: 1)")
    add("--language", default="", metavar="CODE", help="write labels of this language (default: the model's first)")
    precisions = ("float32", "float16", "int8")
    add(
        "--precision",
        choices=precisions,
        default="float32",
        help="run the file of this precision, if there is one (default: float32)",
    )
    add("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="run on this device (default: cpu)")
    add(
        "--column",
        default="",
        metavar="NAME",
        help="take images from this column of a Parquet file (default: its only one)",
    )
    add(
        "--workers",
        type=count_from(0),
        default=0,
        metavar="N",
        help="score with N processes; 0 takes one a core (default: 0)",
    )
    add("--batch", type=count_from(1), default=BATCH, metavar="N", help=f"run N images at once (default: {BATCH})")
    shard = Options.__dataclass_fields__["shard_size"].default
    add(
        "--shard-size",
        type=count_from(1),
        default=shard,
        metavar="N",
        help=f"save every N images; an interruption costs at most those (default: {shard})",
    )
    add(
        "--max-image-pixels",
        type=count_from(1),
        default=MAX_IMAGE_PIXELS,
        metavar="N",
        help=f"take images of at most N pixels (default: {MAX_IMAGE_PIXELS})",
    )
    add(
        "--ray",
        metavar="ADDRESS",
        help="score over the Ray cluster at ADDRESS; auto finds one, local starts one (default: no Ray)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
