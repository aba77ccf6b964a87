"""serve.inference.admission: the bound on what may wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from serve.errors import Expired, Overloaded
from serve.inference.admission import Admission


def test_places_are_refused_past_the_bound_on_images() -> None:
    admission = Admission(max_images=2, max_bytes=100)
    with admission.admit(2, 10), pytest.raises(Overloaded, match="at most 2 images"), admission.admit(1, 1):
        pass


def test_places_are_refused_past_the_bound_on_bytes() -> None:
    admission = Admission(max_images=10, max_bytes=100)
    with admission.admit(1, 60), pytest.raises(Overloaded, match="or 100 bytes"), admission.admit(1, 41):
        pass


def test_places_are_given_up_to_the_bounds_themselves() -> None:
    admission = Admission(max_images=2, max_bytes=100)
    with admission.admit(1, 60), admission.admit(1, 40):
        assert (admission.images, admission.image_bytes) == (2, 100)


def test_a_refusal_says_both_bounds_in_the_same_words_each_time() -> None:
    admission = Admission(max_images=2, max_bytes=100)
    with admission.admit(2, 10):
        for _ in range(2):
            with pytest.raises(Overloaded) as caught:
                admission.admit(1, 1)
            wanted = "at most 2 images or 100 bytes may wait here, and they do; try again later"
            assert str(caught.value) == wanted


def test_a_new_admission_holds_nothing_and_takes_as_much_as_its_bounds() -> None:
    admission = Admission(max_images=2, max_bytes=100)
    assert (admission.images, admission.image_bytes, admission.is_idle) == (0, 0, True)
    with admission.admit(1, 60), admission.admit(1, 40):
        assert not admission.is_idle
    assert (admission.images, admission.image_bytes, admission.is_idle) == (0, 0, True)


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


def test_it_is_idle_when_nothing_has_a_place_or_waits_for_one() -> None:
    async def main() -> list[bool]:
        admission, found = Admission(1, 10), []
        found.append(admission.is_idle)
        with admission.admit(1, 1):
            found.append(admission.is_idle)
            waiting = asyncio.create_task(admission.admit_in_turn(1, 1, None))
            await asyncio.sleep(0)
        found.append(admission.is_idle)
        with await waiting:
            found.append(admission.is_idle)
        found.append(admission.is_idle)
        return found

    assert asyncio.run(main()) == [True, False, False, False, True]


def run_in_turn(test: Callable[[Admission], Awaitable[None]]) -> Admission:
    """The admission of three images and 100 bytes that a test was run with."""

    async def main() -> Admission:
        admission = Admission(max_images=3, max_bytes=100)
        await test(admission)
        return admission

    return asyncio.run(main())


def test_who_waits_in_turn_gets_room_in_the_order_of_arrival() -> None:
    """A large one that came first is not overtaken by small ones that would fit."""
    admitted: list[int] = []

    async def take(admission: Admission, images: int) -> None:
        with await admission.admit_in_turn(images, images, None):
            admitted.append(images)
            await asyncio.sleep(0.001)

    async def test(admission: Admission) -> None:
        with admission.admit(2, 1):
            waiting = [asyncio.create_task(take(admission, images)) for images in (3, 1, 2, 1)]
            await asyncio.sleep(0.01)
            assert not admitted
        await asyncio.gather(*waiting)

    assert run_in_turn(test).images == 0
    assert admitted == [3, 1, 2, 1]


def test_one_that_ends_lets_in_as_many_as_there_is_room_for() -> None:
    async def hold(admission: Admission, until: asyncio.Event) -> None:
        with await admission.admit_in_turn(1, 1, None):
            await until.wait()

    async def test(admission: Admission) -> None:
        until = asyncio.Event()
        with admission.admit(3, 1):
            waiting = [asyncio.create_task(hold(admission, until)) for _ in range(5)]
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        assert admission.images == 3
        until.set()
        await asyncio.gather(*waiting)

    assert run_in_turn(test).images == 0


def test_a_deadline_ends_the_wait_for_room() -> None:
    async def test(admission: Admission) -> None:
        with (
            admission.admit(3, 1),
            pytest.raises(Expired, match=r"^the call's deadline passed before there was room for it$"),
        ):
            await admission.admit_in_turn(1, 1, time.monotonic() + 0.01)
        with await admission.admit_in_turn(1, 1, time.monotonic() + 10):
            assert admission.images == 1

    run_in_turn(test)


def test_one_that_leaves_while_it_waits_holds_up_nobody() -> None:
    async def test(admission: Admission) -> None:
        with admission.admit(3, 1):
            first, second = (asyncio.create_task(admission.admit_in_turn(1, 1, None)) for _ in range(2))
            await asyncio.sleep(0.01)
            first.cancel()
        with await asyncio.wait_for(second, 1):
            assert admission.images == 1
        assert first.cancelled()

    run_in_turn(test)
