"""`train.evaluation.familiarity`: distances, their table, and the area under a ROC curve."""

import numpy as np
import pytest

from train.evaluation.familiarity import (
    WAYS,
    choose_way,
    fit_distance,
    fit_table,
    measure_roc_auc,
)


def draw(count: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of three classes, wide in one direction and narrow in the others."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = np.array([[4.0, 0, 0, 8], [0, 4, 0, 8], [0, 0, 4, 8]])
    return centres[labels] + random.normal(0, [0.2, 0.2, 0.2, 3], (count, 4)), labels


@pytest.mark.parametrize("name", WAYS)
def test_features_that_belong_are_nearer_than_others(name: str) -> None:
    distance = fit_distance(*draw(), WAYS[name])
    known, strange = distance.measure(draw(seed=1)[0]), distance.measure(draw(seed=2)[0] * [-1, -1, -1, 1])
    assert measure_roc_auc(known, strange) > 0.95


def test_mahalanobis_is_the_distance_of_its_definition() -> None:
    features, labels = draw()
    distance = fit_distance(features, labels, WAYS["Mahalanobis"])
    means = np.stack([features[labels == each].mean(axis=0) for each in range(3)])
    within = features - means[labels]
    covariance = within.T @ within / len(within)
    inverse = np.linalg.inv(covariance + 0.01 * np.trace(covariance) / 4 * np.eye(4))
    offsets = draw(seed=1)[0][:, None] - means
    assert distance.measure(draw(seed=1)[0]) == pytest.approx(
        np.einsum("nki,ij,nkj->nk", offsets, inverse, offsets).min(axis=1)
    )


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.is_unit])
def test_unit_length_ignores_the_length_of_features(name: str) -> None:
    distance = fit_distance(*draw(), WAYS[name])
    features = draw(seed=1)[0]
    assert distance.measure(3 * features) == pytest.approx(distance.measure(features))
    assert np.isfinite(distance.measure(np.zeros((1, 4)))).all()


def test_features_that_are_the_same_for_all_images_say_nothing() -> None:
    with pytest.raises(ValueError, match="wanted features that differ between images"):
        fit_distance(np.ones((10, 4)), np.arange(10) % 2, WAYS["Mahalanobis"])


def test_of_held_out_distances_a_threshold_turns_away_its_share() -> None:
    held_out = np.random.default_rng(0).chisquare(8, 20_000)
    table = fit_table(held_out)
    fresh = np.random.default_rng(1).chisquare(8, 20_000)
    for share in (0.003, 0.01, 0.05, 0.35):
        assert (table.look_up(held_out) < share).mean() == pytest.approx(share, rel=0.05)
        assert (table.look_up(fresh) < share).mean() == pytest.approx(share, rel=0.25)


@pytest.mark.parametrize("count", [200, 5000])
def test_the_table_falls_from_1_to_0(count: int) -> None:
    held_out = np.random.default_rng(0).chisquare(8, count)
    table = fit_table(held_out)
    assert (np.diff(table.distances) > 0).all()
    assert (np.diff(table.shares) <= 0).all()
    assert (table.shares[0], table.shares[-1]) == (1, 0)
    assert table.look_up(np.array([-1e9, 1e9])).tolist() == [1, 0]
    assert 0 < table.look_up(held_out.max(keepdims=True))[0] < 2 / count


def test_held_out_images_at_one_distance_give_no_table() -> None:
    with pytest.raises(ValueError, match="found many at the same"):
        fit_table(np.ones(500))


@pytest.mark.parametrize(
    ("held_out", "strangers", "area"),
    [([1, 2], [3, 4], 1), ([3, 4], [1, 2], 0), ([1, 2], [2, 3], 0.875), ([1], [1], 0.5)],
)
def test_the_area_under_the_curve_counts_pairs_and_half_of_ties(
    held_out: list[float], strangers: list[float], area: float
) -> None:
    assert measure_roc_auc(np.array(held_out), np.array(strangers)) == area


def test_the_way_is_the_one_that_tells_most_strangers() -> None:
    """Strangers that are only longer: what ignores length cannot tell them."""
    features, labels = draw()
    name, distance = choose_way((features, labels), draw(seed=1)[0], [4 * draw(seed=2)[0]])
    assert "unit length" not in name
    assert measure_roc_auc(distance.measure(draw(seed=1)[0]), distance.measure(4 * draw(seed=2)[0])) > 0.95
    name, _ = choose_way((features, labels), draw(seed=1)[0], [draw(seed=2)[0] * [0, 0, 0, 1] + [2, 2, 2, 0]])
    assert name == "Mahalanobis"
