"""A Ray cluster: whatever Ray Data reads -> an actor a core with a `Scorer` each -> a folder of whatever it writes.

Enters: `Options` and the cluster's address. Leaves: a folder of files of results, in order. Does not know: how an image
is scored, shards. What a lost node had, Ray itself does again.
The model travels to the nodes through Ray's object store. Inkling itself has to be installed there.
"""

import sys
import tempfile
from dataclasses import replace
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

from serve.cluster import connect
from serve.errors import ConfigError, InklingError
from serve.folders import IMAGE_SUFFIXES
from serve.score.local import CHUNK_IMAGES, Options
from serve.score.model import Model, find_model
from serve.score.output.formats import to_table
from serve.score.scorer import Scorer, take_bytes
from serve.score.sources.archive import read_tar
from serve.score.sources.find import STANDARD_INPUT, open_source
from serve.score.sources.table import choose_column

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LIGHT = {"num_cpus": 0}
"""Readers and writers reserve no core: they would wait for ever if a lost node leaves only cores that actors hold."""
WRITERS = {".csv": "write_csv", ".jsonl": "write_json", ".parquet": "write_parquet"}


def score_over_ray(options: Options, address: str) -> None:
    """Score everything. Raises ConfigError, ModelFileError, OSError, and InklingError if Ray fails."""
    writer = WRITERS.get(Path(options.out).suffix.lower())
    if not writer:
        raise ConfigError(f"--out: wanted a folder that ends in {', '.join(WRITERS)}; got {options.out}")
    model = find_model(options.model, options.precision)
    ray = connect(address)
    try:
        import_module("ray.data")  # here: `ray` alone has no data sets

        actors = options.workers or count_actors(ray.cluster_resources().get("CPU", 0))
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = sys.stderr.isatty()
        images, column = read_images(ray, options)
        scored = images.map_batches(
            Actor,
            batch_size=CHUNK_IMAGES,
            batch_format="pyarrow",
            fn_constructor_args=(ray.put(model.path.read_bytes()), model, column, options.scorer),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
            num_cpus=1,
        )
        getattr(scored, writer)(options.out, mode=ray.data.SaveMode.ERROR, ray_remote_args=LIGHT)
    except ray.exceptions.RayError as error:
        raise InklingError(f"Ray could not finish: {str(error).splitlines()[-1]}") from error
    finally:
        ray.shutdown()


def count_actors(cores: float) -> int:
    """An actor a core, but for one that reads."""
    return max(1, int(cores) - 1)


def read_images(ray: Any, options: Options) -> tuple[Any, str]:
    """A data set of image files, and the name of the column that holds their bytes."""
    place = options.place
    if place.lower().endswith(".parquet"):
        table = ray.data.read_parquet(place, **LIGHT)
        column = options.column or choose_column(place, table.schema().base_schema)
        return table, column
    if place.lower().endswith(TAR_SUFFIXES):
        archives = ray.data.read_binary_files(place, include_paths=True, **LIGHT)
        return archives.flat_map(unpack), "bytes"
    if place == STANDARD_INPUT:
        names = [item.name for item in open_source(place).items()]
        return ray.data.read_binary_files(names, include_paths=True, **LIGHT), "bytes"
    suffixes = sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
    return (
        ray.data.read_binary_files(place, include_paths=True, file_extensions=suffixes, **LIGHT),
        "bytes",
    )


def unpack(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The images in an archive, as rows."""
    items = ((item.name, item.load()) for item in read_tar(row["path"], BytesIO(row["bytes"])) if item.load)
    return [{"path": name, "bytes": data if isinstance(data, bytes) else None} for name, data in items]


class Actor:
    """What runs on a core of the cluster: a model, and tables of Arrow that come and go."""

    def __init__(self, model_bytes: Any, model: Model, column: str, options: dict[str, Any]) -> None:
        """`model_bytes` is a reference into Ray's object store."""
        import ray

        self._column = column
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(ray.get(model_bytes))
            self._scorer = Scorer(replace(model, path=path), **options)

    def __call__(self, table: Any) -> Any:
        """The table without its images, and with the columns of answers."""
        cells = table.column(self._column).to_pylist()
        answers = to_table(self._scorer.score(list(map(take_bytes, cells))))
        kept = table.drop_columns([self._column])
        for name in answers.column_names:
            kept = kept.append_column(name, answers.column(name))
        return kept
