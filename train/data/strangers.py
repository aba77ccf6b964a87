"""Images of a dataset and a seed -> made strangers: images of no class, prepared as requests are.

Enters: images uint8 [N, H, W, C], a model's input, a preparation, a seed. Leaves: images uint8 [M, H, W, C] by kind.
Does not know: nets, labels, how familiar a model finds an image. They choose how familiarity is measured, and a tuning
may show them; what is published is measured on others (`tests/strangers/`).
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from train.data.datasets import Images

SIDE = 96  # pixels of a picture before its preparation
LETTERS = "AEFHKMNPRVWXYaefhkmnrtvwx"  # none is shaped like a digit
TILES = 4  # along each side of an image whose parts are exchanged
WRITTEN = {
    "A": ["0,4 2,0 4,4", "1,2.6 3,2.6"],
    "E": ["4,0 0,0 0,4 4,4", "0,2 3,2"],
    "F": ["4,0 0,0 0,4", "0,2 3,2"],
    "H": ["0,0 0,4", "4,0 4,4", "0,2 4,2"],
    "K": ["0,0 0,4", "4,0 0,2 4,4"],
    "M": ["0,4 0,0 2,2.4 4,0 4,4"],
    "N": ["0,4 0,0 4,4 4,0"],
    "P": ["0,4 0,0 3,0 4,1 3,2 0,2"],
    "R": ["0,4 0,0 3,0 4,1 3,2 0,2", "1.6,2 4,4"],
    "V": ["0,0 2,4 4,0"],
    "W": ["0,0 1,4 2,1 3,4 4,0"],
    "X": ["0,0 4,4", "4,0 0,4"],
    "Y": ["0,0 2,2 4,0", "2,2 2,4"],
    "e": ["0,2 4,2 3.6,0.6 2,0 0.4,0.7 0,2 0.5,3.4 2,4 3.8,3.4"],
    "h": ["0,0 0,4", "0,2.4 1.5,1.4 3,2 3.2,4"],
    "k": ["0,0 0,4", "3,1.4 0,2.8 3.2,4"],
    "m": ["0,1.4 0,4", "0,2 1,1.4 2,2 2,4", "2,2 3,1.4 4,2 4,4"],
    "n": ["0,0.6 0,4", "0,2 1.6,0.7 3.4,1.6 3.6,4"],
    "t": ["2,0 2,3.4 3,4", "0.4,1.3 3.6,1.3"],
    "x": ["0,1 3.4,4", "3.4,1 0,4"],
}
"""Strokes of letters, each a line through points right,down in a square of four units."""

Random = np.random.Generator
Picture = npt.NDArray[np.float64]  # [SIDE, SIDE, 3], 0 to 255
Colour = npt.NDArray[np.float64]  # [3], 0 to 255


def make_strangers(
    held_out: Images, target: InputSpec, prepare: PrepareSpec, *, count: int, seed: int = 0
) -> Mapping[str, Images]:
    """`count` images of each kind. Those that are drawn take the model's own preparation."""
    policy = find_policy(prepare, target)
    strangers = {}
    for number, (kind, draw) in enumerate(DRAWN.items()):
        random = np.random.default_rng((seed, number))
        pictures = (np.clip(draw(random), 0, 255).round().astype(np.uint8) for _ in range(count))
        strangers[kind] = np.stack([policy(Image.fromarray(picture)) for picture in pictures])
    random = np.random.default_rng((seed, len(DRAWN)))
    chosen, others = held_out[random.integers(0, len(held_out), (2, count))]
    rearranged = {kind: rearrange(chosen, random) for kind, rearrange in REARRANGED.items()}
    return strangers | {BLENDS: blend(chosen, others)} | rearranged


def show_strangers(images: Images, target: InputSpec, prepare: PrepareSpec, *, count: int, seed: int) -> Images:
    """At least `count` images of no class for a training, the same number of each kind but blends.

    A blend is left out, since it shows two classes. The seed never gives what `make_strangers` makes by itself.
    """
    of_kind = count_shown(count) // SHOWN_KINDS
    made = make_strangers(images, target, prepare, count=of_kind, seed=TRAINING_SEEDS + seed)
    return np.concatenate([each for kind, each in made.items() if kind != BLENDS])


