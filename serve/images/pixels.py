"""A decoded image of any size and mode -> the pixels that a model takes, by a named policy.

Enters: a `PIL.Image.Image`. Leaves: uint8 [H, W, C]. Does not know: image files, models, ONNX Runtime.
Training data goes through the same lines as a request, so that what was trained is what is served.
An image that is already in the model's size and mode comes out bit for bit as it went in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from serve.errors import UnknownPolicy, UnreadableImage
from serve.model_file.spec import InputSpec, PrepareSpec

Pixels = npt.NDArray[np.uint8]

_WHITE = 255
_DARK = 128
_DARK_LEVELS = bytes(range(_DARK))
# Fainter than this share of the darkest stroke is paper, smear or a JPEG's ringing.
_FAINTEST_INK = 0.25
# Brightness along the edge: how far light may fall off over the paper, and how much one place may be noisy.
_PAPER_SPREAD = 64
_PAPER_NOISE = 24
# Mixed with white at a time: 4 ms.
_COMPOSITE_PIXELS = 250_000
# Longer images are averaged down before their strokes are looked for.
_LONGEST_SIDE = 512
# A PNG, JPEG or WebP that was turned by its camera says so under one of these, by one of these numbers (EXIF 2.3).
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


@dataclass(frozen=True, slots=True)
class Policy:
    """What a model wants done with an image. Called with a decoded one, it gives uint8 [H, W, C]."""

    prepare: Callable[[Image.Image], Pixels]
    are_ready: Callable[[Pixels], list[bool]]
    """Which of some pixels uint8 [N, H, W, C], in the model's own size and colours, `prepare` leaves as they are."""

    def __call__(self, image: Image.Image) -> Pixels:
        """Raises UnreadableImage."""
        return self.prepare(image)


def find_policy(prepare: PrepareSpec, target: InputSpec) -> Policy:
    """The policy of a name, version and parameters. Raises UnknownPolicy."""
    height, width, _ = target.shape
    known: dict[tuple[str, int, str], Callable[..., Policy]] = {
        ("digit", 1, "grey"): _digit,
        ("photo", 1, "rgb"): _photo,
    }
    make = known.get((prepare.policy, prepare.version, target.colour))
    try:
        if make is not None:
            return make(width, height, **prepare.parameters)
    except TypeError:
        pass  # parameters that the policy does not have or take: as unknown as another name
    raise UnknownPolicy(
        f"wanted one of the policies digit/1 (grey; box=1 to {min(width, height)}) and photo/1 (rgb), "
        f"got {prepare.policy}/{prepare.version} "
        f"({'; '.join([target.colour, *(f'{name}={value!r}' for name, value in prepare.parameters.items())])})"
    )


