"""serve.images.policies.digit_2: ink is told from paper by what it is, and the digit from what is around it."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from serve.images.decode import decode
from serve.images.pixels import Pixels, Report
from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from tests.serve.images.policies.test_digit_1 import (
    EL,
    GREY_28,
    INVERTED,
    ONE,
    SEVEN,
    WHITE,
    differ,
    draw_strokes,
    mass_centre,
)
from tests.serve.images.test_pixels import ORIENTATION_TRANSPOSES, exif_of
from tests.support import Png, reopen

DIGIT = find_policy(PrepareSpec("digit", 2, {"box": 20}), GREY_28)
Page = npt.NDArray[np.uint8]
CLEAN = draw_strokes(SEVEN, scale=6, at=(40, 25))
"""A seven of 72 x 108 pixels on white, 200 x 200."""


def page() -> Page:
    """The clean page's levels, to write on."""
    return np.array(CLEAN)


def seen(image: Image.Image) -> list[str]:
    """The notes for an image."""
    report = Report()
    DIGIT(image, report)
    return report.notes


def mend(levels: npt.ArrayLike) -> float:
    """How far what is made of a page is from what is made of the clean one, in levels."""
    return differ(DIGIT(Image.fromarray(np.asarray(levels).astype(np.uint8))), DIGIT(CLEAN))


@given(st.integers(0, 2**32))
def test_an_image_like_mnists_is_unchanged(seed: int) -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 6:20] = np.random.default_rng(seed).integers(0, 256, (20, 14))
    np.testing.assert_array_equal(DIGIT(reopen(Image.fromarray(pixels)))[..., 0], pixels)


@pytest.mark.parametrize("band", range(3))
def test_an_image_in_the_models_size_and_mode_is_unchanged(png: Png, band: int) -> None:
    policy = find_policy(PrepareSpec("digit", 2, {"box": 8}), InputSpec((12, 12, 1), "uint8", "grey"))
    image = decode(png(band, mode="L"), 1_000)
    np.testing.assert_array_equal(policy(image)[..., 0], np.asarray(image))


@pytest.mark.parametrize(("paper", "ink"), [(125, 35), (90, 25), (150, 235), (60, 200), (255, 180), (0, 60)])
def test_the_levels_of_paper_and_ink_do_not_matter(paper: int, ink: int) -> None:
    assert mend(np.where(page() == 0, ink, paper)) < 3


@pytest.mark.parametrize("lost", [0.3, 0.5])
@pytest.mark.parametrize("slope", [-0.3, 0.0, 0.4])
def test_the_edge_of_a_shadow_is_not_ink(lost: float, slope: float) -> None:
    rows, columns = np.mgrid[:200, :200]
    shade = np.where(columns + slope * (rows - 100) > 75, 1 - lost, 1)
    assert mend(page() * shade) < 3


def test_uneven_light_is_not_ink() -> None:
    rows, columns = np.mgrid[:200, :200]
    assert mend(page() * (1 - 0.6 * (rows + columns) / 400)) < 3


@pytest.mark.parametrize("level", [0, 140])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("tilt", [0.0, 0.03])
def test_lines_across_the_page_are_not_ink(level: int, both: bool, tilt: float) -> None:
    lines = page()
    for turned in (lines, lines.T) if both else (lines,):
        columns = np.arange(200)
        for start in (12, 77, 150):
            rows = np.rint(start + tilt * columns).astype(int)
            for row in (rows, rows + 1):
                turned[row, columns] = np.minimum(turned[row, columns], level)
    assert mend(lines) < 6


@pytest.mark.parametrize("width", [1, 3, 12, 20])
def test_a_frame_around_the_page_is_not_ink(width: int) -> None:
    framed = np.pad(page(), width, constant_values=0)
    assert mend(framed) < 4


@pytest.mark.parametrize("side", range(4))
def test_a_line_along_one_edge_is_not_ink(side: int) -> None:
    lined = page()
    np.rot90(lined, side)[:2] = 0
    assert mend(lined) < 3


def test_a_border_line_inset_from_the_edges_is_not_ink() -> None:
    image = CLEAN.copy()
    ImageDraw.Draw(image).rectangle((8, 8, 191, 191), outline=20, width=2)
    assert differ(DIGIT(image), DIGIT(CLEAN)) < 3


