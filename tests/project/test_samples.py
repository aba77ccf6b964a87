"""The sample images: drawn again as they are, named by their labels, listed with source and license."""

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
    """A file's name as the README writes it."""
    return path.relative_to(SAMPLES).as_posix()


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the script has just drawn."""
    folder = tmp_path_factory.mktemp("samples")
    subprocess.run([sys.executable, "-W", "error", SAMPLES / "draw.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def readme() -> str:
    """The table of sources."""
    return (SAMPLES / "README.md").read_text(encoding="utf-8")


def test_script_draws_every_file_whose_source_is_the_script(redrawn: Path, readme: str) -> None:
    """No drawn file is missing from the table, and none is claimed that the script does not draw."""
    drawn = {path.relative_to(redrawn).as_posix() for path in redrawn.rglob("*.*")}
    assert drawn == set(re.findall(r"^\| `([^`]+)` .*\| `draw\.py` \|", readme, re.MULTILINE))


@pytest.mark.parametrize("path", DRAWN, ids=name_of)
def test_script_reproduces_the_pixels(path: Path, redrawn: Path) -> None:
    """What is kept is what the script draws today."""
    with Image.open(path) as kept, Image.open(redrawn / name_of(path)) as new:
        assert (kept.format, kept.mode, kept.size) == (new.format, new.mode, new.size)
        difference = np.abs(np.asarray(kept.convert("RGBA"), np.int16) - np.asarray(new.convert("RGBA"), np.int16))
    # Equal on one machine with one Pillow; other codecs and other floating-point units round otherwise here and there.
    assert difference.mean() < 0.02, f"{difference.mean():.3f} grey levels apart on average"


def test_readme_lists_exactly_the_files_that_are_there(readme: str) -> None:
    """Both ways: no file without a row, no row without a file."""
    listed = re.findall(r"^\| `([^`]+)` ", readme, re.MULTILINE)
    assert sorted(listed) == [name_of(path) for path in IMAGES]


@pytest.mark.parametrize("path", IMAGES, ids=name_of)
def test_readme_states_size_and_license(path: Path, readme: str) -> None:
    """Each row is true of its file."""
    (row,) = (line for line in readme.splitlines() if line.startswith(f"| `{name_of(path)}` "))
    _, _, _, size, source, terms, _ = (cell.strip() for cell in row.split("|"))
    with Image.open(path) as image:
        words = {"L": "grey", "P": "palette"}
        assert size == f"{image.width} x {image.height}, {words.get(image.mode, image.mode)}"
    assert source
    assert terms.startswith(("Apache-2.0", "CC0"))


@pytest.mark.parametrize("path", IMAGES, ids=name_of)
def test_name_begins_with_a_label_of_its_folder(path: Path) -> None:
    """So that whoever classifies the files can tell right from wrong."""
    labels = {"digits": DIGITS, "objects": OBJECTS}[path.parent.name]
    assert path.stem.split("-")[0] in labels


def test_every_digit_is_there() -> None:
    """Ten digits, each at least once."""
    assert {path.name[0] for path in IMAGES if path.parent.name == "digits"} == DIGITS


@pytest.mark.parametrize("path", IMAGES, ids=name_of)
def test_pillow_decodes_the_whole_file(path: Path) -> None:
    """To the last row, and something is to be seen."""
    with Image.open(path) as image:
        image.load()
        assert image.convert("L").getextrema() != (0, 0)


def test_turned_cat_is_the_upright_one_once_its_orientation_is_obeyed() -> None:
    """Two JPEG encodings of one picture differ by little; a cat on its side differs by much."""
    with Image.open(SAMPLES / "objects/cat-chelsea-rotated.jpg") as turned:
        upright = np.asarray(ImageOps.exif_transpose(turned), np.int16)
    with Image.open(SAMPLES / "objects/cat-chelsea.jpg") as cat:
        assert np.abs(upright - np.asarray(cat, np.int16)).mean() < 4


def test_all_samples_together_stay_under_600_kilobytes() -> None:
    """They travel with every clone."""
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 600_000
