"""serve.images.reader: images that are read together give the same pixels as each alone."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from serve.errors import EmptyImage, ImageError, ImageTooLarge, TruncatedImage, UnreadableImage
from serve.images.reader import ImageReader, Prepared
from tests.serve.images.policies.test_digit_1 import DIGIT
from tests.serve.images.policies.test_photo_1 import PHOTO
from tests.support import encode


def draw_digit(place: int, paper: int = 0, side: int = 28) -> Image.Image:
    """A stroke on paper of a grey level."""
    image = Image.new("L", (side, side), paper)
    ImageDraw.Draw(image).line((8 + place, 4, 12, 24), fill=255 - paper, width=3)
    return image


def draw_photo(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


DIGITS = [
    *(encode(draw_digit(place)) for place in range(3)),
    encode(draw_digit(3, paper=255)),  # inverted
    encode(draw_digit(4, side=60)),
    encode(draw_digit(5).convert("RGB")),
    encode(draw_digit(6), "GIF"),
    encode(draw_digit(7)),
]
PHOTOS = [
    *(encode(draw_photo(seed)) for seed in range(2)),
    encode(draw_photo(2, (50, 40))),
    encode(draw_photo(3).convert("L")),
    encode(draw_photo(4).convert("RGBA")),
    encode(draw_photo(5), "JPEG"),
    encode(draw_photo(6)),
]
MODELS = {"digit": (ImageReader(DIGIT, 10_000), DIGITS), "photo": (ImageReader(PHOTO, 10_000), PHOTOS)}


def take(found: Prepared | Exception) -> Prepared:
    """The prepared image; an error fails the test."""
    assert isinstance(found, Prepared), found
    return found


@pytest.mark.parametrize("name", MODELS)
def test_images_that_are_read_together_are_as_each_alone(name: str) -> None:
    reader, files = MODELS[name]
    for file, found in zip(files, reader.read_all(files), strict=True):
        np.testing.assert_array_equal(take(found).pixels, take(reader.read(file)).pixels)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_are_read_in_their_places(name: str, count: int) -> None:
    reader, files = MODELS[name]
    found = reader.read_all(files[:count])
    assert [take(each).pixels.tolist() for each in found] == [
        take(reader.read(file)).pixels.tolist() for file in files[:count]
    ]


def test_an_error_stays_in_the_place_of_its_image() -> None:
    reader, _ = MODELS["digit"]
    good, cut = DIGITS[0], DIGITS[1][:-30]
    faults = [EmptyImage, UnreadableImage, TruncatedImage]
    found = reader.read_all([good, b"", good, b"no image", cut, good])
    assert [type(found[place]) for place in (1, 3, 4)] == faults
    for place in (0, 2, 5):
        np.testing.assert_array_equal(take(found[place]).pixels, take(reader.read(good)).pixels)


@pytest.mark.parametrize(
    "file",
    [b"no image", PHOTOS[0][:-30], PHOTOS[5][:-30], PHOTOS[0][:8] + bytes(70_000), encode(draw_photo(0, (200, 200)))],
    ids=["text", "cut PNG", "cut JPEG", "signature", "large"],
)
def test_an_error_does_not_keep_a_reference_to_its_image(file: bytes) -> None:
    image, reader = bytes(bytearray(file)), MODELS["photo"][0]
    before = sys.getrefcount(image)
    found = [reader.read(image), *reader.read_all([image, PHOTOS[0], image])]
    assert [isinstance(each, ImageError) for each in found] == [True, True, False, True]
    assert sys.getrefcount(image) == before


def test_an_image_that_was_read_before_is_returned_unchanged() -> None:
    reader, files = MODELS["photo"]
    before, fault = take(reader.read(files[2])), UnreadableImage("before")
    found = reader.read_all([files[0], before, files[1], fault])
    assert found[1] is before
    assert found[3] is fault
    np.testing.assert_array_equal(take(found[2]).pixels, take(reader.read(files[1])).pixels)


def test_each_image_of_more_pixels_than_the_limit_is_an_error() -> None:
    reader = ImageReader(DIGIT, 28 * 28 - 1)
    assert [type(each) for each in reader.read_all(DIGITS[:3])] == [ImageTooLarge] * 3
    assert isinstance(ImageReader(DIGIT, 28 * 28).read_all(DIGITS[:3])[0], Prepared)
