"""serve.inference.loader: what is refused leaves the old one live, is tried again when it may, and is named."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from serve.errors import ModelFileError
from serve.model_file.folder import ModelFile
from serve.model_file.serving import ServingSettings
from tests.serve.inference.test_loader import Live, expect, read, run, write
from tests.support import Png, write_tiny_model


def spoil(folder: Path, name: str, version: int, file_name: str = "model.onnx") -> ModelFile:
    """A file that is no model."""
    path = folder / name / str(version) / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{name} {version} {file_name}")
    return read(path)


def test_an_older_version_is_live_in_place_of_one_that_is_refused(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        files = [spoil(tmp_path, "bands", 3), write(tmp_path, "bands", 2), write(tmp_path, "bands", 1)]
        (refusal,) = await state.follow(*files)
        assert (refusal.file.version, state.versions()) == (3, {"bands": (2,)})
        assert state.registry.refusals == (refusal,)

    run(scenario)


def test_an_old_version_goes_on_where_a_refused_one_took_its_place_on_disk(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        await state.follow(write(tmp_path, "bands", 2))
        await state.follow(spoil(tmp_path, "bands", 3))
        assert state.versions() == {"bands": (2,)}
        await state.follow(write(tmp_path, "bands", 4))
        assert (state.versions(), state.registry.refusals) == ({"bands": (4,)}, ())

    run(scenario)


def test_old_bytes_go_on_where_the_new_ones_of_a_version_are_refused(tmp_path: Path, png: Png) -> None:
    async def scenario(state: Live) -> None:
        await state.follow(write(tmp_path, "bands", 1, gain=1))
        (refusal,) = await state.follow(spoil(tmp_path, "bands", 1))
        assert state.registry.refusals == (refusal,)
        assert await state.answer(png(0)) == pytest.approx(expect(1), abs=1e-5)
        assert await state.follow(write(tmp_path, "bands", 1, gain=2)) == []
        assert (await state.answer(png(0)), state.registry.refusals) == (pytest.approx(expect(2), abs=1e-5), ())

    run(scenario)


def test_a_version_whose_preferred_file_is_refused_is_served_by_the_plain_one(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        plain, variant = write(tmp_path, "bands", 1), spoil(tmp_path, "bands", 1, "model.int8.onnx")
        assert await state.follow(variant, plain) == []
        (refusal,) = state.registry.refusals
        assert (state.versions(), refusal.file, refusal.reason[:17]) == ({"bands": (1,)}, variant, "model.int8.onnx: ")

    run(scenario)


def test_a_refused_file_is_tried_again_when_somebody_asks_or_its_bytes_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(state: Live) -> None:
        file = spoil(tmp_path, "bands", 1)
        tries = []
        for retries in ((), (), ("hoops",), ("bands",)):
            await state.follow(file, retries=retries)
            tries.append(sum("refused bands" in text for text in caplog.messages))
        assert tries == [1, 1, 1, 2]
        await state.follow(write(tmp_path, "bands", 1))
        assert state.versions() == {"bands": (1,)}

    run(scenario)


def test_bytes_that_were_not_decided_on_are_not_served(tmp_path: Path, png: Png) -> None:
    async def scenario(state: Live) -> None:
        await state.follow(write(tmp_path, "bands", 1, gain=1))
        decided = write(tmp_path, "bands", 1, gain=2)
        write(tmp_path, "bands", 1, gain=3)
        (refusal,) = await state.follow(decided)
        assert refusal.reason.startswith(f"wanted the bytes that the server decided on, SHA-256 {decided.digest[:12]}")
        assert await state.answer(png(0)) == pytest.approx(expect(1), abs=1e-5)

    run(scenario)


def test_a_file_with_a_problem_stays_where_it_is_live_and_is_loaded_nowhere(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        older, newer = write(tmp_path, "bands", 1), write(tmp_path, "bands", 2)
        given_up = replace(newer, problem="two workers ended")
        await state.follow(newer, older)
        assert await state.follow(given_up, older) == []
        assert state.versions() == {"bands": (2,)}
        await state.follow()
        (refusal,) = await state.follow(given_up, older)
        assert (refusal.reason, state.versions()) == ("two workers ended", {"bands": (1,)})

    run(scenario)


def test_a_model_that_calls_itself_otherwise_is_served_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(state: Live) -> None:
        path = write_tiny_model(tmp_path / "bands", 1, name="hoops\n")
        await state.follow(read(path))
        (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert record.getMessage() == (
            f"{path} is served as bands, and calls itself hoops\\n; is it in another model's folder?"
        )
        assert state.versions() == {"bands": (1,)}

    run(scenario)


def test_a_load_that_fails_changes_nothing(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        with pytest.raises(ModelFileError):
            await state.loader.load(spoil(tmp_path, "bands", 1))
        assert (state.versions(), state.names) == ({}, [])

    run(scenario)


def test_other_settings_load_a_version_anew_and_wrong_ones_leave_it_as_it_is(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        file = write(tmp_path, "bands", 1)
        await state.follow(file)
        assert await state.follow(replace(file, serving=ServingSettings(max_batch=2))) == []
        assert state.registry.find("bands", "").max_batch == 2
        (refusal,) = await state.follow(replace(file, serving=None, problem="serving.toml: wrong"))
        assert refusal.reason == "serving.toml: wrong"
        assert state.registry.find("bands", "").max_batch == 2

    run(scenario)
