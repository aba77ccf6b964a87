"""serve.api.security.files: the last good content stays in force until the files hold another good one."""

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest

from serve.api.security.files import CHECK_S, WatchedFiles
from serve.errors import ConfigError

IN_FORCE_S = 5.0
"""Seconds after which a change is in force, as the documentation says."""


def read_number(path: Path) -> int:
    """A file with a number; anything else is wrong."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        raise ConfigError(f"{path}: wanted a number") from None


def watch(path: Path, **options: bool) -> WatchedFiles[int]:
    """A watched file with a number."""
    return WatchedFiles([path], lambda: read_number(path), str, **options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that holds 1."""
    file = tmp_path / "number"
    file.write_text("1")
    return file


def test_a_change_is_read_once_the_file_has_stopped_changing(file: Path) -> None:
    files = watch(file)
    file.write_text("22")
    files.check()
    assert files.content == 1
    file.write_text("333")
    files.check()
    assert files.content == 1
    files.check()
    assert files.content == 333


def test_what_did_not_change_is_not_read_again(file: Path) -> None:
    reads = []

    def read() -> int:
        reads.append(file)
        return read_number(file)

    files = WatchedFiles([file], read, str)
    for _ in range(5):
        files.check()
    assert len(reads) == 1


def test_a_file_that_is_replaced_by_one_of_equal_size_and_time_has_changed(file: Path) -> None:
    files = watch(file)
    new = file.with_name("new")
    new.write_text("2")
    facts = file.stat()
    os.utime(new, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    new.replace(file)
    files.check()
    files.check()
    assert files.content == 2


def test_a_symbolic_link_that_points_elsewhere_has_changed(tmp_path: Path) -> None:
    """As Kubernetes replaces a mounted Secret: `number` leads through `..data`, which is a link itself."""
    for name in ("1", "2"):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "number").write_text(name)
    data, file = tmp_path / "..data", tmp_path / "number"
    data.symlink_to("..1")
    file.symlink_to("..data/number")
    files = watch(file)
    fresh = tmp_path / "..fresh"
    fresh.symlink_to("..2")
    fresh.replace(data)
    files.check()
    files.check()
    assert files.content == 2


@pytest.mark.parametrize("wrong", ["one", "", None])
def test_wrong_content_leaves_the_last_good_one_in_force_and_is_logged_once(
    file: Path, wrong: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    files = watch(file)
    if wrong is None:
        file.unlink()
    else:
        file.write_text(wrong)
    for _ in range(5):
        files.check()
    assert files.content == 1
    assert caplog.messages == [f"{file}: wanted a number; what was read before stays in force"]
    file.write_text("2")
    files.check()
    files.check()
    assert files.content == 2


def test_a_read_that_fails_otherwise_is_logged_and_tried_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[int | Exception] = [1, MemoryError("full"), 2]

    def read() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    files = WatchedFiles([file], read, str)
    file.touch()
    for _ in range(4):
        files.check()
    assert files.content == 2
    assert caplog.messages == ["MemoryError('full'); what was read before stays in force"]


def test_content_that_changes_while_it_is_read_is_not_taken(file: Path) -> None:
    texts = iter(["", "22", ""])

    def read() -> int:
        number = read_number(file)
        if text := next(texts):
            file.write_text(text)
        return number

    files = WatchedFiles([file], read, str)
    file.write_text("3")
    files.check()
    files.check()
    assert files.content == 1, "3 was replaced while it was read"
    files.check()
    files.check()
    assert files.content == 22


def test_the_first_content_has_to_be_right(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wanted a number"):
        watch(tmp_path / "none")


def test_each_new_content_is_logged_in_the_words_of_who_reads_it(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    files = watch(file)
    for text in ("2", "3\n"):
        file.write_text(text)
        files.check()
        files.check()
    assert caplog.messages == ["in force: 1", "in force: 2", "in force: 3"]


def test_a_quiet_one_logs_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    files = watch(file, is_quiet=True)
    for text in ("one", "2"):
        file.write_text(text)
        files.check()
        files.check()
    assert files.content == 2
    assert not caplog.messages


def test_a_watch_brings_a_change_into_force_in_time(file: Path) -> None:
    async def main() -> float:
        files = watch(file)
        watching = asyncio.create_task(files.watch())
        await asyncio.sleep(0.1)
        file.write_text("2")
        began_s = time.monotonic()
        async with asyncio.timeout(30):
            while files.content != 2:
                await asyncio.sleep(0.01)
        watching.cancel()
        return time.monotonic() - began_s

    assert asyncio.run(main()) < IN_FORCE_S
    assert 3 * CHECK_S < IN_FORCE_S
