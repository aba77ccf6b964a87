"""Draw the sample images that are Inkling's own: digits in several hands, and scenes for the CIFAR-10 classes.

Enters: the strokes and outlines below, point by point, as a person put them down; no font, no photograph, no dataset.
Leaves: the files of `digits/` and the `*-drawn.*` of `objects/`, the same bytes every time with the same Pillow.
Does not know: the models, and how `serve.images.pixels` will cut, invert and scale what is drawn here.

    python samples/draw.py [FOLDER]     without a folder: beside this script
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scenes import SCENES, Outline, Scene

OVERSAMPLING = 4  # Pillow draws without antialiasing: draw larger, then reduce
Points = NDArray[np.float64]  # [N, 2], x to the right, y downwards
Pixels = NDArray[np.float64]  # [H, W] or [H, W, 3], 0 to 255
Colour = tuple[int, int, int]

# A digit in a 100 x 100 box: strokes parted by "|", each a smooth curve through its points.
STROKES = {
    "0": "52,11 35,20 27,45 31,73 47,89 64,81 73,56 68,27 50,11",
    "1": "51,10 50,38 50,64 49,90",
    "1 flagged": "33,31 44,22 53,11|53,11 52,38 52,64 51,89",
    "2": "30,30 38,15 55,11 69,23 65,43 48,66 28,88|28,88 50,86 75,87",
    "2 looped": "29,28 41,12 61,14 68,33 54,61 35,83 25,84 27,74 40,74 56,84 77,85",
    "3": "30,19 47,10 66,20 62,38 45,47|45,47 65,52 72,70 58,88 38,89 26,78",
    "4": "62,10 44,36 23,63|23,63 50,62 78,61|62,10 61,50 60,90",
    "4 open": "35,12 31,35 28,57|28,57 52,55 76,54|63,29 61,60 58,90",
    "5": "71,12 53,12 36,13|36,13 34,29 32,46|32,46 50,40 68,50 71,70 56,88 37,88 27,80",
    "6": "63,10 45,25 33,49 30,70 42,88 60,87 69,72 62,57 47,55 32,67",
    "7": "25,16 48,14 75,13|75,13 61,40 49,65 42,90",
    "7 crossed": "25,17 48,15 75,14|75,14 61,40 49,65 43,90|36,53 52,51 70,49",
    "8": "66,23 52,11 36,20 38,36 53,48 68,63 66,82 50,90 33,82 32,66 46,51 62,37 66,20",
    "9": "69,29 55,12 37,19 33,38 46,50 62,44 69,27|69,27 68,50 65,72 59,90",
    "9 hooked": "69,29 55,12 37,19 33,38 46,50 62,44 69,27|69,27 70,55 64,79 49,90 34,82",
}


@dataclass(frozen=True)
class Hand:
    """How somebody writes; lengths in hundredths of the digit's box."""

    width: float  # of the stroke
    slant: float = 0.0  # x gained per unit of height: positive leans to the right
    wobble: float = 0.8  # standard deviation of each point from where it was meant
    pressure: float = 0.0  # share of the width lost at a stroke's ends
    grain: float = 0.0  # share of the ink that the paper's roughness keeps off


PEN = Hand(width=5, slant=0.06)
SLANTED_PEN = Hand(width=6, slant=0.38)
MARKER = Hand(width=12, wobble=1.2)
BRUSH = Hand(width=15, slant=0.2, pressure=0.55)
CHALK = Hand(width=9, slant=-0.12, wobble=1.5, grain=0.45)
SHAKY_PEN = Hand(width=7, slant=-0.05, wobble=2.0)


@dataclass(frozen=True)
class Card:
    """One digit on one piece of paper."""

    name: str  # of the file; begins with the true label, and its ending is the format
    shape: str  # key of STROKES
    hand: Hand
    size: tuple[int, int]  # width, height in pixels
    ink: Colour
    paper: Colour | None  # None: transparent
    mode: str = "RGB"  # Pillow's name for the pixel format in the file
    box: tuple[float, float, float] = (0.5, 0.5, 0.9)  # centre x, y and side, as shares of width, height, shorter side
    noise: float = 0.0  # standard deviation, in grey levels, of the camera's noise
    shade: float = 0.0  # share of light lost across the paper