@pytest.mark.parametrize("angle", [-4, 0, 3])
def test_a_desk_around_the_page_is_not_ink(angle: int) -> None:
    desk = Image.effect_noise((280, 270), 8).point([level // 2 for level in range(256)])
    sheet = Image.new("L", desk.size)
    sheet.paste(WHITE, (35, 40, 235, 240))
    written = desk.copy()
    written.paste(CLEAN, (35, 40))
    turned = Image.composite(written.rotate(angle), desk, sheet.rotate(angle))
    assert differ(DIGIT(turned), DIGIT(CLEAN.rotate(angle, fillcolor=WHITE))) < 6


def test_specks_go_and_the_parts_of_one_digit_stay() -> None:
    image = CLEAN.copy()
    draw = ImageDraw.Draw(image)
    draw.point([(5, 190), (180, 12), (190, 100)], fill=0)
    draw.rectangle((20, 170, 22, 172), fill=0)
    assert differ(DIGIT(image), DIGIT(CLEAN)) < 1
    crossed = CLEAN.copy()
    ImageDraw.Draw(crossed).line((48, 118, 80, 118), fill=0, width=12)
    assert differ(DIGIT(crossed), DIGIT(CLEAN)) > 3
    assert seen(crossed) == ["ONE_PART"]


def test_a_stroke_that_touches_the_edge_stays() -> None:
    cut = CLEAN.crop((0, 0, 200, 110))
    white = Image.new("L", (200, 130), WHITE)
    white.paste(cut)
    assert differ(DIGIT(cut), DIGIT(white)) < 3
    assert seen(cut) == ["ONE_PART"]


@pytest.mark.parametrize("level", [0, 60, 128, 200, 255])
@pytest.mark.parametrize("noise", [0, 3, 12])
def test_an_empty_page_has_no_ink(level: int, noise: int) -> None:
    levels = level + np.random.default_rng(0).normal(0, noise, (150, 180))
    image = Image.fromarray(np.clip(levels, 0, WHITE).astype(np.uint8))
    assert seen(image) == ["NO_INK"]
    assert not DIGIT(image).any()


@pytest.mark.parametrize("size", [(29, 28), (1, 1), (300, 20), (2, 900)])
def test_an_empty_image_of_any_shape_gives_zeros(size: tuple[int, int]) -> None:
    np.testing.assert_array_equal(DIGIT(Image.new("L", size, 128)), np.zeros((28, 28, 1)))


def test_an_empty_image_in_mnists_own_form_has_no_ink() -> None:
    assert seen(Image.new("L", (28, 28))) == ["NO_INK"]
    assert seen(Image.new("L", (28, 28), WHITE)) == ["NO_INK"]


def test_two_digits_are_several_parts_and_both_stay() -> None:
    both = Image.new("L", (400, 200), WHITE)
    both.paste(CLEAN, (0, 0))
    both.paste(draw_strokes(EL, scale=6, at=(40, 25)), (200, 0))
    assert seen(both) == ["SEVERAL_PARTS"]
    assert seen(CLEAN) == ["ONE_PART"]
    assert DIGIT(both)[:, :8].any()
    assert DIGIT(both)[:, -8:].any()


@pytest.mark.parametrize("points", [SEVEN, ONE, EL])
def test_light_strokes_on_dark_paper_are_as_dark_ones_on_light_paper(points: tuple[tuple[int, int], ...]) -> None:
    image = draw_strokes(points)
    assert differ(DIGIT(image), DIGIT(image.point(INVERTED))) < 0.5


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("ink", [0, 255])
@pytest.mark.parametrize("clear", [0, 255])
@pytest.mark.parametrize("side", [200, 900])
def test_strokes_on_a_transparent_ground_are_ink_in_any_colour(mode: str, ink: int, clear: int, side: int) -> None:
    cover = CLEAN.point(INVERTED).resize((side, side), Image.Resampling.NEAREST)
    colour = Image.composite(Image.new("L", cover.size, ink), Image.new("L", cover.size, clear), cover)
    layered = Image.merge(mode, [*[colour] * (len(mode) - 1), cover])
    assert differ(DIGIT(reopen(layered)), DIGIT(CLEAN)) < 3


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_range_of_a_16_bit_picture_is_found(bits: int) -> None:
    deep = Image.fromarray((np.asarray(CLEAN) / WHITE * (2**bits - 1)).astype(np.uint16))
    np.testing.assert_array_equal(DIGIT(reopen(deep)), DIGIT(CLEAN))


@pytest.mark.parametrize("orientation", ORIENTATION_TRANSPOSES)
@pytest.mark.parametrize("side", [28, 200, 700])
def test_a_rotated_digit_is_turned_upright(orientation: int, side: int) -> None:
    digit = draw_strokes(SEVEN, at=(3, 2), side=side, scale=max(1, side // 60)).point(INVERTED)
    transpose = ORIENTATION_TRANSPOSES[orientation]
    stored = digit if transpose is None else digit.transpose(transpose)
    assert differ(DIGIT(reopen(stored, exif=exif_of(orientation))), DIGIT(digit)) < 3


@pytest.mark.parametrize("at", [(0, 0), (1, 100), (170, 3), (90, 90)])
def test_the_place_of_the_strokes_does_not_matter(at: tuple[int, int]) -> None:
    assert differ(DIGIT(draw_strokes(SEVEN, at=at)), DIGIT(draw_strokes(SEVEN))) < 6


@pytest.mark.parametrize("scale", [2, 3, 7])
def test_the_size_of_the_strokes_hardly_matters(scale: int) -> None:
    small, large = draw_strokes(SEVEN), draw_strokes(SEVEN, scale=scale, side=300)
    assert differ(DIGIT(small), DIGIT(large)) < 6


@pytest.mark.parametrize("points", [SEVEN, ONE, EL])
@pytest.mark.parametrize("scale", [1, 4])
def test_the_centre_of_mass_is_the_centre(points: tuple[tuple[int, int], ...], scale: int) -> None:
    found = DIGIT(draw_strokes(points, scale=scale))
    assert np.abs(mass_centre(found) - 14).max() <= 0.51, "more than the half pixel of rounding"


def test_other_strokes_give_other_pixels() -> None:
    assert differ(DIGIT(draw_strokes(SEVEN)), DIGIT(draw_strokes(EL))) > 30


def test_a_digit_that_fills_the_picture_is_no_frame() -> None:
    """The bar of this seven runs along the whole upper edge."""
    full: Pixels = np.asarray(CLEAN.crop(CLEAN.point(INVERTED).getbbox()))
    assert differ(DIGIT(Image.fromarray(full)), DIGIT(CLEAN)) < 6


def test_the_report_shows_each_step_when_asked() -> None:
    report = Report(keeps_steps=True)
    DIGIT(CLEAN, report)
    assert [step.name for step in report.steps] == ["levels", "ink", "strokes"]
    assert all(step.png.startswith(b"\x89PNG") for step in report.steps)
