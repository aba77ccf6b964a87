"""`python -m docs.generate.steps`: pictures of what a policy makes of six images, for the page about preparing.

Enters: pictures of the tests and samples. Leaves: `docs/static/steps-*.png`, a row of steps each.
"""

from io import BytesIO
from pathlib import Path

from PIL import Image

from serve.images.policies.find import find_policy
from serve.images.reader import ImageReader, Prepared
from serve.model_file.spec import InputSpec, PrepareSpec

ROOT = Path(__file__).parents[2]
SIDE, GAP = 112, 4
PICTURES = {
    "grey-paper": "tests/reported/paper/90-ink-25-is-3.jpg",
    "kraft": "tests/reported/paper/kraft-is-4.jpg",
    "canvas": "tests/reported/canvas/white-is-7.png",
    "12-bits": "tests/reported/deep/12-bits-in-16-is-7.png",
    "photograph": "samples/digits/5-photographed.jpg",
    "chalk": "samples/digits/2-chalk.webp",
}


def draw_steps(data: bytes) -> Image.Image:
    """The steps of digit/2 beside each other."""
    policy = find_policy(PrepareSpec("digit", 2, {"box": 20}), InputSpec((28, 28, 1), "uint8", "grey"))
    read = ImageReader(policy, 50_000_000, keeps_steps=True).read(data)
    if not isinstance(read, Prepared):
        raise read
    row = Image.new("L", ((SIDE + GAP) * len(read.steps) - GAP, SIDE), 128)
    for number, step in enumerate(read.steps):
        picture = Image.open(BytesIO(step.png))
        size = [max(1, round(side * SIDE / max(picture.size))) for side in picture.size]
        row.paste(picture.convert("L").resize(size, Image.Resampling.BOX), (number * (SIDE + GAP), 0))
    return row


def main() -> None:
    """Write the pictures."""
    for name, path in PICTURES.items():
        draw_steps((ROOT / path).read_bytes()).save(ROOT / f"docs/static/steps-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
