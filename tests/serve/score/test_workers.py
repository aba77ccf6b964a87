"""serve.score.workers: what a worker process does when the run that it belongs to has ended."""

import multiprocessing
from pathlib import Path

import pytest

from serve.score.model import find_model
from serve.score.output.formats import find_format
from serve.score.workers import Settings, work


@pytest.mark.parametrize("options", [{}, {"language": "xx"}], ids=["ready", "failed"])
def test_a_worker_whose_run_has_ended_ends_in_silence(
    repository_folder: Path, capfd: pytest.CaptureFixture[str], options: dict[str, str]
) -> None:
    """Another worker's failure ends a run, and nobody reads what this one sends."""
    settings = Settings(find_model(repository_folder / "bands"), find_format(Path("rows.csv")), options)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, settings))
    process.start()
    theirs.close()
    ours.close()
    process.join(60)
    assert (process.exitcode, capfd.readouterr().err) == (0, "")
