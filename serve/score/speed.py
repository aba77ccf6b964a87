"""`python -m serve.score.speed`: how fast `serve.score` is beside what its parts cost, and whether its memory grows.

Enters: flags. Leaves: a line for each round, and a last line of JSON. Does not know: how a run is organised.

The ceiling is decoding, preparing and running on all cores at once: each core repeats, in a process of its own, what a
worker must do with an image, without files, pipes and rows. A round measures the ceiling and the command in turn. The
rate of a run is given with its start and without, because a start counts less the more images there are.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from serve.images.pixels import to_png
from serve.machine.cores import count_usable_cores
from serve.score.local import CHUNK_IMAGES, Options, score
from serve.score.model import find_model
from serve.score.scorer import Scorer

FOLDER_FILES = 1000
DIFFERENT = 512
"""Images that differ; more files repeat them."""
PART_S = 2.0
"""Seconds for which each core repeats the parts."""
SAMPLE_S = 1.0
"""Seconds between two looks at the memory."""


@dataclass(frozen=True, slots=True)
class Round:
    """Images a second of the command with and without its start, and of the parts alone."""

    whole: float
    behind_start: float
    ceiling: float


@dataclass(slots=True)
class Memory:
    """Proportional set size of this process and its children, in MiB, second by second."""

    samples: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The last tenth over the second tenth: the first one is the start."""
        tenth = max(1, len(self.samples) // 10)
        return statistics.mean(self.samples[-tenth:]) / statistics.mean(self.samples[tenth : 2 * tenth] or self.samples)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    flags = _parser().parse_args(arguments)
    files = sorted(flags.images.rglob("*.png")) if flags.images else []
    encoded = [file.read_bytes() for file in files[:DIFFERENT]] or draw_pngs(flags.model)
    rounds, memory = [], Memory()
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder) / "images", encoded, flags.count)
        for number in range(flags.rounds):
            rounds.append(
                measure_round(flags.model, Path(folder), encoded, number=number, workers=flags.workers, memory=memory)
            )
            print(f"round {number + 1}: {describe(rounds[-1])}", flush=True)
    figures = {
        "images": flags.count,
        "cores": count_usable_cores(),
        "images_s": statistics.median(each.whole for each in rounds),
        "images_s_behind_start": statistics.median(each.behind_start for each in rounds),
        "ceiling_images_s": statistics.median(each.ceiling for each in rounds),
        "fraction": statistics.median(each.whole / each.ceiling for each in rounds),
        "fraction_behind_start": statistics.median(each.behind_start / each.ceiling for each in rounds),
        "peak_mib": max(memory.samples, default=0.0),
        "memory_growth": memory.growth if memory.samples else None,
    }
    print(json.dumps({name: round(value, 3) if value else value for name, value in figures.items()}))
    return 0


def measure_round(
    model: Path, folder: Path, encoded: Sequence[bytes], *, number: int, workers: int, memory: Memory
) -> Round:
    """The parts on all cores, then the command."""
    ceiling = measure_ceiling(model, encoded, workers or count_usable_cores())
    out = folder / f"{number}.csv"
    with sampled(memory):
        summary = score(Options(str(folder / "images"), model, str(out), workers=workers))
    return Round(summary.images / summary.elapsed_s, summary.images / (summary.elapsed_s - summary.start_s), ceiling)


def measure_ceiling(model: Path, encoded: Sequence[bytes], cores: int) -> float:
    """Images a second of all cores together, each of which only decodes, prepares and runs."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores)
    with ProcessPoolExecutor(cores, context, initializer=_keep, initargs=(barrier,)) as pool:
        return sum(pool.map(repeat_parts, [model] * cores, [encoded] * cores))


def repeat_parts(model: Path, encoded: Sequence[bytes]) -> float:
    """Images a second of this core, once all processes are ready."""
    scorer = Scorer(find_model(model))
    scorer.score(encoded[:CHUNK_IMAGES])
    _barrier[0].wait()
    images, start_s = 0, time.perf_counter()
    while time.perf_counter() - start_s < PART_S:
        for at in range(0, len(encoded), CHUNK_IMAGES):
            scorer.score(encoded[at : at + CHUNK_IMAGES])
        images += len(encoded)
    return images / (time.perf_counter() - start_s)


_barrier: list[threading.Barrier] = []


def _keep(barrier: threading.Barrier) -> None:
    """Barriers reach a process at its start alone."""
    _barrier.append(barrier)


def draw_pngs(model: Path) -> list[bytes]:
    """Smooth noise in the shape of the model's input."""
    shape = Scorer(model).input_shape
    noise = np.random.default_rng(0).integers(0, 256, (DIFFERENT, 5, 5, shape[2]), np.uint8)
    tall, wide = (-(-side // 5) for side in shape[:2])
    return [to_png(each.repeat(tall, axis=0).repeat(wide, axis=1)[: shape[0], : shape[1]]) for each in noise]


def write_files(folder: Path, encoded: Sequence[bytes], count: int) -> None:
    """Files in folders of FOLDER_FILES."""
    for number, data in enumerate(islice(cycle(encoded), count)):
        file = folder / f"{number // FOLDER_FILES:05}" / f"{number:08}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


@contextmanager
def sampled(memory: Memory) -> Iterator[None]:
    """Look at the memory until the block ends; on systems without /proc there are no samples."""
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(SAMPLE_S):
            if found := measure_pss_mib():
                memory.samples.append(found)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def measure_pss_mib() -> float:
    """Of this process and its children now."""
    total_kib = 0
    own = Path("/proc/self")
    children = [number for task in own.glob("task/*/children") for number in task.read_text().split()]
    for process in ("self", *children):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended, or there is no /proc
            continue
        total_kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kib / 1024


def describe(found: Round) -> str:
    """One line."""
    share, behind = found.whole / found.ceiling, found.behind_start / found.ceiling
    return (
        f"{found.whole:,.0f} images/s with its start, {found.behind_start:,.0f} behind it; decoding and running alone "
        f"{found.ceiling:,.0f}: {share:.2f} and {behind:.2f} of it"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve.score.speed",
        description="Measure serve.score beside decoding and running alone on all cores.",
    )
    add = parser.add_argument
    add(
        "--model", type=Path, default=Path("models/cifar10-cnn"), metavar="DIR", help="the model (default: %(default)s)"
    )
    add("--images", type=Path, metavar="DIR", help="take PNGs of DIR (default: noise in the model's size)")
    add("--count", type=int, default=10_000, metavar="N", help="score N files (default: %(default)s)")
    add("--rounds", type=int, default=3, metavar="N", help="measure N times in turn (default: %(default)s)")
    add("--workers", type=int, default=0, metavar="N", help="use N processes; 0 takes one a core (default: 0)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
