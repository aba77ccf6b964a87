"""MNIST's images -> files as people have them, and what is no digit.

Enters: strokes uint8 [28, 28] and a random generator. Leaves: the bytes of an image file. Does not know: models.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from serve.images.pixels import Pixels
from tests.people.objects import encode
from train.data.handwriting.people import ROWS, draw_row

PLAIN = ("own form", "8 times", "RGBA", "EXIF", "CMYK")
DIGIT_ROWS = (*PLAIN, *ROWS)
"""The kinds of pictures of one digit."""
LETTERS = "ABCDEFGHJKMNPRTUVWXYadefhknprt"
"""Letters that are not shaped like digits."""


def draw_digit(pixels: Pixels, row: str, rng: np.random.Generator) -> bytes:
    """The file of one picture of a kind."""
    strokes = pixels[..., 0]
    own = Image.fromarray(strokes)
    large = own.resize((224, 224), Image.Resampling.BICUBIC)
    if row == "own form":
        return encode(own)
    if row == "8 times":
        return encode(large)
    if row == "RGBA":
        return encode(large.convert("RGBA"))
    if row == "CMYK":
        return encode(large.convert("CMYK"), "JPEG", quality=95)
    if row == "EXIF":
        exif = Image.Exif()
        exif[0x0112] = 6
        return encode(large.transpose(Image.Transpose.ROTATE_90), exif=exif)
    image = draw_row(strokes, row, rng)
    return encode(image)


def draw_blank(_pixels: Pixels, rng: np.random.Generator) -> bytes:
    """An empty page of some level with some noise, as a JPEG."""
    side = int(rng.integers(120, 300))
    levels = rng.integers(40, 250) + rng.normal(0, rng.uniform(0, 6), (side, side)) + np.linspace(0, 20, side)
    return encode(Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)), "JPEG", quality=int(rng.integers(50, 95)))


def draw_two(pixels: Pixels, rng: np.random.Generator) -> bytes:
    """A digit and another one beside it, which is the first one turned or mirrored."""
    strokes = pixels[..., 0]
    page = Image.new("L", (480, 260), 255)
    for left, each in ((10, strokes), (235, np.roll(strokes[::-1], int(rng.integers(-2, 3)), axis=1))):
        page.paste(Image.fromarray(255 - each).resize((230, 230), Image.Resampling.BICUBIC), (left, 15))
    return encode(page)


def draw_letter(_pixels: Pixels, rng: np.random.Generator) -> bytes:
    """A letter that is not shaped like a digit, a little turned."""
    page = Image.new("L", (220, 220), 255)
    font = ImageFont.load_default(size=int(rng.integers(90, 160)))
    ImageDraw.Draw(page).text((110, 110), str(rng.choice(list(LETTERS))), fill=20, font=font, anchor="mm")
    return encode(page.rotate(float(rng.uniform(-10, 10)), Image.Resampling.BICUBIC, fillcolor=255))


STRANGERS: Mapping[str, Callable[[Pixels, np.random.Generator], bytes]] = {
    "blank": draw_blank,
    "two digits": draw_two,
    "letters": draw_letter,
}
"""What is no digit."""
