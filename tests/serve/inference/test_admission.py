"""serve.inference.admission: the bound on what may wait."""

import pytest

from serve.errors import Overloaded
from serve.inference.admission import Admission


def test_places_are_refused_past_the_bound_on_images() -> None:
    admission = Admission(max_images=2, max_bytes=100)
    with admission.admit(2, 10), pytest.raises(Overloaded, match="at most 2 images"), admission.admit(1, 1):
        pass


def test_places_are_refused_past_the_bound_on_bytes() -> None:
    admission = Admission(max_images=10, max_bytes=100)
    with admission.admit(1, 60), pytest.raises(Overloaded, match="or 100 bytes"), admission.admit(1, 41):
        pass


def test_places_come_back_also_after_a_failure() -> None:
    admission = Admission(max_images=1, max_bytes=10)
    for _ in range(3):
        with pytest.raises(RuntimeError), admission.admit(1, 10):
            raise RuntimeError
    assert (admission.images, admission.image_bytes) == (0, 0)


def test_a_request_larger_than_the_bounds_is_taken_when_nothing_waits() -> None:
    admission = Admission(max_images=2, max_bytes=10)
    with admission.admit(5, 50):
        assert admission.images == 5
