"""What a judge keeps of its validation: bins and thresholds that say what the columns say, or nothing."""

from __future__ import annotations

import numpy as np
import pytest

from know_thyself.evaluation.calibration import ConfidenceMap
from know_thyself.evaluation.metrics.calibration import ece
from know_thyself.evaluation.reliability import measure_reliability, reliability_of
from know_thyself.wire import Reliability
from tests.unit.columns import make_scores, make_ternary, simulated

UNCHANGED = ConfidenceMap.of("temperature", [(1.0, 0.0)], "calibration", 300)


def kept(questions: int = 300) -> tuple[Reliability, np.ndarray, np.ndarray]:
    scores = simulated(questions, seed=3)
    assert scores.forecast is not None
    found = reliability_of(scores, UNCHANGED)
    assert found is not None
    return found, scores.forecast, scores.accuracy


def test_the_bins_hold_all_questions_and_give_their_calibration_error() -> None:
    found, forecast, accuracy = kept()
    assert (found.measured_on, found.n) == ("validation", 300)
    sizes = np.array([held.questions for held in found.bins])
    gaps = np.array([abs(held.p_correct - held.accuracy) for held in found.bins])
    assert sizes.sum() == 300
    assert np.average(gaps, weights=sizes) == pytest.approx(ece(forecast, accuracy), abs=1e-4)


def test_the_curve_says_what_the_columns_say_at_every_threshold() -> None:
    found, forecast, accuracy = kept()
    assert [point.threshold for point in found.curve] == [step / 100 for step in range(101)]
    for point in found.curve:
        passes = forecast >= point.threshold
        assert point.coverage == pytest.approx(passes.mean(), abs=1e-4)
        if passes.any():
            assert point.accuracy == pytest.approx(accuracy[passes].mean(), abs=1e-4)
        else:
            assert point.accuracy is None


def test_nobody_passes_a_threshold_above_all_forecasts() -> None:
    found = measure_reliability(np.array([0.2, 0.4]), np.array([0.0, 1.0]))
    assert found is not None
    assert (found.curve[40].coverage, found.curve[40].accuracy) == (0.5, 1.0)
    assert (found.curve[41].coverage, found.curve[41].accuracy) == (0.0, None)


def test_without_calibration_or_questions_there_is_nothing_to_keep() -> None:
    scores = simulated(50, seed=1)
    assert reliability_of(scores, None) is None
    assert reliability_of(make_scores([], []), UNCHANGED) is None
    assert reliability_of(make_ternary([5], np.array([[0.6, 0.3, 0.1]]), None), UNCHANGED) is None
    assert measure_reliability(np.array([]), np.array([])) is None
