"""The steps that all policies share: turn an image upright, lay it over white, scale it to 8 bits a channel.

Enters: a `PIL.Image.Image`, or pixels. Leaves: another image, or a PNG of the pixels. Does not know: models.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from serve.errors import UnreadableImage

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [H, W, C]."""


class Step(NamedTuple):
    """One picture on the way from an image file to a model's input."""

    name: str
    png: bytes


class Report:
    """What a policy says of one image beside its pixels."""

    def __init__(self, keeps_steps: bool = False) -> None:
        self.notes: list[str] = []
        """What it saw, as names in UPPER_SNAKE_CASE."""
        self.steps: list[Step] = []
        """The pictures on the way, if they are kept."""
        self._keeps_steps = keeps_steps

    def add_step(self, name: str, picture: Image.Image | npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> None:
        """Keep a picture: levels uint8 [H, W] or [H, W, C], or shares float32 [H, W] from 0 to 1."""
        if not self._keeps_steps:
            return
        if not isinstance(picture, Image.Image):
            if picture.dtype != np.uint8:
                picture = (np.clip(picture, 0, 1) * _WHITE).astype(np.uint8)
            picture = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
        buffer = BytesIO()
        picture.reduce(max(1, max(picture.size) // _STEP_SIDE)).save(buffer, "PNG")
        self.steps.append(Step(name, buffer.getvalue()))


class Policy(Protocol):
    """A decoded image -> the pixels that one model takes. Raises UnreadableImage."""

    def __call__(self, image: Image.Image, report: Report | None = None, /) -> Pixels:
        """The pixels uint8 [H, W, C]. What else there is to say goes into the report."""


_WHITE = 255
_NO_LEVEL = 2**40
"""Stands for the transparent level where there is none. It is beyond 32 bits."""
_STEP_SIDE = 160
"""Pixels of the longer side of a step's picture, at least, where the image has them: a reply may hold hundreds."""
_COMPOSITE_PIXELS = 250_000
"""Pixels that are laid over white in one call of Pillow, which holds the interpreter's lock during it."""
# The keys under which a PNG, JPEG or WebP holds its orientation, and how its numbers are undone (EXIF 2.3).
_ORIENTATION_KEYS = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says. Unreadable EXIF data change nothing."""
    if _ORIENTATION_KEYS.isdisjoint(image.info):
        return image
    try:
        # Not ImageOps.exif_transpose: it writes all other tags again, and fails for many that are harmless here.
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # unreadable tags raise any kind of exception; viewers do not turn such an image either
        return image
    return image if turn is None else image.transpose(turn)


def over_white(image: Image.Image) -> Image.Image:
    """Scale an image to 8 bits a channel and lay its transparent parts over white. Raises UnreadableImage."""
    image = _eight_bit(image)
    return _composite(image) if is_transparent(image) else image


def convert(image: Image.Image, mode: str) -> Image.Image:
    """An image in another of Pillow's modes. Raises UnreadableImage if its palette or transparency is broken."""
    with _faults_of_palettes():
        return image.convert(mode)


def is_transparent(image: Image.Image) -> bool:
    """Whether an image says of its pixels how opaque they are. Raises UnreadableImage as convert()."""
    with _faults_of_palettes():
        return image.has_transparency_data


@contextmanager
def _faults_of_palettes() -> Iterator[None]:
    """What Pillow raises in here becomes UnreadableImage."""
    try:
        yield
    except MemoryError:  # the server's fault
        raise
    except Exception as error:  # no palette, or more transparencies than colours: each raises another exception
        raise UnreadableImage("wanted a palette that fits its image, got one that does not") from error


def _composite(image: Image.Image) -> Image.Image:
    """Over white as RGB, a few rows at a time, so that no second image of four channels is in memory."""
    flat = Image.new("RGB", image.size)
    rows = max(1, _COMPOSITE_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = convert(image.crop((0, top, image.width, min(top + rows, image.height))), "RGBA")
        paper = Image.new("RGBA", strip.size, (_WHITE,) * 4)
        flat.paste(Image.alpha_composite(paper, strip).convert("RGB"), (0, top))
    return flat


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale deep grey to 8 bits, and its transparent level to white. Pillow's own conversion clips both."""
    if image.mode == "F":
        return _with_info(_eight_bit_of_floats(image), image)
    if not image.mode.startswith("I"):
        return image
    deep = np.asarray(image)
    transparent = deep == image.info.get("transparency", _NO_LEVEL)
    shift = max(8, int(deep.max()).bit_length() - 8) if image.mode == "I" else 8
    return _with_info(Image.fromarray(_to_levels(deep, shift, transparent)), image)


def _to_levels(deep: npt.NDArray[Any], shift: int, transparent: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Deep levels as 8 bits: what is below black is black, and what is transparent white."""
    levels = deep >> shift
    np.maximum(levels, 0, out=levels)
    return np.where(transparent, _WHITE, levels).astype(np.uint8)


def _eight_bit_of_floats(image: Image.Image) -> Image.Image:
    """Levels that are numbers with fractions: from 0 to 1, to 255, or to their greatest.

    A few rows at a time, so that no second image of four bytes a pixel is in memory.
    """
    step = max(1, _COMPOSITE_PIXELS // image.width)
    strips = [(top, min(top + step, image.height)) for top in range(0, image.height, step)]
    most = max(float(_finite_rows(image, *strip).max()) for strip in strips)
    factor = _WHITE if most <= 1 else 1 if most <= _WHITE else _WHITE / most
    found = np.empty((image.height, image.width), np.uint8)
    for top, bottom in strips:
        found[top:bottom] = np.clip(_finite_rows(image, top, bottom) * factor, 0, _WHITE)
    return Image.fromarray(found)


def _finite_rows(image: Image.Image, top: int, bottom: int) -> npt.NDArray[np.float32]:
    levels: npt.NDArray[np.float32] = np.asarray(image.crop((0, top, image.width, bottom)), np.float32)
    return np.nan_to_num(levels, nan=0.0, posinf=0.0, neginf=0.0)


def eight_bits_of_range(image: Image.Image) -> Image.Image:
    """Scale deep grey to 8 bits by the range that its levels use: 12 bits in 16 are as bright as 16."""
    if image.mode == "F" or not image.mode.startswith("I"):
        return _eight_bit(image)
    deep = np.asarray(image)
    transparent = deep == image.info.get("transparency", _NO_LEVEL)
    shift = max(0, int(deep.max()).bit_length() - 8)
    return _with_info(Image.fromarray(_to_levels(deep, shift, transparent)), image)


def shrink(image: Image.Image, factor: int) -> Image.Image:
    """Average squares of `factor` x `factor` pixels; of transparent colours each counts as far as it is opaque.

    What a palette, a transparent level or 16 bits mean is worked out first. The result is 8 bits a channel then.
    """
    if factor < 2:
        return image
    image = _eight_bit(image)
    if image.mode in {"P", "PA", "1"} or "transparency" in image.info:
        image = convert(image, "L" if image.mode == "1" else "RGBA" if is_transparent(image) else "RGB")
    if image.mode == "RGBA":
        # Most pictures with four channels are opaque all over, and weights take ten times as long as averages.
        bands = Image.frombuffer("CMYK", image.size, image.tobytes(), "raw", "CMYK", 0, 1).reduce(factor).split()
        if bands[3].getextrema()[0] == _WHITE:
            return _with_info(Image.merge("RGB", bands[:3]), image)
    return image.reduce(factor)


def _with_info(image: Image.Image, source: Image.Image) -> Image.Image:
    """An image made anew, with what the source says of its orientation."""
    image.info = {key: value for key, value in source.info.items() if key in _ORIENTATION_KEYS}
    return image


def to_png(pixels: Pixels) -> bytes:
    """Pixels uint8 [H, W, C] with one or three channels as a PNG file."""
    buffer = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
