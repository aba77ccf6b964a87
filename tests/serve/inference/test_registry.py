"""serve.inference.registry: the right version of the right model; a bad file costs nobody but itself."""

import asyncio
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pytest

from serve.api.inkling_v1 import describe
from serve.errors import NotFound, list_some
from serve.images.pool import DecodePool
from serve.inference import device
from serve.inference.loader import Loader
from serve.inference.registry import Registry
from serve.inference.runner import RunnerLimits
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.watchdog import UNWATCHED
from serve.model_file.repository import Repository, count_live
from serve.model_file.spec import PrepareSpec
from tests.support import GREY, RGB, make_graph, make_spec, write_tiny_model
from train.export.onnx_file import measure_self_test, seal_model

ALL = count_live("all")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 2, 9 and 10 of `bands`, version 1 of `grey-bands`."""
    folder = tmp_path_factory.mktemp("models")
    first = write_tiny_model(folder / "bands", 2)
    for version in (9, 10):
        shutil.copytree(first.parent, folder / "bands" / str(version))
    grey = PrepareSpec("digit", 1, {"box": 8})
    write_tiny_model(folder / "grey-bands", 1, name="grey-bands", input=GREY, prepare=grey)
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / "models"))


@contextmanager
def opened(folder: Path, precision: str = "float32") -> Iterator[Registry]:
    """The live set of a folder, loaded as the server loads it."""
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as side_thread:

        async def load_all() -> Registry:
            registry = Registry()
            placement = device.Placement("cpu", threads=1, max_batch=8, gpu_memory_bytes=0)
            limits = RunnerLimits(8, 2**20, max_queue_delay_us=0, max_image_pixels=10_000)
            loader = Loader(
                registry,
                placement,
                limits=limits,
                cpu=CpuPolicy(1, 0),
                pool=DecodePool(side_thread, 1, 10_000, 10_000),
                watchdog=UNWATCHED,
                describe=describe,
            )
            repository = Repository(folder, precision, ALL)
            repository.look_first()
            await loader.follow(list(chain.from_iterable(repository.models.values())), ALL)
            return registry

        async def close_all(registry: Registry) -> None:
            for each in registry.list():
                await each.close()

        registry = runner.run(load_all())
        try:
            yield registry
        finally:
            runner.run(close_all(registry))


@pytest.fixture(scope="module")
def registry(folder: Path) -> Iterator[Registry]:
    """The whole folder, loaded."""
    with opened(folder) as registry:
        yield registry


def refuse(folder: Path, place: str, data: bytes) -> None:
    """Put something that is no model file into a place of a folder."""
    path = folder / place / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_what_is_served_is_the_file_of_the_precision_asked_for(copy: Path) -> None:
    """The tiny model under another name for its precision: what a file says of itself is what is reported."""
    made = write_tiny_model(copy.parent / "made", precision="float16")
    shutil.copy(made, copy / "bands/10/model.float16.onnx")
    for precision, highest in (("float16", "float16"), ("float32", "float32")):
        with opened(copy, precision) as registry:
            assert registry.find("bands", "").spec.precision == highest
            assert registry.find("bands", "2").spec.precision == "float32"


def test_the_plain_file_serves_if_that_of_the_precision_is_bad(copy: Path) -> None:
    (copy / "bands/10/model.int8.onnx").write_bytes(b"broken")
    with opened(copy, "int8") as registry:
        assert (registry.find("bands", "10").spec.precision, len(registry.list())) == ("float32", 4)
        (refusal,) = registry.refusals
    assert (refusal.file.version, refusal.reason.startswith("model.int8.onnx: ")) == (10, True)


def test_an_empty_version_is_the_highest_by_number(registry: Registry) -> None:
    assert registry.find("bands", "").version == 10


@pytest.mark.parametrize("version", [2, 9, 10])
def test_a_version_is_found_by_its_number(registry: Registry, version: int) -> None:
    found = registry.find("bands", str(version))
    assert (found.name, found.version) == ("bands", version)


def test_models_are_listed_short_names_first_and_highest_version_first(copy: Path) -> None:
    """By letter alone, `a-band-of-grey` and `arch` would come first; by length alone, `hoops` might."""
    for name in ("hoops", "a-band-of-grey", "arch"):
        shutil.copytree(copy / "grey-bands", copy / name)
    with opened(copy) as registry:
        assert registry.names == ["arch", "bands", "hoops", "grey-bands", "a-band-of-grey"]
        listed = [(each.name, each.version) for each in registry.list()]
    assert listed[1:4] == [("bands", 10), ("bands", 9), ("bands", 2)]
    assert len(listed) == 7


@pytest.mark.parametrize("name", ["poster", "Bands", "", "bands/2", "../bands"])
def test_an_unknown_name_is_answered_with_the_known_ones(registry: Registry, name: str) -> None:
    with pytest.raises(NotFound) as caught:
        registry.find(name, "")
    assert str(caught.value) == f"wanted one of the models bands, grey-bands; got {name!r}"


@pytest.mark.parametrize("version", ["3", "02", "10.0", "latest", "-10", " 2", "\u0662"])
def test_an_unknown_version_is_answered_with_the_known_ones(registry: Registry, version: str) -> None:
    with pytest.raises(NotFound) as caught:
        registry.find("bands", version)
    assert str(caught.value) == f"wanted one of the versions of bands: 10, 9, 2; got {version!r}"


def test_a_version_that_is_removed_is_not_found_and_a_model_without_versions_has_no_name(copy: Path) -> None:
    with opened(copy) as registry:
        ten = registry.find("bands", "10")
        assert registry.remove("bands", 10) is ten
        assert (registry.versions("bands"), registry.find("bands", "").version) == ((9, 2), 9)
        assert registry.remove("bands", 10) is registry.remove("hoops", 1) is None
        grey = registry.remove("grey-bands", 1)
        assert (registry.names, registry.versions("grey-bands")) == (["bands"], ())
        for runner in (ten, grey):
            assert runner
            registry.put(runner)
        assert [(each.name, each.version) for each in registry.list()][:2] == [("bands", 10), ("bands", 9)]
        assert registry.names == ["bands", "grey-bands"]


def test_of_many_names_an_error_has_some_and_the_number_of_the_others() -> None:
    """They are sent in headers, twice, and clients take headers of some kilobytes."""
    names = [f"a-model-with-a-name-of-{number}" for number in range(200)]
    listed = list_some(names)
    assert listed.startswith("a-model-with-a-name-of-0, a-model-with-a-name-of-1, ")
    assert len(listed) < 400
    shown = listed.count("a-model")
    assert listed.endswith(f", ... and {200 - shown} more; ListModels has all")
    assert shown > 5
    assert list_some(names[:3]) == ", ".join(names[:3])


def test_of_many_versions_an_error_has_some(copy: Path) -> None:
    shutil.copytree(copy / "bands/2", copy / "bands" / ("1" * 200))
    shutil.copytree(copy / "bands/2", copy / "bands" / ("2" * 200))
    with opened(copy) as registry, pytest.raises(NotFound) as caught:
        registry.find("bands", "3")
    assert str(caught.value).endswith(f"of bands: {'2' * 200}, ... and 4 more; ListModels has all; got '3'")


def test_an_empty_name_is_the_only_model(copy: Path) -> None:
    shutil.rmtree(copy / "grey-bands")
    with opened(copy) as registry:
        assert registry.find("", "").name == "bands"
        assert registry.find("", "9").version == 9
        with pytest.raises(NotFound, match="wanted one of the models bands; got 'hoops'"):
            registry.find("hoops", "")


def test_a_runner_that_takes_the_place_of_another_gives_that_one_back(registry: Registry) -> None:
    """Whoever puts it there closes the other."""
    own, nine = Registry(), registry.find("bands", "9")
    assert (own.names, own.list(), own.refusals, own.unloaded) == ([], [], (), ())
    assert own.put(nine) is None
    assert own.put(nine) is nine
    assert own.remove("bands", 9) is nine
    assert own.put(nine) is None


def test_refused_files_are_listed_with_the_reason_and_others_are_served(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(copy, "bands/11", b"a text file")
    damaged = bytearray((copy / "bands/9/model.onnx").read_bytes())
    damaged[300] ^= 1
    refuse(copy, "bands/9", bytes(damaged))
    with opened(copy) as registry:
        assert [(each.name, each.version) for each in registry.list()] == [
            ("bands", 10),
            ("bands", 2),
            ("grey-bands", 1),
        ]
        assert registry.find("bands", "").version == 10
        refused = {(each.file.name, each.file.version): each.reason for each in registry.refusals}
    assert set(refused) == {("bands", 9), ("bands", 11)}
    assert "changed or damaged after export" in refused["bands", 9]
    assert "lacks the metadata key" in refused["bands", 11]
    assert [record.getMessage() for record in caplog.records] == [
        f"refused {name} version {version}: {reason} ({copy / name / str(version)}/model.onnx)"
        for (name, version), reason in sorted(refused.items(), reverse=True)
    ]


def test_a_file_that_cannot_be_read_is_refused_without_its_place(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ListModels tells anyone; the log has the path."""
    (copy / "bands/12/model.onnx").mkdir(parents=True)
    with opened(copy) as registry:
        (refusal,) = registry.refusals
    assert (refusal.file.version, refusal.reason.startswith("wanted a file, found something else")) == (12, True)
    assert str(copy) in caplog.text


def test_a_policy_that_the_server_does_not_know_is_a_reason_to_refuse(copy: Path) -> None:
    graph, later = make_graph(RGB.shape), PrepareSpec("photo", 7, {})
    refuse(copy, "bands/12", seal_model(graph, make_spec(prepare=later, self_test=measure_self_test(graph, RGB.shape))))
    with opened(copy) as registry:
        (refusal,) = registry.refusals
        assert "got photo/7 (rgb)" in refusal.reason
        assert registry.find("bands", "").version == 10


def test_a_folder_in_place_of_a_file_costs_nobody_but_itself(copy: Path) -> None:
    (copy / "bands" / "12" / "model.onnx").mkdir(parents=True)
    with opened(copy) as registry:
        (refusal,) = registry.refusals
        assert refusal.file.version == 12
        assert len(registry.list()) == 4
