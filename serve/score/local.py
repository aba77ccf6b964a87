"""One machine: a source, cut into shards and chunks -> workers -> shards of rows -> one file.

Enters: `Options`. Leaves: the file of results, and a `Summary`. Does not know: flags, how an image is scored.
Which images a chunk has depends on their order alone, so that a run that was interrupted gives the same bits.
"""

import hashlib
import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import PIL

from serve.errors import ConfigError
from serve.machine.cores import count_usable_cores
from serve.score.model import find_model
from serve.score.output.formats import find_format
from serve.score.output.shards import Shards
from serve.score.progress import Progress
from serve.score.scorer import BATCH, MAX_IMAGE_PIXELS
from serve.score.sources.find import open_source
from serve.score.sources.items import Item, Source
from serve.score.workers import Chunk, Settings, Workers

CHUNK_IMAGES = 64
CHUNK_BYTES = 16 * 2**20
"""A chunk of images that are sent to a worker ends with the image that passes this size."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user asks for."""

    place: str
    model: Path
    out: str
    top_k: int = 1
    language: str = ""
    precision: str = "float32"
    device: str = "cpu"
    column: str = ""
    workers: int = 0
    """Processes; 0 is one a core."""
    batch: int = BATCH
    shard_size: int = 4096
    max_image_pixels: int = MAX_IMAGE_PIXELS

    @property
    def scorer(self) -> dict[str, Any]:
        """Keyword arguments of a `Scorer` beside the model and the column."""
        names = ("top_k", "language", "device", "max_image_pixels")
        return {name: getattr(self, name) for name in names} | {"batch_size": self.batch}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did."""

    images: int
    """Rows of the file."""
    scored: int
    """Images of this run; the others were scored before it was interrupted."""
    errors: int
    """Of those of this run."""
    elapsed_s: float
    start_s: float
    """Of these, the seconds until the workers had loaded the model."""


def score(options: Options) -> Summary:
    """Score everything. Raises ConfigError, ModelFileError, InklingError and OSError; finished shards are kept."""
    out = Path(options.out)
    form = find_format(out)
    if out.exists():
        raise ConfigError(f"--out: wanted a new file, {out} exists already; name another, or remove it")
    model = find_model(options.model, options.precision)
    source = open_source(options.place, options.column)
    plan = {**asdict(options), "model": model.digest, "kind": source.kind, **_find_versions()}
    for name in ("workers", "out", "precision"):  # they change no row
        del plan[name]
    count = options.workers or count_usable_cores()
    started_s = time.monotonic()
    scored = errors = 0
    with (
        Shards(out, plan) as shards,
        Workers(Settings(model, form, options.scorer), count) as workers,
    ):
        start_s = time.monotonic() - started_s
        progress = Progress(sys.stderr, source.count())
        cutter = _Cutter(source, shards, options.shard_size, progress)
        for chunk, rows in workers.run(cutter.cut()):
            shards.append(rows.data)
            if chunk.digest:
                shards.finish(chunk.shard, chunk.digest)
            scored, errors = scored + rows.count, errors + rows.errors
            progress.add(rows.count)
        progress.end()
        if not cutter.images:
            raise ConfigError(f"IN: wanted images, found none in {options.place}")
        shards.join(workers.columns, form)
    return Summary(cutter.images, scored, errors, time.monotonic() - started_s, start_s)


class _Cutter:
    """Cuts the images of a source into chunks, and passes over those of finished shards."""

    def __init__(self, source: Source, shards: Shards, shard_size: int, progress: Progress) -> None:
        self._source = source
        self._shards = shards
        self._shard_size = shard_size
        self._progress = progress
        self.images = 0
        """Images so far, those of finished shards included."""

    def cut(self) -> Iterator[Chunk]:
        """Every chunk that is to be scored; the last one of a shard has its digest, and may be empty.

        Raises ConfigError if a finished shard had other images.
        """
        shard = -1
        for shard, items in enumerate(_divide(self._source.items(), self._shard_size)):
            digest = hashlib.sha256()
            if self._shards.is_done(shard):
                before = self.images
                for item in items:
                    self._note(item, digest)
                self._shards.check(shard, digest.hexdigest())
                self._progress.skip(self.images - before)
            else:
                yield from self._cut_shard(shard, items, digest)
        self._shards.check_end(shard + 1)

    def _cut_shard(self, shard: int, items: Iterator[Item], digest: Any) -> Iterator[Chunk]:
        names: list[str] = []
        images: list[bytes | Exception | None] = []
        size = 0
        for item in items:
            self._note(item, digest)
            image = item.load() if item.load else None
            names.append(item.name)
            images.append(image)
            size += len(image) if isinstance(image, bytes) else 0
            if len(names) == CHUNK_IMAGES or size > CHUNK_BYTES:
                yield Chunk(shard, tuple(names), tuple(images), "")
                names, images, size = [], [], 0
        yield Chunk(shard, tuple(names), tuple(images), digest.hexdigest())

    def _note(self, item: Item, digest: Any) -> None:
        self.images += 1
        digest.update(os.fsencode(item.name) + b"\0")


def _divide(items: Iterator[Item], size: int) -> Iterator[Iterator[Item]]:
    """Runs of `size` items, each of which has to be used up before the next."""
    for first in items:
        yield itertools.chain([first], itertools.islice(items, size - 1))


def _find_versions() -> dict[str, str]:
    """Versions that may change a probability's last digits."""
    return {module.__name__: module.__version__ for module in (onnxruntime, numpy, PIL)}
