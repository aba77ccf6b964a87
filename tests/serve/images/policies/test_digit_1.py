"""serve.images.policies.digit_1: any picture of a digit becomes an image like MNIST's; an MNIST image is unchanged."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from serve.images.decode import decode
from serve.images.pixels import Pixels
from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from tests.serve.images.test_pixels import ORIENTATION_TRANSPOSES, exif_of
from tests.support import Png, reopen

GREY_28 = InputSpec((28, 28, 1), "uint8", "grey")
DIGIT = find_policy(PrepareSpec("digit", 1, {"box": 20}), GREY_28)
WHITE = 255
INVERTED = [WHITE - level for level in range(256)]
SEVEN = ((2, 3), (14, 2), (7, 20))
ONE = ((5, 2), (6, 21))
EL = ((3, 2), (3, 20), (16, 20))


def draw_strokes(
    points: tuple[tuple[int, int], ...], *, scale: int = 1, at: tuple[int, int] = (20, 30), side: int = 200
) -> Image.Image:
    """Black strokes on white paper, grey levels, `side` x `side`."""
    small = Image.new("L", (20, 24), WHITE)
    ImageDraw.Draw(small).line(points, fill=0, width=3)
    image = Image.new("L", (side, side), WHITE)
    image.paste(small.resize((20 * scale, 24 * scale), Image.Resampling.NEAREST), at)
    return image


def differ(first: Pixels, second: Pixels) -> float:
    """The mean difference of two images, in levels."""
    return float(np.abs(first.astype(int) - second).mean())


def mass_centre(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Row and column of the centre of mass; the centre of the first pixel is at 0.5."""
    weights = pixels[..., 0].astype(np.float64)
    rows, columns = np.indices(weights.shape) + 0.5
    return np.array([(weights * rows).sum(), (weights * columns).sum()]) / weights.sum()


def test_an_image_like_mnists_is_unchanged() -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 6:20] = np.random.default_rng(0).integers(0, 256, (20, 14))
    np.testing.assert_array_equal(DIGIT(reopen(Image.fromarray(pixels)))[..., 0], pixels)


@pytest.mark.parametrize("band", range(3))
def test_an_image_in_the_models_size_and_mode_is_unchanged(png: Png, band: int) -> None:
    policy = find_policy(PrepareSpec("digit", 1, {"box": 8}), InputSpec((12, 12, 1), "uint8", "grey"))
    image = decode(png(band, mode="L"), 1_000)
    np.testing.assert_array_equal(policy(image)[..., 0], np.asarray(image))


