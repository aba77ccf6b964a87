"""Strangers for the published figures: images that show no class of `mnist`, or none of `cifar10`, by kind.

Enters: a dataset's name, test images, a count. Leaves: pictures as people would send them. None is used in training,
in the choice of how familiarity is measured, or in its calibration. scikit-image's package has textures and faces,
matplotlib's has fonts.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ACEFHKMNPRUVWXacefhkmnpuvwx"  # none is shaped like a digit
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif-Italic", "DejaVuSansMono", "STIXGeneral", "cmr10", "cmtt10")
TEXTURES = ("brick", "grass", "gravel")
FACES = 100  # of the first images in scikit-image's part of Labeled Faces in the Wild
SIDE = 140  # pixels of a drawn picture

Random = np.random.Generator
Pixels = npt.NDArray[np.uint8]


def draw_letter(random: Random) -> Image.Image:
    """One printed letter, dark on light, turned a little."""
    canvas = Image.new("L", (SIDE, SIDE), 0)
    font = find_font(random, int(random.integers(60, 120)))
    letter = LETTERS[random.integers(len(LETTERS))]
    width = int(random.integers(0, 4))
    ImageDraw.Draw(canvas).text((SIDE / 2, SIDE / 2), letter, 255, font, anchor="mm", stroke_width=width)
    return colour_in(canvas.rotate(random.uniform(-12, 12), Image.Resampling.BICUBIC), random)


def draw_text(random: Random) -> Image.Image:
    """A page of words."""
    canvas = Image.new("L", (SIDE, SIDE), 0)
    size = int(random.integers(10, 30))
    font, pen = find_font(random, size), ImageDraw.Draw(canvas)
    for top in range(4, SIDE, int(size * 1.3)):
        words = ("".join(random.choice(list(LETTERS.lower()), random.integers(2, 9))) for _ in range(12))
        pen.text((4, top), " ".join(words), 255, font)
    return colour_in(canvas, random)


def draw_blank(random: Random) -> Image.Image:
    """An empty page with a camera's noise and uneven light."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    light = random.uniform(-25, 25) * rows + random.uniform(-25, 25) * columns
    page = random.uniform(60, 250, 3) + light[..., None] + random.normal(0, random.uniform(0, 3), (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(page, 0, 255).astype(np.uint8))


def draw_texture(random: Random) -> Image.Image:
    """A part of a photograph of bricks, grass or gravel, in grey or tinted."""
    photo = getattr(skimage_data(), TEXTURES[random.integers(len(TEXTURES))])()
    side = int(random.integers(48, 256))
    top, left = (int(random.integers(0, length - side)) for length in photo.shape[:2])
    part = photo[top : top + side, left : left + side]
    tint = random.uniform(0.6, 1, 3) if random.uniform() < 0.5 else np.ones(3)
    return Image.fromarray((part[..., None] * tint).astype(np.uint8)).rotate(90 * int(random.integers(4)))


def draw_noise(random: Random) -> Image.Image:
    """Independent pixels, uniform or around a colour, at the size of the input or larger."""
    side = int(random.choice([32, 64]))
    if random.uniform() < 0.5:
        return Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))
    levels = random.normal(random.uniform(60, 200, 3), random.uniform(30, 80), (side, side, 3))
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def draw_two_digits(digits: Pixels) -> Callable[[Random], Image.Image]:
    """Two digits beside each other."""

    def draw(random: Random) -> Image.Image:
        first, second = digits[random.integers(0, len(digits), 2), ..., 0]
        gap = np.zeros((28, int(random.integers(0, 6))), np.uint8)
        strokes = np.concatenate([first, gap, second], axis=1)
        return Image.fromarray(255 - np.pad(strokes, 8)).resize((4 * strokes.shape[1], 176), Image.Resampling.BICUBIC)

    return draw


def draw_coloured_digit(digits: Pixels) -> Callable[[Random], Image.Image]:
    """A digit in one colour on another."""

    def draw(random: Random) -> Image.Image:
        strokes = Image.fromarray(digits[random.integers(len(digits)), ..., 0])
        return colour_in(strokes.resize((SIDE, SIDE), Image.Resampling.BICUBIC), random)

    return draw


def show(images: Pixels) -> Callable[[Random], Image.Image]:
    """Images as they are, uint8 [N, H, W] or [N, H, W, 3]."""
    return lambda random: Image.fromarray(images[random.integers(len(images))])


def find_faces() -> Pixels:
    """Faces, uint8 [N, 25, 25]."""
    return np.asarray(skimage_data().lfw_subset()[:FACES] * 255, np.uint8)


def skimage_data() -> ModuleType:
    """scikit-image's pictures. Exits with a sentence where it is not installed, for only these two kinds need it."""
    try:
        return importlib.import_module("skimage.data")
    except ModuleNotFoundError:
        raise SystemExit("wanted scikit-image, which has textures and faces; the extra test-strangers has it") from None


def find_font(random: Random, size: int) -> ImageFont.FreeTypeFont:
    """One of matplotlib's fonts."""
    name = FONTS[random.integers(len(FONTS))]
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")), size)


def colour_in(mask: Image.Image, random: Random) -> Image.Image:
    """Ink where a mask of mode L is white, on paper; half of them light on dark."""
    light, dark = random.uniform(150, 255, 3), random.uniform(0, 110, 3)
    paper, ink = (light, dark) if random.uniform() < 0.5 else (dark, light)
    share = np.asarray(mask, np.float64)[..., None] / 255
    return Image.fromarray((paper * (1 - share) + ink * share).astype(np.uint8))


def list_kinds(name: str, digits: Pixels, objects: Pixels) -> Mapping[str, Callable[[Random], Image.Image]]:
    """What draws a stranger of each kind to `mnist` or `cifar10`, from test images uint8 [N, H, W, C] of both."""
    if name == "mnist":
        grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in objects])
        kinds = {"letters": draw_letter, "grey CIFAR-10": show(grey), "two digits": draw_two_digits(digits)}
    else:
        kinds = {
            "digits in colour": draw_coloured_digit(digits),
            "faces": show(find_faces()),
            "noise": draw_noise,
            "text": draw_text,
        }
    return kinds | {"textures": draw_texture, "blank pages": draw_blank}
