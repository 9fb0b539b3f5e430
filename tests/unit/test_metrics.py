"""The metrics against scikit-learn, against cases done by hand, and against simulations whose truth is known."""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from know_thyself.errors import DataError
from know_thyself.evaluation import bootstrap
from know_thyself.evaluation.metrics import calibration, classes, decision, discrimination
from know_thyself.evaluation.metrics.summary import NO_FORECAST, OF_DECISION, OF_FORECAST, summarize
from tests.unit.columns import make_scores, make_ternary, simulated, simulated_ternary

reference: Any = importlib.import_module("sklearn.metrics")


def test_agrees_with_scikit_learn() -> None:
    scores = simulated(500, seed=1)
    weights = np.random.default_rng(2).integers(0, 4, 500)
    assert discrimination.auroc(scores.confidence, scores.event) == pytest.approx(
        reference.roc_auc_score(scores.event, scores.confidence)
    )
    assert discrimination.auroc(scores.confidence, scores.event, weights) == pytest.approx(
        reference.roc_auc_score(scores.event, scores.confidence, sample_weight=weights)
    )
    trials = np.repeat([True, False], 500)
    assert discrimination.auroc(scores.confidence, scores.accuracy) == pytest.approx(
        reference.roc_auc_score(
            trials, np.tile(scores.confidence, 2), sample_weight=np.concatenate([scores.accuracy, 1 - scores.accuracy])
        )
    )
    hard = scores.event.astype(float)
    assert calibration.brier(scores.confidence, hard) == pytest.approx(reference.brier_score_loss(hard, scores.confidence))
    inside = np.clip(scores.confidence, 0.01, 0.99)
    assert calibration.log_loss(inside, hard) == pytest.approx(reference.log_loss(hard, inside))
    curve = discrimination.roc_curve(scores.confidence, scores.event)
    assert curve is not None
    np.testing.assert_allclose(
        curve, reference.roc_curve(scores.event, scores.confidence, drop_intermediate=False)[:2], atol=1e-12
    )


def test_cases_done_by_hand() -> None:
    confidence, outcome = np.array([0.9, 0.5, 0.5, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])
    assert discrimination.auroc(confidence, outcome > 0.5) == 7 / 8
    assert calibration.brier(confidence, outcome) == pytest.approx(0.13)
    assert calibration.brier_skill(confidence, outcome) == pytest.approx(1 - 0.13 / 0.25)
    assert calibration.ece(confidence, outcome, bins=2) == pytest.approx(0.05)
    coverage, risk = decision.risk_coverage(confidence, outcome)
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risk, [0, 0.25, 1 / 3, 0.5])
    assert decision.aurc(confidence, outcome) == pytest.approx(np.mean([0, 0.25, 1 / 3, 0.5]))
    sure_and_wrong = calibration.log_loss(np.array([1.0]), np.array([0.0]))
    assert sure_and_wrong == pytest.approx(-np.log(calibration.CLIP), rel=1e-4)


def test_bins_have_equal_mass_and_keep_ties_together() -> None:
    spread = calibration.reliability_bins(np.linspace(0, 1, 40), np.ones(40))
    assert spread.size.tolist() == [4] * 10
    tied = calibration.reliability_bins(np.array([0.2] * 30 + [0.8] * 10), np.repeat([0.0, 1.0], [30, 10]))
    assert (tied.size.tolist(), tied.outcome.tolist()) == ([30, 10], [0.0, 1.0])
    heap = calibration.reliability_bins(np.array([0.2] + [0.5] * 38 + [0.8]), np.ones(40))
    assert heap.size.tolist() == [1, 38, 1]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_only_the_order_of_confidences_moves_auroc_and_never_the_order_of_rows(
    rows: list[tuple[int, int]], random: Any
) -> None:
    scores = make_scores([k for _, k in rows], [level / 20 for level, _ in rows])
    random.shuffle(rows)
    shuffled = make_scores([k for _, k in rows], [level / 20 for level, _ in rows])
    value = discrimination.auroc(scores.confidence, scores.event)
    assert discrimination.auroc(np.exp(3 * scores.confidence) - 7, scores.event) == value
    flipped = discrimination.auroc(-scores.confidence, scores.event)
    assert flipped is None if value is None else flipped == pytest.approx(1 - value)
    one, other = (summarize(columns, 0, replicates=2) for columns in (scores, shuffled))
    for name in ("auroc", "auroc_soft", "ece", "aurc"):
        assert one[name] == pytest.approx(other[name])


