"""A page's levels -> the page ruled, bordered, lit, and laid on a desk.

Enters and leaves: float32 [H, W, 3], from 0 to 255. Does not know: strokes, pens, files.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Levels: TypeAlias = npt.NDArray[np.float32]

_LINES = ((150, 175, 225), (170, 170, 180), (120, 150, 215), (205, 150, 160))
_DESKS = ((60, 38, 40), (110, 75, 45), (45, 45, 50), (80, 60, 50))
_BLACK = (15, 12, 16)


def rule(page: Levels, kind: str, rng: np.random.Generator) -> Levels:
    """Lines across the page, one way or both, at equal distances."""
    if not kind:
        return page
    side = page.shape[0]
    colour = np.array(_LINES[int(rng.integers(len(_LINES)))], np.float32)
    tone = colour / 255 * page.mean(axis=(0, 1))
    step, width = float(rng.uniform(0.18, 0.42)) * side, max(1, round(side / 150))
    start = float(rng.uniform(0.02, 1)) * step
    for at in np.arange(start, side, step).astype(int):
        page[at : at + width] = tone
    if kind == "squared":
        for at in np.arange(float(rng.uniform(0.02, 1)) * step, side, step).astype(int):
            page[:, at : at + width] = tone
    return page


def add_light(page: Levels, shadow: float, rng: np.random.Generator) -> Levels:
    """The light beyond a straight edge through the page is less by `shadow`."""
    if not shadow:
        return page
    side = page.shape[0]
    angle = float(rng.uniform(0, 2 * np.pi))
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    across = rows * np.sin(angle) + columns * np.cos(angle)
    edge = float(rng.uniform(-0.25, 0.25)) * side
    lost = shadow * np.clip((across - edge) / 2 + 0.5, 0, 1)
    return np.asarray(page * (1 - lost)[..., None], np.float32)


def add_border(page: Levels, kind: str, rng: np.random.Generator) -> Levels:
    """A broad black frame, a line along one to four edges, or a line inset from all four."""
    side = page.shape[0]
    if kind == "frame":
        _outline(page, 0, round(side * float(rng.uniform(0.02, 0.06))) + 1)
    elif kind == "edge":
        width = int(rng.integers(1, 4))
        chosen = np.ones(4, bool) if rng.random() < 0.5 else rng.permutation(4) < rng.integers(1, 4)
        for turn in np.flatnonzero(chosen):
            np.rot90(page, int(turn))[:width] = _BLACK
    elif kind == "inset":
        _outline(page, round(side * float(rng.uniform(0.02, 0.05))), int(rng.integers(1, 4)))
    return page


def _outline(page: Levels, inset: int, width: int) -> None:
    inside = page[inset : page.shape[0] - inset, inset : page.shape[1] - inset]
    for turn in range(4):
        np.rot90(inside, turn)[:width] = _BLACK


def lay_on_desk(page: Levels, rng: np.random.Generator) -> Levels:
    """The page, turned by a few degrees, on a darker desk with a grain."""
    side = page.shape[0]
    margins = (rng.uniform(0.06, 0.22, 4) * side).astype(int)
    height, width = side + margins[0] + margins[1], side + margins[2] + margins[3]
    desk = np.tile(np.array(_DESKS[int(rng.integers(len(_DESKS)))], np.float32), (height, width, 1))
    grain = np.cumsum(rng.normal(0, 2.5, height))
    desk += (grain - grain.mean())[:, None, None] * 0.6 + rng.normal(0, 3, (height, width, 1))
    layer = Image.new("RGBA", (width, height))
    paper = Image.fromarray(np.clip(page, 0, 255).astype(np.uint8)).convert("RGBA")
    layer.paste(paper, (int(margins[2]), int(margins[0])))
    turned = np.asarray(layer.rotate(float(rng.uniform(-3, 3)), Image.Resampling.BILINEAR), np.float32)
    cover = turned[..., 3:] / 255
    return np.asarray(desk * (1 - cover) + turned[..., :3] * cover, np.float32)