@given(st.integers(50, 60), st.integers(0, 99))
def test_a_digit_is_unchanged_exactly_if_its_edge_is_dark(light_count: int, seed: int) -> None:
    """About half of the levels along the edge are light, so the median is on either side."""
    pixels = np.zeros((3, 28, 28, 1), np.uint8)
    ring = np.argwhere(np.pad(np.zeros((26, 26)), 1, constant_values=1))
    for number, each in enumerate(pixels):
        places = np.random.default_rng((seed, number)).permutation(ring)[:light_count]
        each[places[:, 0], places[:, 1]] = 128 + number
    for each in pixels:
        edge = np.concatenate([each[0], each[-1], each[:, 0], each[:, -1]])
        is_unchanged = np.array_equal(DIGIT(Image.fromarray(each[..., 0])), each)
        assert is_unchanged == (np.sort(edge, axis=None)[edge.size // 2] < 128)


@pytest.mark.parametrize("points", [SEVEN, ONE, EL])
def test_light_strokes_on_dark_paper_are_as_dark_ones_on_light_paper(points: tuple[tuple[int, int], ...]) -> None:
    image = draw_strokes(points)
    assert differ(DIGIT(image), DIGIT(image.point(INVERTED))) < 0.5


def test_an_image_of_the_models_size_on_light_paper_is_inverted() -> None:
    image = Image.new("L", (28, 28), WHITE)
    ImageDraw.Draw(image).line((8, 4, 18, 24), fill=0, width=3)
    found = DIGIT(image)[..., 0]
    assert found.max() == WHITE
    assert found[0].max() == found[:, 0].max() == 0


@pytest.mark.parametrize("at", [(0, 0), (1, 100), (170, 3), (90, 90)])
def test_the_place_of_the_strokes_does_not_matter(at: tuple[int, int]) -> None:
    np.testing.assert_array_equal(DIGIT(draw_strokes(SEVEN, at=at)), DIGIT(draw_strokes(SEVEN)))


@pytest.mark.parametrize("scale", [2, 3, 7])
def test_the_size_of_the_strokes_hardly_matters(scale: int) -> None:
    small, large = draw_strokes(SEVEN), draw_strokes(SEVEN, scale=scale, side=300)
    assert differ(DIGIT(small), DIGIT(large)) < 5


def test_other_strokes_give_other_pixels() -> None:
    """Two digits differ by far more than the tests above allow for one."""
    assert differ(DIGIT(draw_strokes(SEVEN)), DIGIT(draw_strokes(EL))) > 30


@pytest.mark.parametrize("points", [SEVEN, ONE, EL])
@pytest.mark.parametrize("scale", [1, 4])
def test_the_centre_of_mass_is_the_centre(points: tuple[tuple[int, int], ...], scale: int) -> None:
    found = DIGIT(draw_strokes(points, scale=scale))
    assert np.abs(mass_centre(found) - 14).max() <= 0.51, "more than the half pixel of rounding"


@pytest.mark.parametrize("points", [SEVEN, ONE, EL])
@pytest.mark.parametrize("scale", [1, 4])
def test_the_strokes_fill_the_box_on_their_longer_side(points: tuple[tuple[int, int], ...], scale: int) -> None:
    rows, columns = np.nonzero(DIGIT(draw_strokes(points, scale=scale))[..., 0])
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert max(height, width) == 20
    drawn = np.argwhere(np.asarray(draw_strokes(points)) == 0)
    drawn_height, drawn_width = np.ptp(drawn, axis=0) + 1
    assert abs(width / height - drawn_width / drawn_height) < 0.1


@pytest.mark.parametrize("level", [0, 100, 127, 128, 255])
@pytest.mark.parametrize("size", [(29, 28), (1, 1), (300, 20)])
def test_a_blank_image_gives_zeros(level: int, size: tuple[int, int]) -> None:
    np.testing.assert_array_equal(DIGIT(Image.new("L", size, level)), np.zeros((28, 28, 1)))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_image_of_the_models_size_gives_zeros(level: int) -> None:
    """The dark greys are left out: like any image with a dark edge, they are unchanged."""
    np.testing.assert_array_equal(DIGIT(Image.new("L", (28, 28), level)), np.zeros((28, 28, 1)))


def test_a_single_dark_pixel_is_a_stroke_that_fills_the_box() -> None:
    image = Image.new("L", (50, 50), WHITE)
    image.putpixel((3, 44), 0)
    found = DIGIT(image)[..., 0]
    assert (found[4:24, 4:24] == WHITE).all()
    assert found.sum() == 20 * 20 * WHITE


@pytest.mark.parametrize("darkest", [100, 150, 190])
def test_uneven_light_on_the_paper_is_not_taken_for_ink(darkest: int) -> None:
    """A bar on evenly lit paper, and the same bar on paper that darkens from corner to corner."""
    slope = np.linspace(210, darkest, 100)
    paper = (slope[:, None] + slope[None, :]) / 2
    stroke = np.zeros((100, 100), bool)
    stroke[20:80, 45:55] = True
    even = DIGIT(Image.fromarray(np.where(stroke, 20, 210).astype(np.uint8)))
    uneven = DIGIT(Image.fromarray(np.where(stroke, 20, paper).astype(np.uint8)))
    assert (uneven > 64).sum() == pytest.approx((even > 64).sum(), rel=0.1)


def test_a_digit_on_a_transparent_ground_is_a_digit_on_white_paper() -> None:
    ink = draw_strokes(SEVEN).point(INVERTED)
    black = Image.new("L", ink.size, 0)
    for mode in ("LA", "RGBA"):
        layered = Image.merge(mode, [*[black] * (len(mode) - 1), ink])
        np.testing.assert_array_equal(DIGIT(reopen(layered)), DIGIT(draw_strokes(SEVEN)))


def test_a_digit_of_16_bits_is_the_digit_of_8_bits() -> None:
    image = draw_strokes(SEVEN)
    deep = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    np.testing.assert_array_equal(DIGIT(reopen(deep)), DIGIT(image))


@pytest.mark.parametrize("orientation", ORIENTATION_TRANSPOSES)
@pytest.mark.parametrize("side", [28, 200])
def test_a_rotated_digit_is_turned_upright(orientation: int, side: int) -> None:
    """A 9 that a phone stored upside down is not a 6."""
    digit = draw_strokes(SEVEN, at=(3, 2), side=side).point(INVERTED)
    transpose = ORIENTATION_TRANSPOSES[orientation]
    stored = digit if transpose is None else digit.transpose(transpose)
    np.testing.assert_array_equal(DIGIT(reopen(stored, exif=exif_of(orientation))), DIGIT(digit))
