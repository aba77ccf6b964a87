"""Digits as a hand draws them, and the mouse that draws them."""

from typing import Any

SHAPES = {
    "0": "50,20 38,26 33,50 38,74 50,80 62,74 67,50 62,26 50,20",
    "1": "42,32 53,20 52,50 51,80",
    "2": "34,34 40,23 52,20 63,28 62,42 48,60 33,78 50,77 68,78",
    "3": "35,25 50,20 63,28 60,42 47,48 62,54 66,68 54,79 36,76",
    "4": "40,20 34,52 50,53 68,52 / 60,24 58,50 57,82",
    "5": "64,21 40,22 38,46 52,42 65,52 64,70 50,80 35,75",
    "6": "58,20 45,32 37,52 36,68 46,80 60,77 64,64 54,55 40,62",
    "7": "32,24 50,23 68,22 60,44 52,62 46,82",
    "8": "62,30 52,20 39,27 42,40 55,51 64,66 53,80 38,72 42,57 55,45 62,30",
    "9": "63,32 50,21 37,32 42,46 56,46 64,33 63,55 58,82",
}
"""Points in hundredths of the side of the square; a stroke ends at a slash."""
DIGITS = {
    digit: [
        [tuple(int(number) / 100 for number in point.split(",")) for point in stroke.split()]
        for stroke in shape.split("/")
    ]
    for digit, shape in SHAPES.items()
}


def draw(page: Any, digit: str) -> None:
    """Draw a digit with the mouse."""
    box = page.locator("#pad").bounding_box()
    for stroke in DIGITS[digit]:
        for place, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
            if place == 0:
                page.mouse.down()
        page.mouse.up()


def wait_for_answer(page: Any, label: str) -> None:
    """Wait until the page says a label, and nothing is on its way any more."""
    page.wait_for_function(
        "label => !state.isAsking && !state.pending && !drew.timer "
        "&& !document.getElementById('result').hidden "
        "&& document.getElementById('best-label').textContent === label",
        arg=label,
        timeout=20_000,
    )
