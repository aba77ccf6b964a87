"""serve.images.containers.avif: an AVIF's size is that of its AV1 data, and one that announces another is refused."""

import random
import struct

import numpy as np
import pytest
from PIL import Image

from serve.errors import ImageError, ImageTooLarge, TruncatedImage, UnreadableImage
from serve.images.containers.avif import announced_avif, read_avif_size
from serve.images.decode import decode, estimate_cost
from tests.serve.images.containers.test_tables import box, make_avif
from tests.serve.images.test_decode import LIMIT
from tests.support import encode

AV1_OF_AVIF = 8
"""Bytes of the length and name of the box that has the AV1 data."""
IN_FILE, IN_META = 0, 1
Picture = tuple[bytes, bytes, tuple[int, int]]
"""AV1 data, the box of its set-up, and the size to announce."""


def draw(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def animate(size: tuple[int, int], mode: str = "RGB") -> bytes:
    frames = [draw(size, mode).rotate(angle) for angle in (0, 90, 180)]
    return encode(frames[0], "AVIF", save_all=True, append_images=frames[1:])


def announce(data: bytes, size: tuple[int, int], lie: tuple[int, int]) -> bytes:
    """The file with other sizes in its properties."""
    return data.replace(b"ispe\0\0\0\0" + struct.pack(">II", *size), b"ispe\0\0\0\0" + struct.pack(">II", *lie))


def picture(size: tuple[int, int], announced: tuple[int, int], mode: str = "RGB") -> Picture:
    data = encode(draw(size, mode), "AVIF")
    setup = data.index(b"av1C") - 4
    return data[data.index(b"mdat") + 4 :], data[setup : setup + 12], announced


def assemble(*pictures: Picture, way: int = IN_FILE, pieces: int = 1, kind: bytes = b"av01") -> bytes:
    """An AVIF of a picture and, if there is a second, its alpha."""
    numbers = range(1, len(pictures) + 1)
    items = b"".join(box(b"infe", struct.pack(">IHH4sx", 2 << 24, item, 0, kind)) for item in numbers)
    alpha = box(b"auxC", b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
    properties = b"".join(box(b"ispe", struct.pack(">III", 0, *size)) + setup for _, setup, size in pictures) + alpha
    last = 2 * len(pictures) + 1
    pairs = b"".join(
        struct.pack(">HB", item, 3) + bytes([2 * item - 1, 2 * item, last if item > 1 else 2]) for item in numbers
    )
    ipma = box(b"ipma", struct.pack(">II", 0, len(pictures)) + pairs)
    contents = b"".join(data for data, _, _ in pictures)

    def meta(first: int) -> bytes:
        places, start = b"", first
        for item, (data, _, _) in zip(numbers, pictures, strict=True):
            places += struct.pack(">HHHH", item, way, 0, pieces) + struct.pack(">II", start, len(data)) * pieces
            start += len(data)
        return box(
            b"meta",
            bytes(4)
            + box(b"hdlr", bytes(8) + b"pict" + bytes(13))
            + box(b"pitm", struct.pack(">IH", 0, 1))
            + box(b"iloc", struct.pack(">IHH", 1 << 24, 0x4400, len(pictures)) + places)
            + box(b"iinf", struct.pack(">IH", 0, len(pictures)) + items)
            + box(b"iref", bytes(4) + box(b"auxl", struct.pack(">HHH", 2, 1, 1)))
            + box(b"iprp", box(b"ipco", properties) + ipma)
            + (box(b"idat", contents) if way == IN_META else b""),
        )

    if way == IN_META:
        return make_avif(meta(0))
    return make_avif(meta(len(make_avif(meta(0))) + AV1_OF_AVIF), box(b"mdat", contents))


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (301, 7), (1, 200)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_the_size_of_an_ordinary_avif_is_read(size: tuple[int, int], mode: str) -> None:
    assert read_avif_size(encode(draw(size, mode), "AVIF")) == size


@pytest.mark.parametrize("size", [(16, 16), (65, 34)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_size_of_an_animation_is_read(size: tuple[int, int], mode: str) -> None:
    data = animate(size, mode)
    assert read_avif_size(data) == size
    assert decode(data, LIMIT).size == size


@pytest.mark.parametrize("way", [IN_FILE, IN_META])
def test_pictures_are_found_in_the_file_and_beside_their_description(way: int) -> None:
    data = assemble(picture((64, 48), (64, 48)), picture((64, 48), (64, 48), "L"), way=way)
    assert read_avif_size(data) == (64, 48)
    image = decode(data, LIMIT)
    assert image.mode == "RGBA"
    assert np.ptp(np.asarray(image)[..., 3]) > 200


@pytest.mark.parametrize("lie", [(64, 64), (799, 600), (4000, 3000), (0, 0), (600, 800)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_avif_that_announces_another_size_than_its_data_have_is_refused(lie: tuple[int, int], mode: str) -> None:
    data = announce(encode(draw((800, 600), mode), "AVIF"), (800, 600), lie)
    with pytest.raises(UnreadableImage, match=f"AV1 data, 800 x 600, got {lie[0]} x {lie[1]}"):
        decode(data, LIMIT)
    assert announced_avif(data) is None
    assert estimate_cost(data, 10**6) >= 800 * 600


def test_an_animation_that_announces_another_size_is_refused() -> None:
    data = animate((80, 60))
    with pytest.raises(UnreadableImage, match="80 x 60, got 16 x 16"):
        decode(announce(data, (80, 60), (16, 16)), LIMIT)
    with pytest.raises(UnreadableImage, match="80 x 60, got 16 x 16"):
        decode(data.replace(struct.pack(">II", 80 << 16, 60 << 16), struct.pack(">II", 16 << 16, 16 << 16)), LIMIT)


def test_an_alpha_that_announces_another_size_is_refused() -> None:
    with pytest.raises(UnreadableImage, match="2000 x 1500, got 64 x 48"):
        decode(assemble(picture((64, 48), (64, 48)), picture((2000, 1500), (64, 48), "L")), LIMIT)


def test_an_alpha_counts_if_it_is_larger_than_its_picture() -> None:
    data = assemble(picture((64, 48), (64, 48)), picture((2000, 1500), (2000, 1500), "L"))
    assert announced_avif(data) == (2000, 1500)
    with pytest.raises(ImageTooLarge):
        decode(data, 10_000)


def test_too_many_pixels_are_refused_before_the_file_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(draw((800, 600)), "AVIF")
    monkeypatch.setattr("serve.images.decode._open", lambda _: pytest.fail("it was opened"))
    with pytest.raises(ImageTooLarge, match="800 x 600"):
        decode(data, 800 * 600 - 1)
    assert estimate_cost(data, 800 * 600) == 2 * 800 * 600


@pytest.mark.parametrize("kind", [b"grid", b"hvc1"])
def test_what_is_no_plain_picture_is_refused(kind: bytes) -> None:
    with pytest.raises(UnreadableImage, match="grid" if kind == b"grid" else "where its picture is"):
        decode(assemble(picture((64, 48), (64, 48)), kind=kind), LIMIT)


@pytest.mark.parametrize("pieces", [0, 2, 60_000])
def test_a_picture_in_several_pieces_is_refused(pieces: int) -> None:
    with pytest.raises(UnreadableImage, match=r"in one piece|very many"):
        decode(assemble(picture((64, 48), (64, 48)), pieces=pieces), LIMIT)


def test_a_file_with_two_descriptions_is_refused() -> None:
    data = assemble(picture((64, 48), (64, 48)), way=IN_META)
    description = data[data.index(b"meta") - 4 :]
    with pytest.raises(UnreadableImage, match="one box meta"):
        decode(data + description, LIMIT)


def test_very_many_pictures_or_tracks_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="of very many"):
        decode(assemble(*[picture((16, 16), (16, 16))] * 9), LIMIT)
    with pytest.raises(UnreadableImage, match="of very many"):
        decode(make_avif(box(b"moov", box(b"trak", b"") * 9)), LIMIT)


def test_boxes_in_boxes_without_end_are_refused() -> None:
    nested = b""
    for _ in range(5_000):
        nested = box(b"meta", bytes(4) + nested)
    with pytest.raises(UnreadableImage, match="of very many"):
        decode(make_avif(nested), LIMIT)


@pytest.mark.parametrize("make", [lambda: encode(draw((40, 30), "RGBA"), "AVIF"), lambda: animate((40, 30))])
def test_a_truncated_avif_gives_an_error_of_ours_at_every_length(make) -> None:  # type: ignore[no-untyped-def]
    data = make()
    for length in range(12, len(data) - 1):
        with pytest.raises(ImageError):
            decode(data[:length], LIMIT)
    with pytest.raises(TruncatedImage):
        decode(encode(draw((40, 30)), "AVIF")[:-5], LIMIT)


@pytest.mark.parametrize("data", [encode(draw((40, 30), "RGBA"), "AVIF"), animate((40, 30))], ids=["still", "moving"])
def test_changed_bytes_give_a_size_or_an_error_of_ours(data: bytes) -> None:
    chance = random.Random(7)
    for _ in range(2_000):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(12, len(data))] = chance.choice((0, 1, 127, 255, chance.randrange(256)))
        try:
            assert min(read_avif_size(bytes(changed))) > 0
        except ImageError as error:
            assert str(error).startswith("wanted")  # noqa: PT017