def test_excess_brier_estimates_the_distance_to_the_unseen_accuracy() -> None:
    rng = np.random.default_rng(3)
    truth, sure = rng.beta(0.6, 0.6, 50_000), rng.random(50_000)
    right, graded = rng.binomial(3, truth), np.full(50_000, 3)
    distance = float(np.mean((sure - truth) ** 2))
    assert calibration.excess_brier(sure, right, graded) == pytest.approx(distance, abs=0.004)
    assert calibration.brier(sure, right / graded) != pytest.approx(distance, abs=0.02)


def test_ece_band_holds_19_of_20_judges_who_know_each_accuracy() -> None:
    rng = np.random.default_rng(4)
    sure, graded = rng.random(300), np.full(300, 5)
    band = calibration.ece_band(sure, graded)
    errors = [calibration.ece(sure, rng.binomial(5, sure) / 5) for _ in range(400)]
    assert band is not None
    assert 0.92 <= np.mean([error is not None and error <= band for error in errors]) <= 0.98


def test_bootstrap_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(5)
    whole = simulated(50_000, seed=6)
    truth = discrimination.auroc(whole.confidence, whole.event)
    assert truth is not None
    covered = []
    for _ in range(300):
        drawn = rng.integers(0, len(whole), 150)
        part = make_scores(whole.num_correct[drawn].tolist(), whole.confidence[drawn].tolist())
        interval = discrimination.auroc_interval(part, replicates=200)
        assert interval is not None
        covered.append(interval.low <= truth <= interval.high)
    assert 0.90 <= np.mean(covered) <= 0.99


def test_repeating_every_question_inside_its_group_narrows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    once = simulated(120, seed=7)
    twice = make_scores(
        np.tile(once.num_correct, 2).tolist(), np.tile(once.confidence, 2).tolist(), group=once.group.tolist() * 2
    )
    interval = discrimination.auroc_interval(once)
    assert interval == pytest.approx(discrimination.auroc_interval(twice))
    monkeypatch.setattr(bootstrap, "CELLS_AT_ONCE", 1000)
    assert discrimination.auroc_interval(once) == interval
    assert discrimination.auroc_interval(once, seed=1) != interval


def test_gain_is_paired() -> None:
    vague = simulated(300, seed=8, noise=0.6)
    sharp = make_scores(vague.num_correct.tolist(), (0.5 * vague.confidence + 0.5 * vague.accuracy).tolist())
    assert discrimination.auroc_gain(vague, vague) == (0, 0, 0)
    gain = discrimination.auroc_gain(vague, sharp)
    before, after = (discrimination.auroc_interval(scores) for scores in (vague, sharp))
    assert gain is not None
    assert before is not None
    assert after is not None
    assert 0 < gain.low < gain.difference < gain.high
    assert gain.high - gain.low < (before.high - before.low) + (after.high - after.low)
    assert discrimination.auroc_gain(make_scores([5, 5], [0.1, 0.2]), sharp) is None


def test_the_brier_score_tells_judges_apart_where_all_is_known() -> None:
    """There AUROC is undefined, but one who doubts what the model knows is wrong."""
    known = [5] * 40
    sure, doubtful = make_scores(known, [0.95] * 40), make_scores(known, np.linspace(0.2, 0.6, 40).tolist())
    assert discrimination.auroc_gain(doubtful, sure) is None
    gain = calibration.brier_gain(doubtful, sure)
    assert gain is not None
    assert 0 < gain.low < gain.difference < gain.high
    assert calibration.brier_gain(sure, sure) == (0, 0, 0)


def test_summary_holds_plain_numbers_that_agree_with_their_parts() -> None:
    scores = make_scores([5, 4, 0, 1, 3], [0.9, 0.8, 0.1, 0.7, 0.4])
    summary = summarize(scores, dropped=2)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert (summary["questions"], summary["dropped"]) == (5, 2)
    assert (summary["judgment_accuracy"], summary["majority"], summary["qa_accuracy"]) == pytest.approx((0.6, 0.6, 0.52))
    assert (summary["auroc"], summary["auroc_all_correct"]) == pytest.approx((5 / 6, 1))
    assert summary["undefined"].keys() == {name for name, value in summary.items() if value is None}