def count_shown(count: int) -> int:
    """How many images `show_strangers` makes for a least number of them."""
    return -(-count // SHOWN_KINDS) * SHOWN_KINDS


def blend(images: Images, others: Images) -> Images:
    """The mean of each image with another: uint8 [N, H, W, C]."""
    return np.asarray((images.astype(np.uint16) + others + 1) // 2, np.uint8)


def exchange_parts(images: Images, random: Random) -> Images:
    """Each image uint8 [N, H, W, C] cut into TILES x TILES parts, which change places."""
    count, height, width, channels = images.shape
    rows, columns = height // TILES, width // TILES
    tiles = images[:, : rows * TILES, : columns * TILES].reshape(count, TILES, rows, TILES, columns, channels)
    tiles = tiles.transpose(0, 1, 3, 2, 4, 5).reshape(count, TILES * TILES, rows, columns, channels)
    order = random.permuted(np.tile(np.arange(TILES * TILES), (count, 1)), axis=1)
    moved = tiles[np.arange(count)[:, None], order].reshape(count, TILES, TILES, rows, columns, channels)
    exchanged = images.copy()
    whole = moved.transpose(0, 1, 3, 2, 4, 5).reshape(count, rows * TILES, columns * TILES, channels)
    exchanged[:, : rows * TILES, : columns * TILES] = whole
    return exchanged


def scatter_waves(images: Images, random: Random) -> Images:
    """Each image uint8 [N, H, W, C] with the phases of its waves exchanged for those of noise, as textures have them.

    All channels turn by the same phases, so colours stay together (Galerne et al. 2011, "Random Phase Textures").
    """
    values = images.astype(np.float64)
    noise = random.standard_normal(values.shape[:3])[..., None]
    turned = np.exp(1j * np.angle(np.fft.fft2(noise, axes=(1, 2))))
    turned[:, :1, :1] = 1  # the mean stays
    scattered = np.fft.ifft2(np.fft.fft2(values, axes=(1, 2)) * turned, axes=(1, 2)).real
    return np.clip(np.rint(scattered), 0, 255).astype(np.uint8)


def draw_letter(random: Random) -> Picture:
    """A printed letter, turned a little, on paper of another colour."""
    paper, ink = draw_colours(random)
    canvas = Image.new("L", (SIDE, SIDE), 0)
    letter = LETTERS[random.integers(len(LETTERS))]
    font = ImageFont.load_default(size=float(random.integers(SIDE // 2, SIDE)))
    weight = int(random.integers(0, 4))
    ImageDraw.Draw(canvas).text((SIDE // 2, SIDE // 2), letter, 255, font, anchor="mm", stroke_width=weight)
    return lay_ink(canvas.rotate(random.uniform(-15, 15), Image.Resampling.BICUBIC), paper, ink)


def write_letter(random: Random) -> Picture:
    """A letter as a hand writes it: strokes through points that are a little off, slanted, wide or narrow."""
    paper, ink = draw_colours(random)
    canvas = Image.new("L", (SIDE, SIDE), 0)
    pen, width = ImageDraw.Draw(canvas), int(random.integers(3, 12))
    sides, slant = random.uniform(SIDE / 12, SIDE / 5.5, 2), random.uniform(-0.3, 0.3)
    letter = list(WRITTEN)[random.integers(len(WRITTEN))]
    for stroke in WRITTEN[letter]:
        points = np.array([[float(each) for each in point.split(",")] for point in stroke.split()]) - 2
        points += random.normal(0, 0.16, points.shape)
        points[:, 0] -= slant * points[:, 1]
        line = [tuple(point) for point in (points * sides + SIDE / 2).tolist()]
        pen.line(line, 255, width, joint="curve")
        for right, down in line:
            pen.ellipse((right - width / 2, down - width / 2, right + width / 2, down + width / 2), 255)
    return lay_ink(canvas.rotate(random.uniform(-12, 12), Image.Resampling.BICUBIC), paper, ink)


def draw_words(random: Random) -> Picture:
    """Lines of small print."""
    paper, ink = draw_colours(random)
    canvas = Image.new("L", (SIDE, SIDE), 0)
    size = int(random.integers(8, 24))
    for top in range(0, SIDE, size + 2):
        line = "".join(LETTERS[index] for index in random.integers(0, len(LETTERS), 2 * SIDE // size))
        ImageDraw.Draw(canvas).text((2, top), line, 255, ImageFont.load_default(size=float(size)))
    return lay_ink(canvas, paper, ink)


def draw_stripes(random: Random) -> Picture:
    """Waves in one or two directions."""
    paper, ink = draw_colours(random)
    waves = np.zeros((SIDE, SIDE))
    for _ in range(random.integers(1, 3)):
        angle, length = random.uniform(0, np.pi), random.uniform(4, 40)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        phase = (rows * np.sin(angle) + columns * np.cos(angle)) * 2 * np.pi / length
        waves += np.sin(phase + random.uniform(0, 2 * np.pi))
    share = (np.clip(waves * random.uniform(0.7, 5), -1, 1)[..., None] + 1) / 2
    return paper * (1 - share) + ink * share


def draw_grain(random: Random) -> Picture:
    """Noise of one scale, from fine grain to clouds, grey or in colour."""
    size = int(random.choice([SIDE, SIDE // 2, SIDE // 4, SIDE // 8, SIDE // 16]))
    levels = random.normal(128, random.uniform(20, 90), (size, size, int(random.choice([1, 3]))))
    levels = np.broadcast_to(levels, (size, size, 3))
    small = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)


def draw_shapes(random: Random) -> Picture:
    """A few polygons and ellipses over one another."""
    canvas = Image.new("RGB", (SIDE, SIDE), tuple(random.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(canvas)
    for _ in range(random.integers(1, 7)):
        colour = tuple(random.integers(0, 256, 3).tolist())
        points = random.integers(-10, SIDE + 10, (int(random.integers(2, 6)), 2))
        if len(points) > 2:
            pen.polygon([tuple(point) for point in points.tolist()], colour)
        else:
            (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
            pen.ellipse((left, top, right, bottom), colour)
    return np.asarray(canvas, np.float64)


def draw_empty(random: Random) -> Picture:
    """A page with nothing on it: one colour, uneven light, a camera's noise."""
    colour, slope = random.uniform(0, 255, 3), random.uniform(-40, 40, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    light = (slope[0] * rows + slope[1] * columns)[..., None]
    return np.asarray(colour + light + random.normal(0, random.uniform(0.1, 4), (SIDE, SIDE, 3)))


def draw_colours(random: Random) -> tuple[Colour, Colour]:
    """Two colours, 0 to 255, far enough from one another to be told apart: light and dark, or dark and light."""
    light, dark = random.uniform(160, 255, 3), random.uniform(0, 95, 3)
    return (light, dark) if random.uniform() < 0.7 else (dark, light)


def lay_ink(strokes: Image.Image, paper: Colour, ink: Colour) -> Picture:
    """Ink on paper, where the strokes of mode L are white."""
    share = np.asarray(strokes, np.float64)[..., None] / 255
    return paper * (1 - share) + ink * share


DRAWN: Mapping[str, Callable[[Random], Picture]] = {
    "letters": draw_letter,
    "written letters": write_letter,
    "words": draw_words,
    "stripes": draw_stripes,
    "grain": draw_grain,
    "shapes": draw_shapes,
    "empty pages": draw_empty,
}
"""The kinds that are drawn as pictures, and what draws one."""

REARRANGED: Mapping[str, Callable[[Images, Random], Images]] = {
    "exchanged parts": exchange_parts,
    "scattered waves": scatter_waves,
}
"""The kinds that are made of one image of the dataset each, and what makes one."""
SHOWN_KINDS = len(DRAWN) + len(REARRANGED)
BLENDS = "blends"
TRAINING_SEEDS = 1_000_000
