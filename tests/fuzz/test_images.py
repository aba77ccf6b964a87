"""Mutated image files, through decoding and every policy: each is prepared or refused, soon, and harms no other."""

import pytest

from serve.images.decode import PLUGINS, decode
from tests.fuzz.budget import BEFORE, ROUND, Tally, begin, count_cases, count_first, try_cases
from tests.fuzz.child import MOST_PIXELS, CaseFailed, child
from tests.fuzz.corpus import image_files, policies
from tests.fuzz.mutations import Seeds, mutated_files
from tests.fuzz.parts import layout_of

# hypothesis would rather print each case, which is a file or a message.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

FEW = 600
MOST_GROWTH = 1.1
"""Resident memory after all cases over that before them."""


def test_the_corpus_has_good_files_of_every_format_and_a_use_of_every_policy() -> None:
    """What is registered later is mutated, too."""
    files = image_files().values()
    for signature, _ in PLUGINS:
        of_format = [data for data in files if data.startswith(signature)]
        assert len(of_format) >= 8
        assert all(decode(data, MOST_PIXELS) for data in of_format)
    assert len(list(policies())) >= 2


def test_a_file_that_is_taken_apart_and_put_together_is_the_same_picture() -> None:
    """So a mutation of its parts reaches what lies behind lengths and checksums."""
    for name, data in image_files().items():
        layout = layout_of(data)
        again = layout.join(layout.split(data))
        assert decode(again, MOST_PIXELS).tobytes() == decode(data, MOST_PIXELS).tobytes(), name


def test_a_process_that_dies_fails_its_case() -> None:
    with child("no such kind", Tally("")) as dying, pytest.raises(CaseFailed, match="CRASH"):
        dying.attempt(b"case")


@pytest.mark.slow
def test_mutated_images_are_prepared_or_refused() -> None:
    cases, tally = count_cases("images", FEW), begin("images")
    strategy = mutated_files(Seeds(sorted(image_files().values())))
    with child("images", tally) as reader:
        for image in image_files().values():
            reader.attempt(image)
        try_cases(count_first(cases, ROUND), strategy, reader.attempt, first=BEFORE)
        tally.bytes_before = reader.measure()
        try_cases(cases, strategy, reader.attempt, first=1)
        tally.bytes_after = reader.measure()
        tally.good = sum(tally.outcomes.values())
    assert tally.growth <= MOST_GROWTH
