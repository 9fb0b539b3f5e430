"""The map from three verdicts to the accuracy to expect: its fit, its range, its identity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from know_thyself.evaluation.calibration import ClassMap, fit_class_map


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