BLACK, WHITE, SLATE = (0, 0, 0), (255, 255, 255), (38, 52, 46)
CARDS = (
    Card("0-marker.png", "0", MARKER, (280, 280), (24, 40, 120), WHITE),
    Card("1-flagged-pen.png", "1 flagged", PEN, (120, 200), (40, 40, 40), (250, 248, 240), box=(0.45, 0.4, 0.95)),
    Card("1-shaky-white-on-black.png", "1", SHAKY_PEN, (64, 64), WHITE, BLACK, mode="L"),
    Card("2-chalk.webp", "2", CHALK, (320, 240), (232, 234, 228), SLATE, noise=3, shade=0.2),
    Card("2-looped-pen.png", "2 looped", PEN, (256, 256), (20, 30, 90), WHITE, box=(0.4, 0.55, 0.6)),
    Card("3-slanted-pen.png", "3", SLANTED_PEN, (200, 260), BLACK, WHITE, mode="L"),
    Card("4-28-pixels.png", "4", Hand(width=10), (28, 28), WHITE, BLACK, mode="L", box=(0.5, 0.5, 0.88)),
    Card("4-open-marker.png", "4 open", MARKER, (400, 300), (150, 20, 30), (244, 240, 228), box=(0.62, 0.5, 0.8)),
    Card("5-photographed.jpg", "5", PEN, (900, 700), (48, 50, 78), (214, 208, 196), noise=2.5, shade=0.35),
    Card("6-transparent.png", "6", BRUSH, (300, 300), (16, 16, 16), None, mode="RGBA"),
    Card("7-crossed-pen.png", "7 crossed", SHAKY_PEN, (48, 72), BLACK, (235, 235, 235), mode="L"),
    Card("7-palette.gif", "7", MARKER, (160, 160), (0, 90, 60), (255, 250, 205), mode="P"),
    Card("8-slanted-brush.png", "8", BRUSH, (512, 384), (250, 220, 120), (30, 20, 60), box=(0.5, 0.5, 0.8)),
    Card("9-hooked-pen.png", "9 hooked", Hand(width=6, slant=0.2), (180, 150), (90, 60, 30), WHITE),
)


def parse_points(text: str) -> Points:
    """Points [N, 2] of "x,y x,y ..."."""
    return np.array([[float(number) for number in pair.split(",")] for pair in text.split()])


def trace_curve(points: Points, steps: int = 40) -> Points:
    """A smooth curve through the points, [(N - 1) * steps + 1, 2].

    A uniform Catmull-Rom spline (Catmull and Rom, "A class of local interpolating splines", 1974).
    """
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    before, start, end, after = (padded[i : len(padded) - 3 + i, None, :] for i in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    linear, square, cube = end - before, 2 * before - 5 * start + 4 * end - after, 3 * (start - end) + after - before
    curve = (2 * start + linear * t + square * t**2 + cube * t**3) / 2
    return np.vstack([curve.reshape(-1, 2), points[-1]])


def write_stroke(canvas: ImageDraw.ImageDraw, curve: Points, radius: float, pressure: float) -> None:
    """Press a round nib along the curve; points and radius in the canvas's pixels."""
    along = np.linspace(0, 1, len(curve))
    radii = radius * (1 - pressure * (2 * along - 1) ** 2)
    for (x, y), r in zip(curve, radii, strict=True):
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=255)


def write_digit(card: Card, rng: np.random.Generator) -> Pixels:
    """How much ink lies where, [H, W], 0 to 1."""
    size = np.array(card.size) * OVERSAMPLING
    centre, side = size * card.box[:2], size.min() * card.box[2]
    mask = Image.new("L", tuple(size.tolist()))
    for text in STROKES[card.shape].split("|"):
        points = parse_points(text)
        points += rng.normal(0, card.hand.wobble, points.shape)
        points[:, 0] += card.hand.slant * (50 - points[:, 1])
        curve = trace_curve((points - 50) / 100 * side + centre)
        write_stroke(ImageDraw.Draw(mask), curve, card.hand.width / 200 * side, card.hand.pressure)
    ink = np.asarray(mask.reduce(OVERSAMPLING), np.float64) / 255
    roughness = make_noise(rng, card.size, cell=2) + make_noise(rng, card.size, cell=7)
    return np.clip(ink * (1 - card.hand.grain * np.clip(roughness + 0.5, 0, 2)), 0, 1)


