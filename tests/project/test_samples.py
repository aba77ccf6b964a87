"""samples/: the script draws the same images again; files are named by label and listed with source and license."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.support import ROOT

SAMPLES = ROOT / "samples"
IMAGES = sorted(path for path in SAMPLES.rglob("*/*.*") if path.suffix in {".png", ".jpg", ".webp", ".gif"})
DRAWN = [path for path in IMAGES if path.parent.name == "digits" or path.stem.endswith("-drawn")]
DIGITS = set("0123456789")
OBJECTS = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}


def name_of(path: Path) -> str:
    """A file's path in the form of the README."""
    return path.relative_to(SAMPLES).as_posix()


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with new images by the script."""
    folder = tmp_path_factory.mktemp("samples")
    subprocess.run([sys.executable, "-W", "error", SAMPLES / "draw.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def readme() -> str:
    """The page with the table of sources."""
    return (SAMPLES / "README.md").read_text(encoding="utf-8")


def test_the_script_draws_the_files_whose_source_it_is(redrawn: Path, readme: str) -> None:
    """The table lists every file that the script draws, and names the script for no other."""
    drawn = {path.relative_to(redrawn).as_posix() for path in redrawn.rglob("*.*")}
    assert drawn == set(re.findall(r"^\| `([^`]+)` .*\| `draw\.py` \|", readme, re.MULTILINE))


@pytest.mark.parametrize("path", DRAWN, ids=name_of)
def test_the_script_reproduces_the_pixels(path: Path, redrawn: Path) -> None:
    with Image.open(path) as kept, Image.open(redrawn / name_of(path)) as new:
        assert (kept.format, kept.mode, kept.size) == (new.format, new.mode, new.size)
        difference = np.abs(np.asarray(kept.convert("RGBA"), np.int16) - np.asarray(new.convert("RGBA"), np.int16))
    # The pixels are equal with one version of Pillow. Other codecs and other processors round differently.
    assert difference.mean() < 0.02, f"{difference.mean():.3f} grey levels apart on average"


def test_the_page_lists_exactly_the_existing_files(readme: str) -> None:
    listed = re.findall(r"^\| `([^`]+)` ", readme, re.MULTILINE)
    assert sorted(listed) == [name_of(path) for path in IMAGES]


@pytest.mark.parametrize("path", IMAGES, ids=name_of)
def test_the_page_states_size_source_and_license(path: Path, readme: str) -> None:
    (row,) = (line for line in readme.splitlines() if line.startswith(f"| `{name_of(path)}` "))
    _, _, _, size, source, terms, _ = (cell.strip() for cell in row.split("|"))
    with Image.open(path) as image:
        words = {"L": "grey", "P": "palette"}
        assert size == f"{image.width} x {image.height}, {words.get(image.mode, image.mode)}"
    assert source
    assert terms.startswith(("Apache-2.0", "CC0"))


@pytest.mark.parametrize("path", IMAGES, ids=name_of)
def test_a_name_begins_with_a_label_of_its_folder(path: Path) -> None:
    """The name tells whether an answer is right."""
    labels = {"digits": DIGITS, "objects": OBJECTS}[path.parent.name]
    assert path.stem.split("-")[0] in labels


def test_every_digit_has_a_sample() -> None:
    assert {path.name[0] for path in IMAGES if path.parent.name == "digits"} == DIGITS


@pytest.mark.parametrize("path", IMAGES, ids=name_of)
def test_pillow_decodes_the_whole_file(path: Path) -> None:
    """The image is not black."""
    with Image.open(path) as image:
        image.load()
        assert image.convert("L").getextrema() != (0, 0)


def test_the_rotated_cat_turned_by_its_exif_is_the_upright_one() -> None:
    """Two JPEG encodings of one picture differ little, but a cat on its side differs much."""
    with Image.open(SAMPLES / "objects/cat-chelsea-rotated.jpg") as turned:
        upright = np.asarray(ImageOps.exif_transpose(turned), np.int16)
    with Image.open(SAMPLES / "objects/cat-chelsea.jpg") as cat:
        assert np.abs(upright - np.asarray(cat, np.int16)).mean() < 4


def test_all_samples_together_stay_under_600_kilobytes() -> None:
    """Every clone contains them."""
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 600_000
