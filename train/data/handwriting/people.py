"""MNIST's strokes -> pictures of digits as people have them: on their paper, in their light, as their programs save.

Enters: strokes uint8 [28, 28], light on black, and a `Sheet` or the name of a row that draws one at random.
Leaves: a `PIL.Image.Image`. Does not know: models, policies, labels.

`ROWS` are the kinds of pictures that `tests/people/measure.py` measures one by one. Training may draw from the same
kinds: it has other images, and each picture draws its sizes, places and colours at random.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from train.data.handwriting.paper import Levels, add_border, add_light, lay_on_desk, rule

Strokes: TypeAlias = npt.NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

DARK_INKS: tuple[Colour, ...] = ((20, 20, 25), (15, 15, 15), (25, 45, 150), (40, 40, 60))
WHITE: Colour = (255, 255, 255)
KRAFT: tuple[Colour, ...] = ((178, 134, 84), (160, 118, 70), (190, 150, 100))
RED: tuple[Colour, ...] = ((190, 50, 45), (205, 70, 60))
BLUE: tuple[Colour, ...] = ((60, 95, 170), (80, 120, 190))
_SUPPORT = 28
_CORE = 0.35
"""Share of full ink at which a stroke's edge is drawn."""


@dataclass(frozen=True)
class Sheet:
    """How one digit was put on paper and how it became a picture. Lengths are shares of the picture's side."""

    side: int = 280
    """Pixels."""
    paper: Colour = WHITE
    ink: Colour = DARK_INKS[0]
    height: float = 0.6
    """Of the 28 x 28 field that holds the strokes."""
    place: tuple[float, float] = (0.5, 0.5)
    """Centre of that field, x and y."""
    pen: Literal["plain", "ball-point", "marker"] = "plain"
    ruling: Literal["", "lined", "squared"] = ""
    border: Literal["", "frame", "edge", "inset", "desk"] = ""
    shadow: float = 0.0
    """Share of the light that is lost beyond a straight, sharp edge."""
    noise: float = 0.0
    """Standard deviation of each pixel, in grey levels."""
    transparent: bool = False
    """Only the strokes are opaque."""
    bits: int = 8
    """Above 8, or with `deep`, the picture is 16-bit grey of which this many bits are used."""
    deep: bool = False
    quality: int = 0
    """Of a JPEG that the picture went through; 0 is none."""


def draw(strokes: Strokes, sheet: Sheet, rng: np.random.Generator) -> Image.Image:
    """One picture of the strokes on a sheet."""
    cover = place_strokes(write(strokes, sheet), sheet)
    if sheet.transparent:
        colour = Image.new("RGB", cover.size, sheet.ink)
        colour.putalpha(cover)
        return colour
    page: Levels = np.tile(np.array(sheet.paper, np.float32), (sheet.side, sheet.side, 1))
    page = rule(page, sheet.ruling, rng)
    ink = np.asarray(cover, np.float32)[..., None] / 255
    page += (np.array(sheet.ink, np.float32) - page) * ink
    page = add_light(page, sheet.shadow, rng)
    page = lay_on_desk(page, rng) if sheet.border == "desk" else add_border(page, sheet.border, rng)
    if sheet.noise:
        page = page + rng.normal(0, sheet.noise, page.shape[:2])[..., None].astype(np.float32)
    image = Image.fromarray(np.clip(page + 0.5, 0, 255).astype(np.uint8))
    if sheet.deep:
        return _deepen(image, sheet.bits)
    return _as_jpeg(image, sheet.quality) if sheet.quality else image


def write(strokes: Strokes, sheet: Sheet) -> Image.Image:
    """How much ink covers each pixel of the strokes' field, 0 to 255."""
    field = max(_SUPPORT, round(sheet.side * sheet.height))
    scale = field / _SUPPORT
    level = Image.fromarray(strokes.astype(np.float32) / 255)
    core = _CORE
    if sheet.pen == "ball-point":
        # Beside the strongest pixel of a stroke the others fade away, so that its middle is left.
        array = np.asarray(level)
        strongest = np.asarray(Image.fromarray(strokes).filter(ImageFilter.MaxFilter(3)), np.float32) / 255
        level, core = Image.fromarray((array / np.maximum(strongest, 0.05)) ** 2 * (array > 0.1)), 0.55
    large = np.asarray(level.resize((field, field), Image.Resampling.BICUBIC))
    cover = Image.fromarray((np.clip((large - core) * scale / 1.5 + 0.5, 0, 1) * 255).astype(np.uint8))
    if sheet.pen == "marker":
        cover = cover.filter(ImageFilter.MaxFilter(1 + 2 * round(0.8 * scale)))
    return cover


def place_strokes(field: Image.Image, sheet: Sheet) -> Image.Image:
    """The strokes' field at its place on an empty sheet; what lies outside is cut off."""
    cover = Image.new("L", (sheet.side, sheet.side))
    left, top = (round(sheet.side * share - field.width / 2) for share in sheet.place)
    cover.paste(field, (left, top))
    return cover


