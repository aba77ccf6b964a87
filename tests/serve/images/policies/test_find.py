"""serve.images.policies.find: an unknown policy is refused with the known ones; no policy takes much memory."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from serve.errors import UnknownPolicy, UnreadableImage
from serve.images.decode import decode
from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from tests.serve.images.policies.test_digit_1 import GREY_28
from tests.serve.images.policies.test_photo_1 import RGB_32
from tests.serve.images.test_decode import PNG_SIGNATURE, chunk, idat

EVERY_POLICY = [
    PrepareSpec("digit", 1, {"box": 20}),
    PrepareSpec("digit", 2, {"box": 20}),
    PrepareSpec("photo", 1, {}),
    PrepareSpec("photo", 2, {"margins": "peel"}),
    PrepareSpec("photo", 2, {"margins": "frame"}),
    PrepareSpec("photo", 3, {"resize": 40, "crop": True, "interpolation": "bilinear", "antialias": True}),
]


@pytest.mark.parametrize(
    ("prepare", "target", "found"),
    [
        (PrepareSpec("poster", 1, {}), RGB_32, r"got poster/1 \(rgb\)"),
        (PrepareSpec("photo", 3, {}), RGB_32, r"got photo/3 \(rgb\)"),
        (PrepareSpec("photo", 2, {}), RGB_32, r"got photo/2 \(rgb\)"),
        (PrepareSpec("photo", 2, {"margins": "cut"}), RGB_32, r"got photo/2 \(rgb; margins='cut'\)"),
        (PrepareSpec("photo", 2, {"margins": True}), RGB_32, r"got photo/2 \(rgb; margins=True\)"),
        (PrepareSpec("photo", 2, {"margins": "cut" * 99}), RGB_32, r"got photo/2 \(rgb; margins='(cut)+c?u?\.\.\.\)"),
        (PrepareSpec("photo", 1, {}), GREY_28, r"got photo/1 \(grey\)"),
        (PrepareSpec("digit", 1, {"box": 20}), RGB_32, r"got digit/1 \(rgb; box=20\)"),
        (PrepareSpec("digit", 1, {}), GREY_28, r"got digit/1 \(grey\)"),
        (PrepareSpec("digit", 1, {"box": 20, "blur": 2}), GREY_28, r"got digit/1 \(grey; box=20; blur=2\)"),
        (PrepareSpec("photo", 1, {"crop": 0.9}), RGB_32, r"got photo/1 \(rgb; crop=0.9\)"),
        (PrepareSpec("digit", 3, {"box": 20}), GREY_28, r"got digit/3 \(grey; box=20\)"),
        (PrepareSpec("digit", 2, {}), GREY_28, r"got digit/2 \(grey\)"),
        (PrepareSpec("digit", 2, {"box": 29}), GREY_28, "box=29"),
        (PrepareSpec("digit", 1, {"box": 0}), GREY_28, "box=0"),
        (PrepareSpec("digit", 1, {"box": 29}), GREY_28, "box=29"),
        (PrepareSpec("digit", 1, {"box": "20"}), GREY_28, "box='20'"),
        (PrepareSpec("digit", 1, {"box": 20.5}), GREY_28, "box=20.5"),
        (PrepareSpec("digit", 1, {"box": True}), GREY_28, "box=True"),
    ],
)
def test_an_unknown_policy_is_refused_with_the_known_ones(prepare: PrepareSpec, target: InputSpec, found: str) -> None:
    """The error also shows the colour and the parameters that came."""
    with pytest.raises(UnknownPolicy, match=rf"wanted one of the policies digit/1 .*photo/1 .*{found}"):
        find_policy(prepare, target)


@pytest.mark.parametrize(
    "chunks",
    [b"", chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\xff" * 260)],
    ids=["no palette", "too many alphas"],
)
@pytest.mark.parametrize("prepare", EVERY_POLICY, ids=str)
@pytest.mark.parametrize("side", [4, 300])
def test_every_policy_refuses_a_palette_that_does_not_fit(prepare: PrepareSpec, chunks: bytes, side: int) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 3, 0, 0, 0))
    image = decode(PNG_SIGNATURE + header + chunks + idat(side, side) + chunk(b"IEND", b""), 100_000)
    target = GREY_28 if prepare.policy == "digit" else RGB_32
    with pytest.raises(UnreadableImage, match="wanted a palette that fits its image"):
        find_policy(prepare, target)(image)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_no_policy_takes_much_memory_for_a_strip(size: tuple[int, int]) -> None:
    """Scaled by its shorter side to the model's size, a strip would have 20,000 x 640,000 pixels."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc to read resident memory")
    script = f"""
import re
from pathlib import Path
from PIL import Image
from serve.model_file.spec import InputSpec, PrepareSpec
from serve.images.policies.find import find_policy
def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
policies = [
    find_policy(PrepareSpec("digit", 1, {{"box": 20}}), InputSpec((28, 28, 1), "uint8", "grey")),
    find_policy(PrepareSpec("digit", 2, {{"box": 20}}), InputSpec((28, 28, 1), "uint8", "grey")),
    find_policy(PrepareSpec("photo", 1, {{}}), InputSpec((32, 32, 3), "uint8", "rgb")),
    find_policy(
        PrepareSpec("photo", 3, dict(resize=40, crop=True, interpolation="bilinear", antialias=True)),
        InputSpec((32, 32, 3), "uint8", "rgb"),
    ),
]
strip = Image.linear_gradient("L").resize({size})
for policy in policies:
    policy(Image.linear_gradient("L"))
before = peak_kb()
for policy in policies:
    policy(strip)
print(peak_kb() - before)
"""
    grown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 4_000
