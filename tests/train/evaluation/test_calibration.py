"""`train.evaluation.calibration`: the calibration error, and the fit that reduces it."""

import numpy as np
import pytest

from train.evaluation.calibration import (
    apply_softmax,
    bin_confidences,
    calibrate,
    fit_temperature,
    measure_calibration_error,
    undo_calibration,
    undo_smoothing,
)
from train.nets.build import build, complete, predict, take_logits
from train.recipes.shipped import RECIPES


def draw_problem(sharpness: float = 1.0, count: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits times `sharpness`, with labels that were drawn from the softmax before."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (count, 5))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    return logits * sharpness, labels


def measure_loss(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    probabilities = apply_softmax(logits, temperature)
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def test_the_error_of_true_probabilities_is_near_0() -> None:
    logits, labels = draw_problem()
    assert measure_calibration_error(apply_softmax(logits), labels) < 0.01


def test_the_error_is_the_gap_of_each_bin_by_its_share_of_the_images() -> None:
    """Three answers at 0.9, two of them right, and a wrong one at 0.6: (3 |2/3 - 0.9| + |0 - 0.6|) / 4."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    assert measure_calibration_error(probabilities, np.array([0, 0, 1, 0])) == pytest.approx(0.325)


def test_gaps_of_opposite_sign_cancel_only_inside_a_bin() -> None:
    probabilities, labels = np.array([[0.9, 0.1], [0.7, 0.3]]), np.array([1, 0])
    assert measure_calibration_error(probabilities, labels, bins=1) == pytest.approx(0.3)
    assert measure_calibration_error(probabilities, labels, bins=10) == pytest.approx((0.9 + 0.3) / 2)


def test_a_bin_includes_its_upper_edge_and_the_last_one_all_above() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0], [1.0000001, 0.0]])
    assert bin_confidences(probabilities, np.zeros(4, int), bins=4).counts.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0, 10.0])
def test_the_temperature_of_sharpened_logits_is_found(sharpness: float) -> None:
    logits, labels = draw_problem(sharpness)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(sharpness, rel=0.03)
    assert measure_calibration_error(apply_softmax(logits, temperature), labels) < 0.01


def test_an_overconfident_set_has_a_large_error_before() -> None:
    logits, labels = draw_problem(3.0)
    assert measure_calibration_error(apply_softmax(logits), labels) > 0.1


def test_no_temperature_beside_the_fitted_one_has_a_smaller_loss() -> None:
    logits, labels = draw_problem(2.0, 500)
    temperature = fit_temperature(logits, labels)
    least = measure_loss(logits, labels, temperature)
    assert all(measure_loss(logits, labels, temperature * factor) > least for factor in (0.5, 0.999, 1.001, 2))


def test_a_constant_in_all_logits_of_an_image_changes_nothing() -> None:
    logits, labels = draw_problem(2.0, 500)
    shifts = np.random.default_rng(1).normal(0, 100, (500, 1))
    assert fit_temperature(logits + shifts, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-9)


@pytest.mark.parametrize(("right", "temperature"), [(True, 0.05), (False, 20)])
def test_logits_that_are_always_right_or_wrong_get_an_extreme_temperature(right: bool, temperature: float) -> None:
    logits = np.array([[300.0, 0.0], [0.0, 300.0]], np.float32)
    assert fit_temperature(logits, np.array([0, 1] if right else [1, 0])) == pytest.approx(temperature)


def draw_smoothed(smoothing: float, count: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a net that learnt smoothed labels perfectly, and labels without smoothing."""
    logits, labels = draw_problem(count=count)
    return np.log((1 - smoothing) * apply_softmax(logits) + smoothing / 5), labels


@pytest.mark.parametrize("smoothing", [0.1, 0.2])
def test_the_share_of_label_smoothing_is_subtracted(smoothing: float) -> None:
    logits, labels = draw_smoothed(smoothing)
    found = apply_softmax(undo_smoothing(logits, smoothing))
    np.testing.assert_allclose(found, apply_softmax(draw_problem()[0]), atol=0.02)  # LEAST_LEFT changes some
    assert calibrate(logits, labels, smoothing).temperature == pytest.approx(1, abs=0.02)


def test_a_temperature_alone_calibrates_smoothed_logits_less_well() -> None:
    logits, labels = draw_smoothed(0.2)
    whole, alone = calibrate(logits, labels, 0.2), calibrate(logits, labels)
    assert whole.error_before == alone.error_before > 0.05
    assert whole.error_after < 0.01 < alone.error_after


@pytest.mark.parametrize("smoothing", [0, 0.04, 0.2])
def test_a_smoothing_that_nobody_stated_is_found(smoothing: float) -> None:
    logits, labels = draw_smoothed(smoothing, 2_000)
    found = calibrate(logits, labels, None)
    assert found.smoothing == pytest.approx(smoothing, abs=0.05)
    assert found.error_after <= calibrate(logits, labels, smoothing).error_after + 0.005


def test_a_fitted_smoothing_needs_images() -> None:
    with pytest.raises(ValueError, match="wanted probabilities or logits"):
        calibrate(np.zeros((0, 2)), np.zeros(0, int), None)


def test_subtracting_smoothing_keeps_the_order_of_every_row() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (500, 10))
    np.testing.assert_array_equal(undo_smoothing(logits, 0.2).argsort(axis=1), logits.argsort(axis=1))


def test_without_smoothing_nothing_is_subtracted() -> None:
    logits, labels = draw_problem(2.0, 500)
    np.testing.assert_array_equal(undo_smoothing(logits, 0), logits)
    assert calibrate(logits, labels).temperature == fit_temperature(logits, labels)


@pytest.mark.parametrize("smoothing", [0, 0.1, 0.2])
def test_a_calibration_can_be_undone(smoothing: float) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (500, 10))
    after = apply_softmax(undo_smoothing(logits, smoothing), 0.7)
    np.testing.assert_allclose(undo_calibration(after, 0.7, smoothing), apply_softmax(logits), atol=1e-6)


@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_a_completed_model_has_the_reported_error(smoothing: float) -> None:
    model = build(RECIPES["mnist-mlp"].net, (4, 4, 1), 3)
    model.get_layer("logits").kernel.assign(model.get_layer("logits").kernel * 8)
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (600, 4, 4, 1), dtype=np.uint8), random.integers(0, 3, 600)
    logits = predict(take_logits(model), images)
    found = calibrate(logits, labels, smoothing)
    assert found.error_after < found.error_before
    given = predict(complete(model, calibration=found), images)
    np.testing.assert_allclose(
        given, apply_softmax(undo_smoothing(logits, smoothing), found.temperature), rtol=1e-3, atol=1e-5
    )
    assert measure_calibration_error(given, labels) == pytest.approx(found.error_after, abs=1e-3)


@pytest.mark.parametrize("function", [measure_calibration_error, fit_temperature])
@pytest.mark.parametrize("count", [0, 3])
def test_no_images_or_labels_of_another_length_are_refused(function: object, count: int) -> None:
    with pytest.raises(ValueError, match="wanted probabilities or logits"):
        function(np.zeros((count, 2)), np.zeros(0, int))  # type: ignore[operator]
