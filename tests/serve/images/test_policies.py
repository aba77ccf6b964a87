"""serve.images.pixels: whatever is sent becomes what the model was trained on; what is that already is left alone."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from serve.errors import UnknownPolicy
from serve.images.decode import decode
from serve.images.pixels import Pixels
from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from tests.support import Png

GREY_28 = InputSpec((28, 28, 1), "uint8", "grey")
RGB_32 = InputSpec((32, 32, 3), "uint8", "rgb")
DIGIT = find_policy(PrepareSpec("digit", 1, {"box": 20}), GREY_28)
PHOTO = find_policy(PrepareSpec("photo", 1, {}), RGB_32)
WHITE = 255
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


def encode(image: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def reopen(image: Image.Image, format_name: str = "PNG", **options: object) -> Image.Image:
    """An image as it comes from a file."""
    return decode(encode(image, format_name, **options), 1_000_000)


def differ(first: Pixels, second: Pixels) -> float:
    """The mean difference of two images, in levels."""
    return float(np.abs(first.astype(int) - second).mean())


def mass_centre(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Row and column of the centre of mass, where the first pixel's middle is at 0.5."""
    weights = pixels[..., 0].astype(np.float64)
    rows, columns = np.indices(weights.shape) + 0.5
    return np.array([(weights * rows).sum(), (weights * columns).sum()]) / weights.sum()


def test_an_image_like_mnists_comes_out_bit_for_bit() -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 6:20] = np.random.default_rng(0).integers(0, 256, (20, 14))
    np.testing.assert_array_equal(DIGIT(reopen(Image.fromarray(pixels)))[..., 0], pixels)


@pytest.mark.parametrize("band", range(3))
def test_an_image_in_the_models_size_and_mode_comes_out_bit_for_bit(png: Png, band: int) -> None:
    policy = find_policy(PrepareSpec("digit", 1, {"box": 8}), InputSpec((12, 12, 1), "uint8", "grey"))
    image = decode(png(band, mode="L"), 1_000)
    np.testing.assert_array_equal(policy(image)[..., 0], np.asarray(image))


