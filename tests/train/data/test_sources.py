"""`train.data.sources`: files are found, checked, fetched or refused."""

import dataclasses
import hashlib
import sys
import tarfile
from pathlib import Path

import pytest

from train.data.sources import SOURCES, DatasetError, Source, read_files

FILES = {name: name.encode() * 100 for name in SOURCES["cifar10"].md5s}


def source_of(files: dict[str, bytes], source: Source, **changes: object) -> Source:
    """A source whose published files are these."""
    md5s = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in files.items()}
    return dataclasses.replace(source, md5s=md5s, **changes)  # type: ignore[arg-type]


def write(files: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_the_published_archive_replaces_its_folder(tmp_path: Path) -> None:
    write(FILES, tmp_path / "cifar-10-batches-py")
    archive = tmp_path / "elsewhere" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    source = source_of(FILES, SOURCES["cifar10"], archive_md5=md5)
    assert read_files(source, archive.parent) == FILES
    assert [path.name for path in archive.parent.iterdir()] == [archive.name], "reading unpacks nothing"


def test_an_archive_with_other_bytes_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"not the archive")
    with pytest.raises(DatasetError, match=r"cifar-10-python\.tar\.gz .* wanted md5 c58f30108f718f92721af3b95e74349a"):
        read_files(SOURCES["cifar10"], tmp_path)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_one_flipped_byte_is_noticed_and_named_with_both_sums(tmp_path: Path, name: str) -> None:
    source = source_of(FILES, SOURCES["cifar10"])
    broken = bytearray(FILES[name])
    broken[len(broken) // 2] ^= 1
    write(FILES | {name: bytes(broken)}, tmp_path / source.folder)
    found = hashlib.md5(broken, usedforsecurity=False).hexdigest()
    with pytest.raises(DatasetError, match=f"{name} is not .*{source.md5s[name]}, found {found}"):
        read_files(source, tmp_path)


def test_a_dataset_that_cannot_be_fetched_says_what_to_put_where(tmp_path: Path) -> None:
    """The only address is a missing folder, so no connection is tried."""
    source = dataclasses.replace(SOURCES["mnist"], addresses=((tmp_path / "nowhere").as_uri() + "/",))
    with pytest.raises(DatasetError) as caught:
        read_files(source, tmp_path)
    for file, md5 in source.md5s.items():
        assert f"{tmp_path / 'mnist' / file}  (md5 {md5})" in str(caught.value)
    assert "INKLING_DATA" in str(caught.value)
    assert list((tmp_path / "mnist").iterdir()) == [], "no half file"


def test_without_keras_an_absent_dataset_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras.utils", None)
    with pytest.raises(
        DatasetError, match=r'keras\S*, which fetches it, comes with pip install -e "\.\[cpu,train\]"'
    ) as caught:
        read_files(SOURCES["mnist"], tmp_path)
    assert "INKLING_DATA" in str(caught.value)
    assert "could not be fetched" not in str(caught.value)


def test_an_absent_file_is_fetched_from_the_first_address_that_has_it(tmp_path: Path) -> None:
    """The mirror is a local folder, which the same downloader reads without a network."""
    files = {"a.gz": b"first", "b.gz": b"second"}
    write(files, tmp_path / "mirror")
    addresses = ((tmp_path / "nowhere").as_uri() + "/", (tmp_path / "mirror").as_uri() + "/")
    source = source_of(files, SOURCES["mnist"], addresses=addresses)
    assert read_files(source, tmp_path / "data") == files
    assert sorted(path.name for path in (tmp_path / "data" / "mnist").iterdir()) == sorted(files)


def test_a_mirror_with_other_bytes_leaves_no_file(tmp_path: Path) -> None:
    write({"a.gz": b"other"}, tmp_path / "mirror")
    source = source_of({"a.gz": b"first"}, SOURCES["mnist"], addresses=((tmp_path / "mirror").as_uri() + "/",))
    with pytest.raises(DatasetError, match=r"a\.gz could not be fetched"):
        read_files(source, tmp_path / "data")
    assert list((tmp_path / "data" / "mnist").iterdir()) == []
