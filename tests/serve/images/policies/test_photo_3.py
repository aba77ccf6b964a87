"""serve.images.policies.photo_3: an ImageNet net gets pictures as torchvision prepares them."""

from itertools import product

import numpy as np
import pytest
from PIL import Image

from serve.errors import UnknownPolicy
from serve.images.pixels import Pixels
from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from tests.serve.images.test_pixels import exif_of
from tests.support import reopen

RGB_64 = InputSpec((64, 64, 3), "uint8", "rgb")
GREY_64 = InputSpec((64, 64, 1), "uint8", "grey")
IMAGENET = {"resize": 73, "crop": True, "interpolation": "bilinear", "antialias": True}
SQUASHED = IMAGENET | {"resize": 0, "crop": False}
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def prepare(image: Image.Image, target: InputSpec = RGB_64, **changes: object) -> Pixels:
    return find_policy(PrepareSpec("photo", 3, IMAGENET | changes), target)(image)


def draw_photo(size: tuple[int, int]) -> Image.Image:
    """Smooth noise of a size."""
    coarse = np.random.default_rng(0).integers(0, 256, (size[1] // 5 + 1, size[0] // 5 + 1, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def resize_then_crop(image: Image.Image, resize: int, side: int, kind: Image.Resampling) -> Pixels:
    """What torchvision's Resize and CenterCrop do to a Pillow image."""
    shorter = min(image.size)
    scaled = image.resize([resize if each == shorter else int(resize * each / shorter) for each in image.size], kind)
    left, top = (round((each - side) / 2.0) for each in scaled.size)
    return np.asarray(scaled.crop((left, top, left + side, top + side)))


@pytest.mark.parametrize(
    ("size", "name"), list(product([(200, 150), (150, 200), (81, 79), (73, 73), (30, 40), (401, 133)], FILTERS))
)
def test_pixels_are_those_of_a_resize_and_a_centre_crop(size: tuple[int, int], name: str) -> None:
    """But for the rounding of single values, as the uncropped picture is never made."""
    photo = draw_photo(size)
    found, wanted = prepare(photo, interpolation=name), resize_then_crop(photo, 73, 64, FILTERS[name])
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_without_a_crop_the_whole_picture_is_scaled_to_the_input() -> None:
    photo = draw_photo((200, 90))
    found = prepare(photo, **SQUASHED)
    np.testing.assert_array_equal(found, np.asarray(photo.resize((64, 64), Image.Resampling.BILINEAR)))


def test_a_picture_of_the_inputs_size_is_unchanged_without_a_crop() -> None:
    photo = draw_photo((64, 64))
    np.testing.assert_array_equal(prepare(photo, **SQUASHED), np.asarray(photo))


def test_a_picture_of_an_oblong_inputs_size_is_unchanged() -> None:
    photo, target = draw_photo((40, 64)), InputSpec((64, 40, 3), "uint8", "rgb")
    np.testing.assert_array_equal(prepare(photo, target, resize=40), np.asarray(photo))


@pytest.mark.parametrize("resize", [40, 64])
def test_a_square_picture_covers_an_oblong_input(resize: int) -> None:
    """Also if the shorter side alone would leave it too small."""
    target = InputSpec((64, 40, 3), "uint8", "rgb")
    square = draw_photo((80, 80))
    found = prepare(square, target, resize=resize)
    np.testing.assert_array_equal(found, resize_then_crop(square, 64, 64, FILTERS["bilinear"])[:, 12:52])


def test_without_antialias_single_pixels_are_taken_and_not_averaged() -> None:
    """A checkerboard at a quarter: nearest pixels are black or white, averages are grey."""
    board = Image.fromarray((np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8))
    sharp = prepare(board, **SQUASHED | {"interpolation": "nearest", "antialias": False})
    assert set(np.unique(sharp)) <= {0, 255}
    assert np.abs(prepare(board, **SQUASHED).astype(int) - 127.5).max() < 8


def test_bilinear_without_antialias_takes_the_four_nearest_pixels() -> None:
    """At a half, with centres between pixels, that is the mean of two by two."""
    photo = draw_photo((128, 128))
    found = prepare(photo, **SQUASHED | {"antialias": False})
    means = np.asarray(photo).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(found - means).max() <= 1


def test_a_grey_net_gets_one_channel_and_no_peeling() -> None:
    """Dark ink on white stays dark on white: this is no digit."""
    page = Image.new("RGB", (80, 80), "white")
    page.paste((0, 0, 0), (30, 30, 50, 50))
    found = prepare(page, GREY_64)
    assert found.shape == (64, 64, 1)
    assert (found[0, 0, 0], found[32, 32, 0]) == (255, 0)


def test_a_photo_is_turned_upright_and_laid_over_white() -> None:
    photo = Image.new("RGB", (90, 90), (200, 0, 0))
    photo.paste((0, 0, 200), (0, 45, 90, 90))
    turned = reopen(photo.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif_of(6))
    found = prepare(turned).astype(int)
    assert np.abs(found[:20] - (200, 0, 0)).max() < 12
    clear = Image.new("RGBA", (90, 90), (200, 0, 0, 0))
    assert (prepare(reopen(clear)) == 255).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"resize": 63},
        {"resize": 65_536},
        {"resize": 73.0},
        {"resize": True},
        {"crop": False},
        {"crop": 64},
        {"interpolation": "cubic"},
        {"interpolation": "lanczos", "antialias": False},
        {"antialias": 1},
        {"mode": "RGB"},
    ],
)
def test_parameters_that_do_not_fit_are_refused_with_what_came(changes: dict[str, object]) -> None:
    name, value = list(changes.items())[-1]
    with pytest.raises(UnknownPolicy, match=rf"photo/3 \(grey or rgb; .*got photo/3 \(rgb; .*{name}={value!r}"):
        prepare(Image.new("RGB", (80, 80)), **changes)