@given(st.integers(50, 60), st.integers(0, 99))
def test_a_digit_is_left_as_it_is_exactly_where_its_edge_is_dark(light_count: int, seed: int) -> None:
    """About half of the levels along the edge are light: the median is on either side."""
    pixels = np.zeros((3, 28, 28, 1), np.uint8)
    ring = np.argwhere(np.pad(np.zeros((26, 26)), 1, constant_values=1))
    for number, each in enumerate(pixels):
        places = np.random.default_rng((seed, number)).permutation(ring)[:light_count]
        each[places[:, 0], places[:, 1]] = 128 + number
    for each in pixels:
        edge = np.concatenate([each[0], each[-1], each[:, 0], each[:, -1]])
        is_left = np.array_equal(DIGIT(Image.fromarray(each[..., 0])), each)
        assert is_left == (np.sort(edge, axis=None)[edge.size // 2] < 128)


@pytest.mark.parametrize("points", [SEVEN, ONE, EL])
def test_light_strokes_on_dark_paper_give_what_dark_strokes_on_light_paper_give(
    points: tuple[tuple[int, int], ...],
) -> None:
    image = draw_strokes(points)
    inverted = image.point([WHITE - level for level in range(256)])
    assert differ(DIGIT(image), DIGIT(inverted)) < 0.5


def test_an_image_of_the_models_size_on_light_paper_is_turned_to_strokes_on_dark() -> None:
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
    """What the tests above allow as a small difference is far below that of two digits."""
    assert differ(DIGIT(draw_strokes(SEVEN)), DIGIT(draw_strokes(EL))) > 30


@pytest.mark.parametrize("points", [SEVEN, ONE, EL])
@pytest.mark.parametrize("scale", [1, 4])
def test_the_centre_of_mass_is_the_centre(points: tuple[tuple[int, int], ...], scale: int) -> None:
    found = DIGIT(draw_strokes(points, scale=scale))
    assert np.abs(mass_centre(found) - 14).max() <= 0.51, "more than the half pixel that rounding costs"


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
    """But for the dark greys, which are left alone like any image with a dark border."""
    np.testing.assert_array_equal(DIGIT(Image.new("L", (28, 28), level)), np.zeros((28, 28, 1)))


def test_a_single_dark_pixel_is_a_stroke_that_fills_the_box() -> None:
    image = Image.new("L", (50, 50), WHITE)
    image.putpixel((3, 44), 0)
    found = DIGIT(image)[..., 0]
    assert (found[4:24, 4:24] == WHITE).all()
    assert found.sum() == 20 * 20 * WHITE


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_a_strip_takes_no_memory_to_speak_of(size: tuple[int, int]) -> None:
    """Scaled to the model's shorter side it would have 20,000 x 640,000 pixels."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc to see resident memory")
    script = f"""
import re
from pathlib import Path
from PIL import Image
from serve.model_file.spec import InputSpec, PrepareSpec
from serve.images.policies.find import find_policy
def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
policies = [
    find_policy(PrepareSpec("digit", 1, {{"box": 20}}), InputSpec((28, 28, 1), "uint8", "grey")),
    find_policy(PrepareSpec("photo", 1, {{}}), InputSpec((32, 32, 3), "uint8", "rgb")),
]
strip = Image.linear_gradient("L").resize({size})
for policy in policies:
    policy(Image.linear_gradient("L"))
before = peak_kb()
for policy in policies:
    policy(strip)
print(peak_kb() - before)
"""
    grown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 4_000


@pytest.mark.parametrize("darkest", [100, 150, 190])
def test_light_that_falls_off_over_the_paper_is_not_taken_for_ink(darkest: int) -> None:
    """A bar on paper that is lit evenly, and the same bar on paper that darkens from corner to corner."""
    slope = np.linspace(210, darkest, 100)
    paper = (slope[:, None] + slope[None, :]) / 2
    stroke = np.zeros((100, 100), bool)
    stroke[20:80, 45:55] = True
    even = DIGIT(Image.fromarray(np.where(stroke, 20, 210).astype(np.uint8)))
    uneven = DIGIT(Image.fromarray(np.where(stroke, 20, paper).astype(np.uint8)))
    assert (uneven > 64).sum() == pytest.approx((even > 64).sum(), rel=0.1)


@pytest.mark.parametrize(
    ("prepare", "target", "found"),
    [
        (PrepareSpec("poster", 1, {}), RGB_32, r"got poster/1 \(rgb\)"),
        (PrepareSpec("photo", 2, {}), RGB_32, r"got photo/2 \(rgb\)"),
        (PrepareSpec("photo", 1, {}), GREY_28, r"got photo/1 \(grey\)"),
        (PrepareSpec("digit", 1, {"box": 20}), RGB_32, r"got digit/1 \(rgb; box=20\)"),
        (PrepareSpec("digit", 1, {}), GREY_28, r"got digit/1 \(grey\)"),
        (PrepareSpec("digit", 1, {"box": 20, "blur": 2}), GREY_28, r"got digit/1 \(grey; box=20; blur=2\)"),
        (PrepareSpec("photo", 1, {"crop": 0.9}), RGB_32, r"got photo/1 \(rgb; crop=0.9\)"),
        (PrepareSpec("digit", 1, {"box": 0}), GREY_28, "box=0"),
        (PrepareSpec("digit", 1, {"box": 29}), GREY_28, "box=29"),
        (PrepareSpec("digit", 1, {"box": "20"}), GREY_28, "box='20'"),
        (PrepareSpec("digit", 1, {"box": 20.5}), GREY_28, "box=20.5"),
        (PrepareSpec("digit", 1, {"box": True}), GREY_28, "box=True"),
    ],
)
def test_an_unknown_policy_is_refused_with_the_known_ones_and_what_came(
    prepare: PrepareSpec, target: InputSpec, found: str
) -> None:
    with pytest.raises(UnknownPolicy, match=rf"wanted one of the policies digit/1 .*photo/1 .*{found}"):
        find_policy(prepare, target)
