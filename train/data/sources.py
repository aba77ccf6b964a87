"""Where a dataset is published -> the bytes of its files, checked.

Enters: a `Source` and a folder; the network only where files are absent. Leaves: the published bytes by file name.
Does not know: what is in them. It imports no TensorFlow, except with Keras' downloader when a file is absent.

MNIST: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits" (1998).
CIFAR-10: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
"""

import hashlib
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve.errors import InklingError
from train.data.files import UnusableFile, read_file

MOST_BYTES = 2**28  # of a published file; the largest is the archive of CIFAR-10


class DatasetError(InklingError):
    """A dataset cannot be used: it is absent and cannot be fetched, or its files are not the published ones."""


@dataclass(frozen=True)
class Source:
    """Where a dataset's files lie, which checksums they have, and where to fetch them."""

    folder: str
    """The name of its folder in the data folder."""
    md5s: Mapping[str, str]
    """The published checksum of every file in `folder`, by file name."""
    archive: str | None
    """The published archive that holds `folder`, or None. It may lie in the data folder instead."""
    archive_md5: str | None
    addresses: tuple[str, ...]
    """Addresses of web folders that hold the files or the archive, tried in order."""


SOURCES = {
    "mnist": Source(
        folder="mnist",
        md5s={
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
        archive=None,
        archive_md5=None,
        # The author's own address has refused downloads since 2024. These two mirror the same bytes.
        addresses=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    "cifar10": Source(
        folder="cifar-10-batches-py",
        md5s={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        archive="cifar-10-python.tar.gz",
        archive_md5="c58f30108f718f92721af3b95e74349a",
        addresses=("https://www.cs.toronto.edu/~kriz/",),
    ),
}


def read_files(source: Source, folder: Path) -> dict[str, bytes]:
    """Read the published files, fetch them if absent, and check them: bytes by file name. Raises DatasetError."""
    if not (_has_members(source, folder) or (source.archive and (folder / source.archive).is_file())):
        fetch(source, folder)
    if source.archive and not _has_members(source, folder):
        files = _read_archive(source, folder / source.archive)
    else:
        files = {file: _read(folder / source.folder / file) for file in source.md5s}
    for file, wanted in source.md5s.items():
        check_md5(file, files[file], wanted)
    return files


def check_md5(file: str, data: bytes, wanted: str) -> None:
    """Raise DatasetError if the bytes of `file` do not have the published checksum."""
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != wanted:
        raise DatasetError(
            f"{file} is not the published file: wanted md5 {wanted}, found {found}; delete it to have it fetched again"
        )


def fetch(source: Source, folder: Path) -> None:
    """Download absent files into `folder`. Raises DatasetError, which says which files to put where by hand."""
    wanted = {source.archive: source.archive_md5} if source.archive else source.md5s
    place = folder if source.archive else folder / source.folder
    for file, md5 in wanted.items():
        if file and md5 and not (place / file).exists():
            _fetch_file(source, file, md5, place, folder)


def _fetch_file(source: Source, file: str, md5: str, place: Path, folder: Path) -> None:
    failures = []
    for address in source.addresses:
        try:
            return _download(address + file, md5, place / file)
        except ModuleNotFoundError as error:
            missing = (
                f'{file} is not there, and {error.name}, which fetches it, comes with pip install -e ".[cpu,train]"\n'
            )
            raise DatasetError(missing + explain_placement(source, folder)) from error
        except Exception as error:  # get_file raises a plain Exception for every failure of the network
            failures.append(f"  {address + file}: {error}")
    raise DatasetError(
        f"{file} could not be fetched:\n" + "\n".join(failures) + "\n" + explain_placement(source, folder)
    )


def _download(address: str, md5: str, target: Path) -> None:
    from keras.utils import get_file  # not above: it imports a backend, and only a first run needs it

    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching {address} into {target.parent}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as temporary:
        path = get_file(target.name, address, cache_dir=temporary, cache_subdir="", file_hash=md5, hash_algorithm="md5")
        Path(path).replace(target)


def explain_placement(source: Source, folder: Path) -> str:
    """Say which files to put where on a machine without a network."""
    files = "\n".join(f"  {folder / source.folder / file}  (md5 {md5})" for file, md5 in source.md5s.items())
    archive = f"or the archive\n  {folder / source.archive}  (md5 {source.archive_md5})\n" if source.archive else ""
    return (
        f"Without a network, fetch from {' or '.join(source.addresses)} elsewhere and put\n{files}\n{archive}"
        "or name the folder that has them with --data DIR or INKLING_DATA."
    )


def _has_members(source: Source, folder: Path) -> bool:
    return all((folder / source.folder / file).is_file() for file in source.md5s)


def _read(path: Path) -> bytes:
    try:
        return read_file(path, MOST_BYTES)
    except UnusableFile as error:
        raise DatasetError(f"{path}: {error}; delete it to have it fetched again") from error


def _read_archive(source: Source, path: Path) -> dict[str, bytes]:
    data = _read(path)
    check_md5(path.name, data, source.archive_md5 or "")
    del data
    with tarfile.open(path) as archive:
        members = {file: archive.extractfile(f"{source.folder}/{file}") for file in source.md5s}
        return {file: member.read() for file, member in members.items() if member}
