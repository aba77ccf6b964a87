"""serve.images.policies.photo_2: even margins are peeled off, and things on an even ground are framed.

A photograph without either is as with photo/1.
"""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from serve.images.decode import decode
from serve.images.pixels import Report
from serve.images.policies.find import find_policy
from serve.model_file.spec import PrepareSpec
from tests.serve.images.policies.test_photo_1 import PHOTO as PHOTO_1
from tests.serve.images.policies.test_photo_1 import RGB_32
from tests.serve.images.test_pixels import draw_noise
from tests.support import encode, reopen

PHOTO = find_policy(PrepareSpec("photo", 2, {"margins": "peel"}), RGB_32)
FRAMING = find_policy(PrepareSpec("photo", 2, {"margins": "frame"}), RGB_32)
SCENE = Image.effect_mandelbrot((96, 96), (-2, -1.5, 1, 1.5), 40).convert("RGB").rotate(3).crop((8, 8, 88, 88))
NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 80, 3), np.uint8))


def mount(picture: Image.Image, margins: tuple[int, int, int, int], colour: int = 255) -> Image.Image:
    """The picture with margins of one grey: left, top, right, bottom."""
    left, top, right, bottom = margins
    size = picture.width + left + right, picture.height + top + bottom
    page = Image.new("RGB", size, (colour,) * 3)
    page.paste(picture, (left, top))
    return page


@pytest.mark.parametrize("colour", [0, 128, 255])
@pytest.mark.parametrize(
    "margins", [(40, 40, 40, 40), (10, 10, 10, 10), (0, 30, 0, 30), (25, 0, 25, 0), (40, 10, 20, 60)]
)
def test_even_margins_are_peeled_off(margins: tuple[int, int, int, int], colour: int) -> None:
    np.testing.assert_array_equal(PHOTO(mount(NOISE, margins, colour)), PHOTO_1(NOISE))


def test_margins_of_a_jpeg_are_peeled_off_nearly() -> None:
    smooth = NOISE.crop((0, 0, 10, 10)).resize((80, 80), Image.Resampling.BICUBIC)
    found = PHOTO(reopen(mount(smooth, (40, 40, 40, 40)), "JPEG", quality=80))
    assert np.abs(found.astype(int) - PHOTO_1(smooth)).mean() < 12


def test_margins_are_kept_where_the_parameter_says_so() -> None:
    keep = find_policy(PrepareSpec("photo", 2, {"margins": "keep"}), RGB_32)
    page = mount(NOISE, (40, 40, 40, 40))
    np.testing.assert_array_equal(keep(page), PHOTO_1(page))


def test_a_photograph_without_margins_is_as_with_the_first_version() -> None:
    for picture in (NOISE, SCENE, draw_noise(), mount(NOISE, (30, 0, 0, 0))):
        np.testing.assert_array_equal(PHOTO(picture), PHOTO_1(picture))


def draw_thing(size: tuple[int, int], at: tuple[int, int], colour: int = 255) -> Image.Image:
    """A red lozenge of 120 x 40 pixels on a ground of one grey."""
    page = Image.new("RGB", size, (colour,) * 3)
    left, top = at
    corners = [(left, top + 20), (left + 60, top), (left + 119, top + 20), (left + 60, top + 39)]
    ImageDraw.Draw(page).polygon(corners, "red")
    return page


@pytest.mark.parametrize("colour", [0, 128, 255])
@pytest.mark.parametrize(
    ("size", "at"),
    [((120, 40), (0, 0)), ((400, 60), (10, 10)), ((400, 200), (275, 20)), ((140, 300), (10, 240))],
    ids=["cut out", "wide", "at the right", "at the bottom"],
)
def test_a_thing_that_the_crop_would_cut_is_framed_whole(
    size: tuple[int, int], at: tuple[int, int], colour: int
) -> None:
    page = draw_thing(size, at, colour)
    wanted = draw_thing((132, 132), (6, 46), colour)
    assert np.abs(FRAMING(page).astype(int) - PHOTO_1(wanted)).mean() < 6  # the tips are thin
    np.testing.assert_array_equal(PHOTO(page), PHOTO_1(page))


