"""The maps from confidence, and from three verdicts, to the accuracy to expect: fit, choice, range, identity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit

from know_thyself.evaluation.calibration import (
    FREE_FORM,
    METHODS,
    ClassMap,
    ConfidenceMap,
    choose_calibration,
    fit_class_map,
    fit_method,
    fold_of,
)
from know_thyself.evaluation.ceiling import fit_concentration
from know_thyself.evaluation.metrics.calibration import ece, ece_band, log_loss


def shares(num_questions: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).dirichlet([0.7, 0.7, 0.7], num_questions)


def test_the_weights_that_made_the_outcome_are_found() -> None:
    probabilities, weights = shares(200, 0), np.array([0.95, 0.6, 0.05])
    found = fit_class_map(probabilities, probabilities @ weights)
    assert found is not None
    assert found.weights == pytest.approx(weights, abs=1e-6)
    assert (found.fitted_on, found.n) == ("calibration", 200)


def test_verdicts_that_are_certain_get_the_mean_accuracy_of_their_questions() -> None:
    probabilities = np.eye(3)[[0, 0, 1, 1, 2]]
    found = fit_class_map(probabilities, np.array([1.0, 0.8, 0.6, 0.4, 0.2]))
    assert found is not None
    assert found.weights == pytest.approx((0.9, 0.5, 0.2), abs=1e-6)
    assert found.forecast(probabilities) == pytest.approx([0.9, 0.9, 0.5, 0.5, 0.2], abs=1e-6)


def test_weights_stop_at_their_bounds_where_the_best_line_would_not() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.3, 0.4, 0.3], [0.1, 0.3, 0.6]])
    found = fit_class_map(probabilities, np.array([1.0, 0.5, 0.0]))
    assert found is not None
    assert found.weights == pytest.approx((1.0, 0.5, 0.0), abs=1e-6)


@given(
    outcome=arrays(np.float64, 12, elements=st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])),
    seed=st.integers(0, 50),
    other=arrays(np.float64, 3, elements=st.floats(0, 1)),
)
def test_no_other_weights_in_range_come_nearer(outcome: np.ndarray, seed: int, other: np.ndarray) -> None:
    probabilities = shares(12, seed)
    found = fit_class_map(probabilities, outcome)
    assert found is not None
    forecast = found.forecast(probabilities)
    assert ((forecast >= 0) & (forecast <= 1)).all()
    assert np.mean((forecast - outcome) ** 2) <= np.mean((probabilities @ other - outcome) ** 2) + 1e-6


def test_a_judge_of_one_mind_is_mapped_to_the_mean() -> None:
    probabilities = np.tile([0.5, 0.3, 0.2], (4, 1))
    found = fit_class_map(probabilities, np.array([0.0, 0.2, 0.4, 1.0]))
    assert found is not None
    assert found.forecast(probabilities) == pytest.approx([0.4] * 4, abs=1e-6)


def test_nothing_is_fitted_on_nothing() -> None:
    assert fit_class_map(np.empty((0, 3)), np.empty(0)) is None


def test_a_map_is_known_by_its_content() -> None:
    one = ClassMap.of((0.9, 0.5, 0.1), "calibration", 300)
    assert ClassMap.of([0.9, 0.5, 0.1], "calibration", 300) == one
    others = [ClassMap.of((0.9, 0.5, 0.2), "calibration", 300), ClassMap.of((0.9, 0.5, 0.1), "calibration", 301)]
    assert len({one.id, *(other.id for other in others)}) == 3
    with pytest.raises(ValueError, match="other weights"):
        ClassMap(id=one.id, weights=(0.9, 0.5, 0.2), fitted_on="calibration", n=300)
    with pytest.raises(ValueError, match="no shares"):
        ClassMap.of((1.1, 0.5, 0.2), "calibration", 300)


def judged(number: int, seed: int, slope: float, intercept: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences, k/n of five trials whose accuracy is expit(slope logit(s) + intercept), and groups of one."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(0.8, 0.8, number)
    outcome = rng.binomial(5, expit(slope * logit(confidence) + intercept)) / 5
    return confidence, outcome, np.arange(number)


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, 0.0), (2.0, 0.0), (0.6, -1.0)])
def test_a_line_on_the_odds_is_found(slope: float, intercept: float) -> None:
    confidence, outcome, _ = judged(20_000, 0, slope, intercept)
    ((found_slope, found_intercept),) = fit_method("platt", confidence, outcome).numbers
    assert (found_slope, found_intercept) == pytest.approx((slope, intercept), abs=0.05)
    ((_, none),) = fit_method("temperature", confidence, outcome).numbers
    assert none == 0


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=20)
@given(rows=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), min_size=1, max_size=25), among=st.floats(0.01, 0.99))
def test_a_map_rises_strictly_inside_0_to_1(method: str, rows: list[tuple[int, int]], among: float) -> None:
    confidence, outcome = (np.array(column) / scale for column, scale in zip(zip(*rows, strict=True), (20, 5), strict=True))
    found = fit_method(method, confidence, outcome)  # type: ignore[arg-type]  # parametrised
    at = np.sort(np.append(np.linspace(0.01, 0.99, 40), among))
    mapped = found.expected(at)
    assert ((mapped >= 0) & (mapped <= 1)).all()
    # What is nearer to 1 than a float can tell is 1.
    assert (np.diff(mapped)[(np.diff(at) > 1e-6) & (mapped[1:] < 1 - 1e-12)] > 0).all()
    assert found.forecast(np.stack([at, 1 - at], axis=1)).tolist() == mapped.tolist()


def test_the_winner_is_chosen_by_what_it_loses_on_other_groups() -> None:
    confidence, outcome, group = judged(3000, 1, 0.5, -1.0)
    pairs = np.stack([confidence, 1 - confidence], axis=1)
    found = choose_calibration(pairs, outcome, group)
    assert found is not None
    assert isinstance(found.calibration, ConfidenceMap)
    assert found.losses.keys() == set(METHODS)
    assert found.calibration.method == min(found.losses, key=lambda name: found.losses[name])
    assert found.losses["platt"] < found.losses["temperature"], "a shift cannot be made by a temperature"
    assert log_loss(found.crossfitted, outcome) == pytest.approx(found.losses[found.calibration.method])
    before, after = ece(confidence, outcome), ece(found.crossfitted, outcome)
    assert before is not None
    assert after is not None
    assert after < 0.03 < before


def test_a_step_is_learned_by_isotonic_regression() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.random(4000)
    outcome = rng.binomial(5, np.where(confidence > 0.8, 0.95, 0.1)) / 5
    found = choose_calibration(np.stack([confidence, 1 - confidence], axis=1), outcome, np.arange(4000))
    assert found is not None
    assert isinstance(found.calibration, ConfidenceMap)
    assert found.calibration.method == "isotonic"
    assert found.calibration.expected(np.array([0.5, 0.9])) == pytest.approx([0.1, 0.95], abs=0.03)


def test_few_questions_are_not_given_a_free_form() -> None:
    for number, among in ((FREE_FORM - 1, False), (FREE_FORM, True)):
        confidence, outcome, group = judged(number, 1, 0.5, -1.0)
        found = choose_calibration(np.stack([confidence, 1 - confidence], axis=1), outcome, group)
        assert found is not None
        assert ("isotonic" in found.losses) == among


def test_folds_keep_groups_whole_and_one_group_cannot_be_crossed() -> None:
    group = np.repeat(np.arange(40), 3)
    part = fold_of(group, seed=0)
    assert all(len(set(part[group == name])) == 1 for name in range(40))
    assert set(part) == {0, 1, 2, 3, 4}
    assert choose_calibration(np.full((3, 2), 0.5), np.ones(3), np.zeros(3)) is None


def test_three_verdicts_are_crossed_as_well() -> None:
    probabilities = shares(400, 1)
    found = choose_calibration(probabilities, probabilities @ np.array([0.9, 0.5, 0.1]), np.arange(400))
    assert found is not None
    assert isinstance(found.calibration, ClassMap)
    assert found.crossfitted == pytest.approx(probabilities @ np.array([0.9, 0.5, 0.1]), abs=1e-6)


def test_a_confidence_map_is_known_by_its_content() -> None:
    one = ConfidenceMap.of("platt", [(1.5, -0.2)], "calibration", 300)
    assert ConfidenceMap.of("platt", ((1.5, -0.2),), "calibration", 300) == one
    assert one.id != ConfidenceMap.of("temperature", [(1.5, -0.2)], "calibration", 300).id
    with pytest.raises(ValueError, match="other numbers"):
        ConfidenceMap(id=one.id, method="platt", numbers=((1.5, -0.3),), fitted_on="calibration", n=300)
    with pytest.raises(ValueError, match="does not rise"):
        ConfidenceMap.of("isotonic", [(0.2, 0.4), (0.5, 0.3)], "calibration", 300)
    with pytest.raises(ValueError, match="does not rise"):
        ConfidenceMap.of("temperature", [(-1.0, 0.0)], "calibration", 300)
    with pytest.raises(ValueError, match="no questions"):
        fit_method("platt", np.empty(0), np.empty(0))


def test_the_band_holds_a_judge_who_is_right_on_average_over_questions_known_or_not() -> None:
    """Knowledge is all or nothing: of forecast f, a share f of the questions is always right, the others never."""
    rng = np.random.default_rng(3)
    forecast, graded = rng.uniform(0.05, 0.95, 300), np.full(300, 5)
    inside, narrow = [], []
    for seed in range(40):
        right = 5 * (rng.random(300) < forecast)
        found = ece(forecast, right / 5)
        spread = fit_concentration(forecast, right, graded)
        assert found is not None
        inside.append(found <= (ece_band(forecast, graded, concentration=spread, seed=seed, replicates=200) or 0.0))
        narrow.append(found <= (ece_band(forecast, graded, seed=seed, replicates=200) or 0.0))
    assert np.mean(inside) >= 0.88
    assert np.mean(narrow) < 0.2


def test_neighbours_may_share_their_forecast() -> None:
    forecast = np.random.default_rng(4).random(1500)
    graded = np.full(1500, 5)
    whole = ece_band(forecast, graded, concentration=1.0)
    rounded = ece_band(np.repeat(np.sort(forecast)[1::3], 3), graded, concentration=1.0)
    assert whole == pytest.approx(rounded or 0.0, rel=0.1)