@pytest.mark.parametrize(
    ("num_correct", "num_graded", "group", "undefined"),
    [
        ([], 5, None, set(summarize(make_scores([], []), 0)) - {"questions", "dropped", "undefined", "confusion", "intervals"}),
        (
            [5, 5, 5],
            5,
            None,
            {"auroc", "auroc_low", "auroc_high", "auroc_all_correct", "auroc_soft", "auprc_cannot", "brier_skill", "prr"},
        ),
        ([0, 1, 1], 1, ["a", "a", "a"], {"auroc_low", "auroc_high", "excess_brier"}),
        ([0, 5, 5], 5, None, {"auroc_low", "auroc_high"}),
    ],
    ids=["no questions", "one class", "one group of single trials", "resamples of one class"],
)
def test_undefined_is_none_with_a_reason(
    num_correct: list[int], num_graded: int, group: list[str] | None, undefined: set[str]
) -> None:
    confidence = [0.3, 0.6, 0.9][: len(num_correct)]
    summary = summarize(make_scores(num_correct, confidence, num_graded, group), 0)
    assert {name for name, value in summary.items() if value is None} == undefined == set(summary["undefined"])
    assert all(summary["undefined"].values())


def test_verdicts_and_abilities_agree_as_scikit_learn_says() -> None:
    for scores in (simulated(400, seed=9), simulated_ternary(400, seed=10)):
        measured, claimed = scores.ability, scores.verdict
        matrix = classes.confusion(measured, claimed, len(scores.classes))
        np.testing.assert_array_equal(matrix, reference.confusion_matrix(measured, claimed))
        assert classes.accuracy(matrix) == pytest.approx(reference.accuracy_score(measured, claimed))
        assert classes.macro_f1(matrix) == pytest.approx(reference.f1_score(measured, claimed, average="macro"))
        assert classes.balanced_accuracy(matrix) == pytest.approx(reference.balanced_accuracy_score(measured, claimed))
        assert classes.quadratic_kappa(matrix) == pytest.approx(
            reference.cohen_kappa_score(measured, claimed, weights="quadratic")
        )
        assert classes.class_distance(matrix) == pytest.approx(reference.mean_absolute_error(measured, claimed))
        constant = np.full_like(measured, np.bincount(measured).argmax())
        line = classes.always_commonest(matrix)
        np.testing.assert_array_equal(line, reference.confusion_matrix(measured, constant))
        assert classes.macro_f1(line) == pytest.approx(reference.f1_score(measured, constant, average="macro"))
        inside = np.clip(scores.probabilities, 0.01, 0.98)
        inside /= inside.sum(axis=1, keepdims=True)
        assert classes.verdict_loss(inside, np.eye(len(scores.classes))[measured]) == pytest.approx(
            reference.log_loss(measured, inside)
        )


def test_each_class_against_the_rest_as_scikit_learn_says() -> None:
    scores = simulated_ternary(400, seed=11)
    each = reference.roc_auc_score(scores.ability, scores.probabilities, multi_class="ovr", average=None)
    summary = summarize(scores, 0, replicates=2)
    assert [summary[f"auroc_{name}"] for name in scores.classes] == pytest.approx(each.tolist())
    assert summary["auroc"] == summary["auroc_can"] == summary["auroc_all_correct"]


def test_classes_done_by_hand() -> None:
    matrix = np.array([[3, 1, 0], [1, 1, 0], [2, 0, 2]])
    assert classes.accuracy(matrix) == 0.6
    assert classes.macro_f1(matrix) == pytest.approx((6 / 10 + 2 / 4 + 4 / 6) / 3)
    assert classes.balanced_accuracy(matrix) == pytest.approx((3 / 4 + 1 / 2 + 2 / 4) / 3)
    assert classes.class_distance(matrix) == pytest.approx((1 + 1 + 2 * 2) / 10)
    by_chance = (1 * 4 * 2 + 4 * 4 * 2 + 1 * 2 * 6 + 1 * 2 * 2 + 4 * 4 * 6 + 1 * 4 * 2) / 10
    assert classes.quadratic_kappa(matrix) == pytest.approx(1 - (1 + 1 + 4 * 2) / by_chance)
    line = classes.always_commonest(matrix)
    assert line.tolist() == [[4, 0, 0], [2, 0, 0], [4, 0, 0]]
    assert classes.macro_f1(line) == pytest.approx((8 / 14) / 3)
    assert classes.balanced_accuracy(line) == pytest.approx(1 / 3)