def test_a_cut_out_thing_lies_on_white() -> None:
    page = draw_thing((120, 40), (0, 0))
    page.putalpha(page.getchannel("G").point([255 * (level < 128) for level in range(256)]))
    assert np.abs(FRAMING(page).astype(int) - PHOTO_1(draw_thing((132, 132), (6, 46)))).mean() < 3


def test_framing_peels_margins_and_leaves_what_the_crop_does_not_cut() -> None:
    corners = SCENE.resize((120, 80))
    for at in [(x, y) for x in (0, 119) for y in (0, 79)]:
        corners.putpixel(at, (255, 255, 255))  # alike by chance
    bordered = mount(SCENE.resize((160, 80)), (2, 2, 2, 2))  # too thin to be peeled off, but no thing on a ground
    things = draw_thing((200, 200), (40, 80)), bordered
    for picture in (NOISE, SCENE, corners, draw_noise(), mount(NOISE, (40,) * 4), *things):
        np.testing.assert_array_equal(FRAMING(picture), PHOTO(picture))


@pytest.mark.parametrize("size", [(6_000, 4), (4, 6_000)])
def test_the_frame_of_a_strip_is_no_large_square(size: tuple[int, int]) -> None:
    """A square as high as the strip is long takes gigabytes, for a file of a few hundred bytes."""
    strip = Image.new("RGB", size, (255,) * 3)
    ends = ((1, 0), (5_998, 3)) if size[0] > size[1] else ((0, 1), (3, 5_998))
    ImageDraw.Draw(strip).line(ends, (200, 30, 30))
    sizes = []

    class SizeReport(Report):
        def add_step(self, name: str, picture: Image.Image | npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> None:
            assert isinstance(picture, Image.Image)
            sizes.append(picture.size)

    prepared = FRAMING(strip, SizeReport())
    assert [max(each) < 2_048 for each in sizes] == [True]
    assert (np.ptp(prepared, axis=(0, 1)) > 0).any()  # the thing is seen


def test_a_slanted_line_without_a_row_of_its_own_is_as_without_framing() -> None:
    page = Image.new("RGB", (400, 50), (255,) * 3)
    ImageDraw.Draw(page).line((190, 0, 275, 49), (0, 0, 0), 1)
    np.testing.assert_array_equal(FRAMING(page), PHOTO(page))


def test_a_thing_on_an_even_ground_is_no_picture_with_margins() -> None:
    page = Image.new("RGB", (120, 120), (255,) * 3)
    disc = Image.radial_gradient("L").resize((70, 70)).point([255 * (level < 128) for level in range(256)])
    page.paste((200, 30, 30), (25, 25), disc)
    np.testing.assert_array_equal(PHOTO(page), PHOTO_1(page))


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (500, 3), (90, 90)])
def test_an_even_image_stays_as_it_is(size: tuple[int, int]) -> None:
    for policy in (PHOTO, FRAMING):
        assert (policy(Image.new("RGB", size, (9, 90, 200))) == (9, 90, 200)).all()


def test_a_large_opaque_picture_of_four_channels_is_as_one_of_three() -> None:
    large = SCENE.resize((1_300, 1_100))
    with_alpha = large.copy()
    with_alpha.putalpha(255)
    np.testing.assert_array_equal(*(PHOTO(decode(encode(each), 2_000_000)) for each in (with_alpha, large)))


def test_a_large_picture_is_turned_after_it_was_made_small() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    large = SCENE.resize((960, 768))
    turned = reopen(large.transpose(Image.Transpose.ROTATE_90), exif=exif.tobytes())
    assert np.abs(PHOTO(turned).astype(int) - PHOTO(large)).max() <= 3


def test_the_report_shows_the_picture_that_is_scaled() -> None:
    report = Report(keeps_steps=True)
    PHOTO(mount(NOISE, (40, 40, 40, 40)), report)
    assert [step.name for step in report.steps] == ["levels"]
    assert encode(NOISE) == report.steps[0].png
