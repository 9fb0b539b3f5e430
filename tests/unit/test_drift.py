"""Has what comes in moved: numbers worked out by hand, and how often the words are wrong where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from know_thyself.evaluation.drift import (
    LEAST_FEEDBACK,
    LEAST_SCORES,
    Answered,
    Reference,
    Scored,
    accuracy_surplus,
    calibration_error,
    chance_index,
    expected_accuracy,
    find_drift,
    histogram,
    score_shift,
    stability_index,
)

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


def scored(confidence: Floats) -> Scored:
    return Scored(confidence=confidence, p_correct=confidence, at=np.arange(len(confidence)))


def answered(forecast: Floats, correct: Floats) -> Answered:
    return Answered(forecast=forecast, correct=correct, at=np.arange(len(forecast)))


def drawn(size: int, seed: int, alpha: float = 2.0, beta: float = 2.0) -> Floats:
    """Confidences of `size` questions."""
    return np.random.default_rng(seed).beta(alpha, beta, size)


def outcome(probability: Floats, seed: int) -> Floats:
    """1 with each `probability`, else 0."""
    return (np.random.default_rng([seed, 1]).random(len(probability)) < probability).astype(np.float64)


def reference(seed: int = 0, size: int = 600) -> Reference:
    confidence = drawn(size, seed)
    found = Reference.of(confidence, outcome(confidence, seed))
    assert found is not None
    return found


def test_the_picture_of_a_calibration_set_is_its_tenths_and_its_accuracy() -> None:
    found = Reference.of(np.arange(100) / 100, np.array([1.0, 0.0] * 50))
    assert found is not None
    assert found.edges == pytest.approx(np.quantile(np.arange(100) / 100, np.arange(1, 10) / 10))
    assert found.counts == (10,) * 10
    assert (found.n, found.accuracy) == (100, 0.5)
    assert Reference.of(np.array([]), np.array([])) is None


def test_confidences_that_are_alike_share_a_bin() -> None:
    found = Reference.of(np.array([0.2] * 50 + [0.9] * 50), np.ones(100))
    assert found is not None
    assert sum(found.counts) == 100
    assert len(found.counts) == len(found.edges) + 1 <= 4
    assert histogram(np.array([0.1, 0.2, 0.9, 1.0]), np.array([0.2, 0.9])).tolist() == [1, 1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"edges": (0.5, 0.2)},
        {"edges": (0.2, 0.2)},
        {"counts": (1, 2)},
        {"counts": (1, -2, 3)},
        {"accuracy": 1.5},
        {"accuracy": float("nan")},
    ],
)
def test_numbers_that_are_no_picture_are_refused(wrong: dict[str, object]) -> None:
    right: dict[str, object] = {"edges": (0.2, 0.5), "counts": (1, 2, 3), "accuracy": 0.5}
    Reference(**right)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no picture of a calibration set"):
        Reference(**{**right, **wrong})  # type: ignore[arg-type]


def test_the_index_is_that_worked_out_by_hand() -> None:
    before, after = np.array([59.5, 39.5]), np.array([29.5, 69.5])
    # Shares with the halves: 0.6, 0.4 and then 0.3, 0.7.
    by_hand = (0.3 - 0.6) * np.log(0.3 / 0.6) + (0.7 - 0.4) * np.log(0.7 / 0.4)
    assert stability_index(before, after) == pytest.approx(by_hand)
    assert by_hand == pytest.approx(0.37583, abs=1e-5)
    both = stability_index(before, np.stack([before, after]))
    assert both == pytest.approx([0.0, by_hand])


@given(st.lists(st.integers(0, 100), min_size=2, max_size=10), st.lists(st.integers(0, 100), min_size=10, max_size=10))
def test_the_index_is_symmetric_never_negative_and_never_infinite(one: list[int], other: list[int]) -> None:
    a, b = np.array(one, dtype=np.float64), np.array(other[: len(one)], dtype=np.float64)
    index = float(stability_index(a, b))
    assert 0 <= index < 100
    assert index == pytest.approx(float(stability_index(b, a)))


def test_what_chance_brings_is_that_worked_out_by_hand() -> None:
    assert chance_index(500, 250, 10) == pytest.approx((1 / 500 + 1 / 250) * chi2.ppf(0.95, 9))
    assert chance_index(500, 250, 10) == pytest.approx(0.10151, abs=1e-4)
    assert chance_index(500, 250, 1) == 0.0


def test_without_a_change_the_index_exceeds_chance_one_time_in_twenty() -> None:
    off = 0
    for seed in range(400):
        before = reference(seed)
        live = histogram(drawn(500, 10_000 + seed), np.array(before.edges))
        index = stability_index(np.array(before.counts, dtype=np.float64), live.astype(np.float64))
        off += float(index) > chance_index(before.n, 500, 10)
    assert 0.02 <= off / 400 <= 0.09


def test_questions_that_have_changed_are_told_with_an_interval() -> None:
    before = reference()
    same, other = score_shift(scored(drawn(2000, 1)), before), score_shift(scored(drawn(2000, 1, 4.0, 2.0)), before)
    assert (same.is_off, other.is_off) == (False, True)
    assert same.value < 0.1 < other.value
    for found in (same, other):
        assert found.interval is not None
        assert found.interval.low < found.value < found.interval.high


def test_the_accuracy_to_expect_is_held_against_that_of_the_calibration_set() -> None:
    before = Reference(edges=(0.5,), counts=(300, 300), accuracy=0.5)
    same, other = expected_accuracy(scored(drawn(2000, 1)), before), expected_accuracy(scored(drawn(2000, 1, 3.0, 2.0)), before)
    assert (same.is_off, same.usual) == (False, 0.5)
    assert other.is_off
    assert other.value == pytest.approx(0.6, abs=0.02)
    assert not expected_accuracy(scored(drawn(2000, 1, 2.2, 2.0)), before).is_off


def test_feedback_is_held_against_what_was_forecast_of_it() -> None:
    # 100 answers at 0.9, of which 80 were right: 10 fewer than forecast, where one in a standard deviation is 3.
    forecast, correct = np.full(100, 0.9), np.array([1.0] * 80 + [0.0] * 20)
    found = accuracy_surplus(answered(forecast, correct))
    assert found.value == pytest.approx(-0.1)
    assert found.is_off
    assert not accuracy_surplus(answered(forecast, np.array([1.0] * 85 + [0.0] * 15))).is_off
    assert not accuracy_surplus(answered(np.full(100, 0.99), np.ones(100))).is_off
    assert accuracy_surplus(answered(np.full(100, 0.9), np.ones(100))).is_off
    assert calibration_error(answered(forecast, correct)).value == pytest.approx(0.1)


def test_intervals_keep_together_what_was_judged_together() -> None:
    correct = np.repeat(outcome(np.full(50, 0.5), 0), 10)
    alone = accuracy_surplus(answered(np.full(500, 0.5), correct)).interval
    lists = accuracy_surplus(Answered(forecast=np.full(500, 0.5), correct=correct, at=np.repeat(np.arange(50), 10))).interval
    assert alone is not None
    assert lists is not None
    assert lists.high - lists.low > 2 * (alone.high - alone.low)


def advice(confidence: Floats, correct: Floats, seed: int = 0) -> str:
    """What is said of live questions of these confidences, and of so many of the first of them."""
    given = len(correct)
    return find_drift(scored(confidence), answered(confidence[:given], correct), reference(), seed).advice


def test_it_says_what_there_is_too_little_of() -> None:
    few, many = drawn(LEAST_SCORES - 1, 1), drawn(2000, 1)
    none = np.array([])
    found = find_drift(scored(few), answered(none, none), reference())
    assert (found.index, found.expected, found.accuracy, found.ece) == (None, None, None, None)
    assert found.advice.startswith("too little to tell anything: 500 judgments or more")
    assert advice(many, none).startswith("questions are as they were: 200 feedbacks or more")
    assert advice(many, outcome(many[: LEAST_FEEDBACK - 1], 1)).startswith("questions are as they were: 200 feedbacks")
    assert advice(drawn(2000, 1, 4.0, 2.0), none).startswith("questions have changed: 200 feedbacks or more")


def test_of_a_judge_without_calibration_no_accuracy_is_expected() -> None:
    confidence = drawn(600, 1)
    live = Scored(confidence=confidence, p_correct=np.full(600, np.nan), at=np.arange(600))
    found = find_drift(live, answered(np.array([]), np.array([])), reference())
    assert found.index is not None
    assert found.expected is None


def test_questions_that_changed_while_the_probability_holds_need_no_recalibration() -> None:
    confidence = drawn(2000, 1, 4.0, 2.0)
    assert advice(confidence, outcome(confidence, 3)).startswith("questions have changed, and p_correct holds")


def test_a_judge_that_holds_is_seldom_told_to_be_recalibrated_and_one_that_does_not_mostly() -> None:
    told, nothing = {"holds": 0, "too sure": 0, "too low": 0}, scored(np.array([]))
    for seed in range(8):
        confidence = drawn(500, 500 + seed)
        truths = {"holds": confidence, "too sure": 0.5 + 0.4 * (confidence - 0.5), "too low": np.minimum(1, confidence + 0.12)}
        for name, truth in truths.items():
            found = find_drift(nothing, answered(confidence, outcome(truth, seed)), reference(), seed)
            told[name] += found.advice.startswith("recalibrate")
    assert told["holds"] <= 2
    assert told["too sure"] >= 7
    assert told["too low"] >= 7