def test_ranked_probability_done_by_hand() -> None:
    claims = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    distances = [(0.3**2 + 0.1**2) / 2, (0.7**2 + 0.9**2) / 2, 0.0]
    for rows in ([0], [1], [2], [0, 1, 2]):
        expected = np.mean([distances[row] for row in rows])
        assert classes.ranked_probability(claims[rows], np.array([0, 2, 2])[rows]) == pytest.approx(expected)
    assert classes.ranked_probability(np.array([[1.0, 0.0, 0.0]]), np.array([2])) == 1.0
    scores = simulated(200, seed=12)
    hard = scores.event.astype(float)
    assert classes.ranked_probability(scores.probabilities, scores.ability) == pytest.approx(
        calibration.brier(scores.confidence, hard)
    )


def test_a_class_that_nobody_names_is_left_out_and_one_that_is_wrongly_named_counts() -> None:
    absent = np.array([[3, 0, 1], [0, 0, 0], [0, 0, 4]])
    assert classes.macro_f1(absent) == pytest.approx((6 / 7 + 8 / 9) / 2)
    claimed = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 4]])
    assert classes.macro_f1(claimed) == pytest.approx((6 / 7 + 0 + 1) / 3)
    assert classes.balanced_accuracy(claimed) == pytest.approx((3 / 4 + 1) / 2)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_agreement_stays_in_its_bounds_and_is_whole_for_the_truth(pairs: list[tuple[int, int]]) -> None:
    measured, claimed = (np.array(column) for column in zip(*pairs, strict=True))
    matrix, truth = classes.confusion(measured, claimed, 3), classes.confusion(measured, measured, 3)
    for metric in (classes.accuracy, classes.macro_f1, classes.balanced_accuracy):
        value = metric(matrix)
        assert value is not None
        assert 0 <= value <= 1 == metric(truth)
    assert classes.class_distance(truth) == 0
    kappa = classes.quadratic_kappa(matrix)
    assert kappa is None or -1 <= kappa <= 1
    assert (kappa is None) == (len(set(measured.tolist() + claimed.tolist())) == 1)


def test_of_two_verdicts_the_verdict_loss_is_the_log_loss() -> None:
    summary = summarize(simulated(200, seed=13), 0, replicates=2)
    assert summary["verdict_loss"] == pytest.approx(summary["log_loss"])
    assert "quadratic_kappa" not in summary


def test_three_verdicts_are_scored_on_the_class_and_forecast_the_accuracy() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1]])
    scores = make_ternary([5, 3, 0, 5], probabilities, np.array([0.9, 0.6, 0.1, 0.7]))
    summary = summarize(scores, dropped=0, replicates=2)
    assert summary["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert (summary["judgment_accuracy"], summary["majority"]) == (0.75, 0.5)
    assert summary["auroc"] == 1.0
    assert summary["brier"] == pytest.approx(np.mean([0.1**2, 0, 0.1**2, 0.3**2]))
    assert summary["verdict_loss"] == pytest.approx(-np.mean(np.log([0.6, 0.5, 0.7, 0.3])))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_without_a_forecast_calibration_is_undefined_and_the_rest_is_not() -> None:
    scores = simulated_ternary(60, seed=14)
    blind = make_ternary(scores.num_correct.tolist(), scores.probabilities, None)
    summary = summarize(blind, 0, replicates=20)
    assert summary["undefined"] == dict.fromkeys((*OF_FORECAST, *OF_DECISION), NO_FORECAST)
    assert summarize(scores, 0, replicates=20)["undefined"] == {}


def test_one_class_leaves_nothing_to_rank() -> None:
    summary = summarize(make_ternary([5, 5, 5], np.tile([0.6, 0.3, 0.1], (3, 1)), None), 0, replicates=2)
    for name in ("auroc_can", "auroc_uncertain", "auroc_cannot", "quadratic_kappa"):
        assert summary[name] is None
        assert summary["undefined"][name]


def test_scores_refuse_what_cannot_be() -> None:
    with pytest.raises(DataError, match="row 0 is out of range"):
        make_ternary([5], np.array([[0.6, 0.3, 0.3]]), None)
    with pytest.raises(DataError, match="row 0 is out of range"):
        make_ternary([5], np.array([[0.6, 0.3, 0.1]]), np.array([1.1]))
    with pytest.raises(DataError, match="out of range"):
        make_scores([6], [0.5])
    with pytest.raises(DataError, match="row 1 is out of range"):
        make_scores([1, 1], [0.5, float("nan")])
    with pytest.raises(DataError, match="one row per question"):
        make_scores([1, 1], [0.5, 0.5], group=["a"])
