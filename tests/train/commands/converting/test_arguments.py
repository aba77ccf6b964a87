"""`python -m train.convert`: numbers and sizes of its arguments are read as people write them."""

from train.commands.converting.command import (
    read_number,
    read_size,
)


def test_numbers_and_sizes_are_read_as_people_write_them() -> None:
    assert [read_number(text) for text in ("1/255", "0.5", "1 / 127.5", "-1")] == [1 / 255, 0.5, 1 / 127.5, -1]
    assert [read_size(text) for text in ("224", "224x160")] == [(224, 224), (224, 160)]
