"""`train.evaluation.passes.joint_familiarity`: what tells made strangers best is taken, and its values are shares."""

import numpy as np
import pytest

from train.evaluation.passes.joint_familiarity import LAST, LEAST, PRODUCT, Seen, choose_joint_familiarity, combine

COUNT = 2000


def draw(seed: int, *, of_first: float, of_second: float, asked: float = 1.0) -> Seen:
    """What nets say; a power above 1 makes the images less familiar to that net."""
    random = np.random.default_rng(seed)
    first, second = (random.uniform(0, 1, COUNT) ** power for power in (of_first, of_second))
    return Seen(first, second, random.uniform(0, 1, COUNT) < asked)


def test_values_are_the_first_nets_where_the_second_was_not_asked() -> None:
    seen = draw(0, of_first=1, of_second=1, asked=0.5)
    both = {LAST: seen.second, LEAST: np.minimum(seen.first, seen.second), PRODUCT: seen.first * seen.second}
    for way, wanted in both.items():
        assert np.array_equal(combine(seen, way), np.where(seen.is_asked, wanted, seen.first))


@pytest.mark.parametrize(
    ("of_first", "of_second", "ways"),
    [(1, 9, {LAST}), (5, 5, {PRODUCT})],
    ids=["the second net tells them", "both nets tell them"],
)
def test_the_way_that_tells_strangers_best_is_taken(of_first: float, of_second: float, ways: set[str]) -> None:
    strangers = [draw(seed, of_first=of_first, of_second=of_second) for seed in (1, 2)]
    assert choose_joint_familiarity(draw(0, of_first=1, of_second=1), strangers).way in ways


def test_the_table_makes_shares_of_held_out_images_again() -> None:
    held_out = draw(0, of_first=1, of_second=1, asked=0.3)
    joint = choose_joint_familiarity(held_out, [draw(1, of_first=5, of_second=5)])
    others = draw(2, of_first=1, of_second=1, asked=0.3)
    shares = joint.table.look_up(1 - combine(others, joint.way))
    for share in (0.01, 0.1, 0.5, 0.9):
        assert np.mean(shares < share) == pytest.approx(share, abs=0.05)


def test_images_that_are_all_as_familiar_are_refused() -> None:
    same = Seen(np.full(COUNT, 0.5), np.full(COUNT, 0.5), np.ones(COUNT, bool))
    with pytest.raises(ValueError, match="at different distances, found many at the same"):
        choose_joint_familiarity(same, [draw(1, of_first=5, of_second=5)])
