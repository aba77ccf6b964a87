"""Pictures as SVG, from the lines of JSON under docs/benchmarks/results.

Enters: the rows of `models.jsonl`. Leaves: the text of an SVG, the same for the same rows. Does not know: how anything
was measured. Colour-blind readers can tell the colours apart (Okabe and Ito), and each point has its name beside it.
"""

import math
from collections.abc import Sequence
from typing import Any

from docs.generate.results import read_rows

WIDTH, HEIGHT, MARGIN = 560, 360, 56
WIDEST_NAME, LINE = 110, 13
"""Room of a name, in the picture's units."""
COLOURS = {"float32": "#0072B2", "int8": "#D55E00", "published": "#767676"}
DATASET_PREFIX, LEAST_ACCURACY = "mnist", 0.9
"""Names of files that are left out, as they answer about other images, and the lowest accuracy that is shown."""
AXES = {
    "batch_32_us": "microseconds an image on one core, in batches of 32",
    "million_multiply_adds": "million multiply-adds an answer",
}


def draw_models() -> str:
    """Accuracy of the models of CIFAR-10 over time, or over multiply-adds as long as no row has a time."""
    rows = [row for row in read_rows("models") if is_shown(row)]
    key = next(key for key in AXES if any(row.get(key) for row in rows))
    points = [(row[key], row["test_accuracy"], name_point(row), find_colour(row)) for row in rows if row.get(key)]
    return draw(points, AXES[key])


def is_shown(row: dict[str, Any]) -> bool:
    """Whether a row is of CIFAR-10 and accurate enough for the scale."""
    return not row["model"].startswith(DATASET_PREFIX) and row["test_accuracy"] >= LEAST_ACCURACY


def name_point(row: dict[str, Any]) -> str:
    """The name beside a point."""
    return str(row["model"]) if "published_by" in row else f"{row['model']}, {row['precision']}"


def find_colour(row: dict[str, Any]) -> str:
    """The colour of a point: by precision, and one for all that others published."""
    return COLOURS["published" if "published_by" in row else row["precision"]]


def draw(points: Sequence[tuple[float, float, str, str]], label: str) -> str:
    """An SVG of named points (x on a logarithmic scale, accuracy, name, colour)."""
    low, high = (math.log10(edge) for edge in (min(x for x, *_ in points) / 1.5, max(x for x, *_ in points) * 2.5))
    least, most = min(y for _, y, *_ in points) - 0.005, max(y for _, y, *_ in points) + 0.005

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - low) / (high - low)
        return MARGIN + across * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - (y - least) / (most - least) * (
            HEIGHT - 2 * MARGIN
        )

    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11"'
    side = f'text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2})"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{label}</text>',
        f'<text x="14" y="{HEIGHT / 2}" {side}>test accuracy</text>',
    ]
    for tick in list_ticks(low, high):
        x, y = place(tick, least)
        lines += [
            draw_line(x, y, x, MARGIN),
            f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{tick:,}</text>',
        ]
    for step in range(math.ceil(least * 100), math.floor(most * 100) + 1):
        x, y = place(10**low, step / 100)
        lines += [
            draw_line(x, y, WIDTH - MARGIN, y),
            f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{step / 100:.2f}</text>',
        ]
    written: list[tuple[float, float]] = []
    for x_value, y_value, name, colour in points:
        x, y = place(x_value, y_value)
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        y = find_room(x, y, written)
        lines.append(f'<text x="{x + 7:.1f}" y="{y + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*lines, "</svg>", ""])


def find_room(x: float, y: float, written: list[tuple[float, float]]) -> float:
    """How far down a name begins beside x, so that it covers no name that is written; it is written from then on."""
    while any(abs(x - other_x) < WIDEST_NAME and abs(y - other_y) < LINE for other_x, other_y in written):
        y += LINE
    written.append((x, y))
    return y


def list_ticks(low: float, high: float) -> list[int]:
    """1, 2 and 5 times the powers of ten between two logarithms."""
    ticks = (step * 10**power for power in range(int(low), math.ceil(high) + 1) for step in (1, 2, 5))
    return [tick for tick in ticks if low <= math.log10(tick) <= high]


def draw_line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line of the grid."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#DDDDDD"/>'