def _digit(width: int, height: int, *, box: int) -> Policy:
    """A handwritten digit as MNIST has it (LeCun et al. 1998): upright, strokes fitted into `box`, centred by mass."""
    if type(box) is not int or not 0 < box <= min(width, height):
        raise TypeError("box")  # becomes UnknownPolicy

    def prepare(image: Image.Image) -> Pixels:
        image = _upright(image)
        if image.mode == "L" and image.size == (width, height) and "transparency" not in image.info:
            pixels = image.tobytes()
            if _is_dark(pixels[:width] + pixels[-width:] + pixels[::width] + pixels[width - 1 :: width]):
                return np.frombuffer(pixels, np.uint8).reshape(height, width, 1)
        grey = _over_white(image).convert("L")
        # Strokes this fine vanish in the box anyway, and a photograph as float32 takes four times its memory.
        small = _array(grey.reduce(max(1, max(grey.size) // _LONGEST_SIDE)))
        return _centred_by_mass(_fitted(_ink(small), box), width, height)[..., None]

    return Policy(prepare, lambda pixels: [_is_dark(edge.tobytes()) for edge in _edges(pixels[..., 0])])


def _photo(width: int, height: int) -> Policy:
    """A photograph: upright, RGB, the largest centred part of the model's shape, scaled with antialiasing."""

    def prepare(image: Image.Image) -> Pixels:
        upright = _upright(image)
        rgb = _over_white(upright)
        if rgb.mode != "RGB":
            rgb = rgb.convert("RGB")
        if rgb.size != (width, height):
            rgb = rgb.resize((width, height), Image.Resampling.BICUBIC, box=_centre(rgb.size, width / height))
        return np.frombuffer(rgb.tobytes(), np.uint8).reshape(height, width, 3)

    return Policy(prepare, lambda pixels: [True] * len(pixels))


def _upright(image: Image.Image) -> Image.Image:
    if _ORIENTATION_KEYS.isdisjoint(image.info):
        return image
    try:
        # Not ImageOps.exif_transpose: it writes all other tags anew, and fails on many that are harmless here.
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken tags fail in any way; like every viewer, show the picture as it lies
        return image
    return image if turn is None else image.transpose(turn)


def _over_white(image: Image.Image) -> Image.Image:
    """Lay whatever is transparent over white paper; 8 bits a channel."""
    image = _eight_bit(image)
    try:
        if not image.has_transparency_data:
            return image
        layered = image.convert("RGBA")
    except Exception as error:  # no palette, or transparency for over 256 colours: each fails in its own way
        raise UnreadableImage("wanted a palette that fits its image, got one that does not") from error
    return _composite(layered)


def _composite(layered: Image.Image) -> Image.Image:
    """RGBA over white, RGB. A few rows at a time: Pillow keeps the interpreter's lock meanwhile, 15 ns a pixel."""
    flat = Image.new("RGB", layered.size)
    rows = max(1, _COMPOSITE_PIXELS // layered.width)
    for top in range(0, layered.height, rows):
        strip = layered.crop((0, top, layered.width, min(top + rows, layered.height)))
        paper = Image.new("RGBA", strip.size, (_WHITE,) * 4)
        flat.paste(Image.alpha_composite(paper, strip).convert("RGB"), (0, top))
    return flat


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, its one transparent level to white: Pillow's own conversion clips both."""
    if not image.mode.startswith("I"):
        return image
    deep = np.asarray(image).astype(np.uint16)
    transparent = deep == image.info.get("transparency", -1)
    return Image.fromarray(np.where(transparent, _WHITE, deep >> 8).astype(np.uint8))


def _array(grey: Image.Image) -> Pixels:
    return np.frombuffer(grey.tobytes(), np.uint8).reshape(grey.height, grey.width)


def _edges(pixels: Pixels) -> Pixels:
    """The edges of grey pixels [N, H, W], [N, 2 W + 2 H]."""
    return np.concatenate([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], axis=1)


def _is_dark(edge: bytes) -> bool:
    """Whether the median of the levels along an image's edge is dark; MNIST's edges are black throughout."""
    return 2 * len(edge.translate(None, _DARK_LEVELS)) < len(edge)


def _ink(grey: Pixels) -> npt.NDArray[np.float32]:
    """How much each pixel differs from the paper towards the stroke, float32 [H, W] from 0 to 1."""
    paper = _paper(grey)
    away = grey - paper if paper.mean() < _DARK else paper - grey
    ink = np.maximum(away, 0, dtype=np.float32)
    return np.asarray(ink / max(float(ink.max()), 1.0), np.float32)


def _paper(grey: Pixels) -> npt.NDArray[np.float32]:
    """The brightness of the paper everywhere, float32 [H, W]: a plane through the edge, for light falls off evenly.

    Fitted twice: what lies far from the first plane is a stroke that touches the edge, and is left out.
    """
    height, width = grey.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    is_edge = np.zeros((height, width), bool)
    is_edge[[0, -1]] = is_edge[:, [0, -1]] = True
    points = np.stack([np.ones(int(is_edge.sum()), np.float32), rows[is_edge], columns[is_edge]], axis=1)
    levels = grey[is_edge].astype(np.float32)
    near = np.abs(levels - np.median(levels)) <= _PAPER_SPREAD
    for _ in range(2):
        plane = np.linalg.lstsq(points[near], levels[near], rcond=None)[0]
        near = np.abs(points @ plane - levels) <= _PAPER_NOISE
        if not near.any():
            break
    return np.asarray(plane[0] + plane[1] * rows + plane[2] * columns, np.float32)


def _fitted(ink: npt.NDArray[np.float32], box: int) -> Pixels:
    """The strokes' bounding box, its aspect kept, scaled so that its longer side is `box`."""
    rows, columns = (np.flatnonzero((ink > _FAINTEST_INK).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return np.zeros((box, box), np.uint8)
    strokes = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = box / max(strokes.shape)
    size = [max(1, round(side * scale)) for side in reversed(strokes.shape)]
    small = np.asarray(
        Image.fromarray(strokes).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    )
    # A thin pen fades when it is scaled down; MNIST's strokes reach full white.
    return np.asarray(np.clip(small / max(float(small.max()), 1e-6), 0, 1) * 255 + 0.5, np.uint8)


def _centred_by_mass(strokes: Pixels, width: int, height: int) -> Pixels:
    """Place the strokes so that their centre of mass is the image's centre, as far as they stay inside."""
    mass = max(float(strokes.sum()), 1.0)
    canvas = np.zeros((height, width), np.uint8)
    starts = []
    for axis, room in ((0, height), (1, width)):
        size = strokes.shape[axis]
        centre = float((strokes.sum(axis=1 - axis) * (np.arange(size) + 0.5)).sum()) / mass
        starts.append(min(max(round(room / 2 - centre), 0), room - size))
    top, left = starts
    canvas[top : top + strokes.shape[0], left : left + strokes.shape[1]] = strokes
    return canvas


def _centre(size: tuple[int, int], aspect: float) -> tuple[float, float, float, float]:
    """The largest centred box (left, top, right, bottom) of an aspect, so that nothing is ever enlarged first."""
    width, height = size
    wide, high = min(width, height * aspect), min(height, width / aspect)
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high


def to_png(pixels: Pixels) -> bytes:
    """Prepared pixels uint8 [H, W, C] as a PNG file, to be looked at or sent again."""
    buffer = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