def _deepen(image: Image.Image, bits: int) -> Image.Image:
    levels = np.asarray(image.convert("L"), np.float32) / 255
    return Image.fromarray(np.round(levels * (2**bits - 1)).astype(np.uint16))


def _as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def draw_sheet(rng: np.random.Generator) -> Sheet:
    """White paper, dark ink, at some size and place: what each row changes."""
    height = float(rng.uniform(0.5, 0.85))
    room = (1 - 0.95 * height) / 2
    place = (0.5 + float(rng.uniform(-room, room)) * 0.8, 0.5 + float(rng.uniform(-room, room)) * 0.8)
    return Sheet(int(rng.integers(140, 311)), ink=_one_of(rng, DARK_INKS), height=height, place=place)


def _one_of(rng: np.random.Generator, items: tuple[Colour, ...]) -> Colour:
    return items[int(rng.integers(len(items)))]


def _cut(sheet: Sheet, strokes: Strokes, rng: np.random.Generator) -> Sheet:
    """A tenth to a fifth of the digit's height or width is outside the picture."""
    rows, columns = (np.flatnonzero((strokes > 64).any(axis=axis)) for axis in (1, 0))
    x, y = 0.5, 0.5
    lost = float(rng.uniform(0.1, 0.2))
    unit = sheet.height / _SUPPORT
    side = int(rng.integers(4))
    if side == 0:
        y = -unit * (rows[0] + lost * len(rows)) + sheet.height / 2
    elif side == 1:
        y = 1 + unit * (_SUPPORT - 1 - rows[-1] + lost * len(rows)) - sheet.height / 2
    elif side == 2:
        x = -unit * (columns[0] + lost * len(columns)) + sheet.height / 2
    else:
        x = 1 + unit * (_SUPPORT - 1 - columns[-1] + lost * len(columns)) - sheet.height / 2
    return dataclasses.replace(sheet, place=(float(x), float(y)))


def _mix(sheet: Sheet, rng: np.random.Generator) -> Sheet:
    """Three kinds of change at once, each from another group."""
    groups = (
        lambda: {"paper": _one_of(rng, (*KRAFT, (125, 125, 125), (250, 238, 170))), "ink": (25, 25, 30)},
        lambda: {"ruling": str(rng.choice(["lined", "squared"]))},
        lambda: {"border": str(rng.choice(["frame", "edge", "inset", "desk"]))},
        lambda: {"shadow": float(rng.choice([0.3, 0.5]))},
        lambda: {"pen": str(rng.choice(["ball-point", "marker"]))},
        lambda: {"noise": 4.0, "quality": 75},
    )
    for index in rng.permutation(len(groups))[:3]:
        sheet = dataclasses.replace(sheet, **groups[index]())
    return sheet


def _with(**changes: object) -> Callable[[Sheet, Strokes, np.random.Generator], Sheet]:
    return lambda sheet, _strokes, _rng: dataclasses.replace(sheet, **changes)  # type: ignore[arg-type]  # as _mix


def _on(papers: tuple[Colour, ...], ink: Colour) -> Callable[[Sheet, Strokes, np.random.Generator], Sheet]:
    return lambda sheet, _strokes, rng: dataclasses.replace(sheet, paper=_one_of(rng, papers), ink=ink, noise=4.0)


ROWS: Mapping[str, Callable[[Sheet, Strokes, np.random.Generator], Sheet]] = {
    "white paper": _with(),
    "grey paper": _on(((125, 125, 125), (90, 90, 90), (110, 110, 110)), (35, 35, 35)),
    "kraft": _on(KRAFT, (30, 28, 28)),
    "red paper": _on(RED, (25, 20, 20)),
    "blue paper": _on(BLUE, (20, 20, 28)),
    "desk": _with(border="desk", noise=4.0, quality=85, paper=(200, 195, 188)),
    "black frame": _with(border="frame"),
    "edge line": _with(border="edge"),
    "inset border": _with(border="inset"),
    "transparent": _with(transparent=True, ink=WHITE),
    "shadow 50%": _with(shadow=0.5),
    "shadow 30%": _with(shadow=0.3),
    "lined": _with(ruling="lined"),
    "squared": _with(ruling="squared"),
    "cut edge": _cut,
    "three together": lambda sheet, _, rng: _mix(sheet, rng),
    "ball-point": _with(pen="ball-point"),
    "marker": _with(pen="marker"),
    "12 bits in 16": _with(deep=True, bits=12),
    "8 bits in 16": _with(deep=True, bits=8),
}
"""What each kind of picture changes on a sheet."""


def draw_row(strokes: Strokes, row: str, rng: np.random.Generator) -> Image.Image:
    """One picture of a kind of `ROWS`, drawn at random."""
    return draw(strokes, ROWS[row](draw_sheet(rng), strokes, rng), rng)
