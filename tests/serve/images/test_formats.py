"""serve.images.formats: what is no supported image is named in words."""

import base64
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.errors import UnreadableImage
from serve.images.decode import FORMAT_NAMES, decode
from serve.images.formats import name_content
from tests.serve.images.test_decode import draw
from tests.support import ROOT, encode

REPORTED = ROOT / "tests/reported/files"


def saved(array: bool) -> bytes:
    """A NumPy file: an array or an archive."""
    buffer = io.BytesIO()
    (np.save if array else np.savez)(buffer, np.zeros(3))
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", b"x")
    return buffer.getvalue()


PNG = encode(draw())
CASES = {
    "a HEIC image": (REPORTED / "phone.heic").read_bytes(),
    "base64 text": (REPORTED / "cat-as-base64.txt").read_bytes(),
    "base64 text; send the bytes": base64.urlsafe_b64encode(PNG),
    "a data URL": b"data:image/png;base64," + base64.b64encode(PNG),
    "an address": b"https://example.org/cat.png",
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    "an SVG drawing": b'<?xml version="1.0"?>\n<!-- made -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "an HTML page": b"<!doctype html><html>",
    "JSON text": b'{"image": "abc"}',
    "a NumPy array file": saved(array=True),
    "a NumPy archive": saved(array=False),
    "a ZIP archive": zipped(),
    "a gzip archive": gzip.compress(PNG),
    "a JPEG 2000 image": encode(draw().resize((32, 32)), "JPEG2000"),
    "a Netpbm image": encode(draw(), "PPM"),
    "a RIFF file of the kind WAVE": b"RIFF\x24\0\0\0WAVEfmt ",
    "an MP4 or QuickTime video": b"\0\0\0\x18ftypisom\0\0\2\0",
    "a path": b"/home/me/cat.png\n",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "text that begins 'hello": b"hello, world",
    "8 bytes beginning": bytes(range(8)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_image_is_named(name: str) -> None:
    assert name_content(CASES[name]).startswith(name)


@pytest.mark.parametrize("name", [name for name in CASES if "RIFF" not in name])
def test_the_refusal_says_what_was_wanted_and_what_came(name: str) -> None:
    with pytest.raises(UnreadableImage) as refused:
        decode(CASES[name], 1_000_000)
    assert str(refused.value).startswith(f"wanted a {FORMAT_NAMES} file, got {name}")


def test_any_bytes_have_a_name_of_one_short_line() -> None:
    generator = np.random.default_rng(0)
    for length in range(200):
        name = name_content(generator.bytes(length))
        assert name.isprintable()
        assert len(name) < 120


def test_the_files_of_the_reports_are_there() -> None:
    assert {path.suffix for path in Path(REPORTED).iterdir()} == {".avif", ".heic", ".jpg", ".txt"}


def test_a_picture_in_colours_that_pillow_does_not_convert_is_refused_by_their_name() -> None:
    buffer = io.BytesIO()
    Image.new("LAB", (9, 9)).save(buffer, "TIFF")
    with pytest.raises(UnreadableImage, match=r"wanted grey, a palette, RGB, CMYK or YCbCr, .*, got LAB"):
        decode(buffer.getvalue(), 1_000_000)