def make_noise(rng: np.random.Generator, size: tuple[int, int], cell: float) -> Pixels:
    """Smooth noise [H, W] between about -1 and 1, its lumps `cell` pixels wide."""
    grid = rng.uniform(-1, 1, (int(size[1] / cell) + 2, int(size[0] / cell) + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC), np.float64)


def expose(pixels: Pixels, rng: np.random.Generator, noise: float, shade: float) -> Image.Image:
    """The picture as a camera sees it: light falls off to one corner, the sensor adds its noise."""
    height, width = pixels.shape[:2]
    fall = np.linspace(0, 1, width)[None, :] * 0.6 + np.linspace(0, 1, height)[:, None] * 0.4
    lit = pixels * (1 - shade * fall)[:, :, None] + rng.normal(0, 1, (height, width, 1)) * noise
    return Image.fromarray(np.clip(np.rint(lit), 0, 255).astype(np.uint8))


def draw_card(card: Card) -> Image.Image:
    """The card's image in its mode; the file name is the seed, so that no card depends on another."""
    rng = np.random.default_rng(list(card.name.encode()))
    ink = write_digit(card, rng)[:, :, None]
    if card.paper is None:
        layers = [np.full((*ink.shape[:2], 1), level) for level in card.ink]
        return Image.fromarray(np.rint(np.concatenate([*layers, ink * 255], axis=2)).astype(np.uint8))
    pixels = ink * np.array(card.ink) + (1 - ink) * np.array(card.paper)
    image = expose(pixels, rng, card.noise, card.shade)
    return image.quantize(16) if card.mode == "P" else image.convert(card.mode)


def paint_outline(picture: Pixels, outline: Outline, rng: np.random.Generator) -> None:
    """Lay one filled outline over the picture [H, W, 3], in place: shaded from top to bottom, soft at its edge."""
    height, width = picture.shape[:2]
    scale = height / 120
    points = parse_points(outline.points)
    if outline.curved:
        points = trace_curve(np.vstack([points, points[0]]), steps=12)
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).polygon([(x * scale, y * scale) for x, y in points], fill=255)
    cover = np.asarray(mask.filter(ImageFilter.GaussianBlur(outline.blur * scale)), np.float64) / 255
    ramp = np.clip((np.arange(height) / scale - points[:, 1].min()) / np.ptp(points[:, 1]), 0, 1)[:, None, None]
    fill = np.array(outline.top) * (1 - ramp) + np.array(outline.bottom) * ramp
    fill = fill + make_noise(rng, (width, height), cell=3 * scale)[:, :, None] * outline.mottle
    picture += (fill - picture) * (cover * outline.opacity)[:, :, None]


def draw_scene(scene: Scene) -> Image.Image:
    """The scene's image, RGB: its ground from back to front, then its outlines, then the camera."""
    rng = np.random.default_rng(list(scene.name.encode()))
    width, height = (side * 2 for side in scene.size)
    rows, colours = zip(*scene.ground, strict=True)
    levels = np.arange(height) * 120 / height
    bands = np.stack([np.interp(levels, rows, channel) for channel in np.transpose(colours)], axis=1)
    picture = np.repeat(bands[:, None, :], width, axis=1)
    for cell in (6, 14, 40):
        picture += make_noise(rng, (width, height), cell * height / 120)[:, :, None] * scene.mottle
    for outline in scene.outlines:
        paint_outline(picture, outline, rng)
    picture = picture.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    return expose(picture, rng, noise=4, shade=0.12)


def draw_all(folder: Path) -> list[Path]:
    """Write every drawn sample under the folder; the paths written."""
    drawn = {folder / "digits" / card.name: draw_card(card) for card in CARDS}
    drawn |= {folder / "objects" / scene.name: draw_scene(scene) for scene in SCENES}
    for path, image in drawn.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **({"quality": 88} if path.suffix in {".jpg", ".webp"} else {"optimize": True}))
    return list(drawn)


if __name__ == "__main__":
    for written in draw_all(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent):
        print(written)
