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
from know_thyself.evaluation import bootstrap, metrics
from know_thyself.evaluation.metrics import Scores

reference: Any = importlib.import_module("sklearn.metrics")


def make_scores(num_correct: list[int], confidence: list[float], num_graded: int = 5, group: list[str] | None = None) -> Scores:
    right, sure = np.array(num_correct, dtype=np.int64), np.array(confidence, dtype=np.float64)
    return Scores(
        group=np.array([f"g{i}" for i in range(len(right))] if group is None else group, dtype=np.str_),
        num_correct=right,
        num_graded=np.full(len(right), num_graded),
        confidence=sure,
        says_can=sure > 0.5,
        is_can=right / num_graded >= 0.5,
        mass=np.full(len(right), 0.9),
    )


def simulated(num_questions: int, seed: int, noise: float = 0.3) -> Scores:
    """Questions whose accuracy is spread over 0..1, and a judge that sees it through noise, with many ties."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(0.6, 0.6, num_questions)
    sure = np.clip(truth + rng.normal(0, noise, num_questions), 0, 1).round(2)
    return make_scores(rng.binomial(5, truth).tolist(), sure.tolist())


def test_agrees_with_scikit_learn() -> None:
    scores = simulated(500, seed=1)
    weights = np.random.default_rng(2).integers(0, 4, 500)
    assert metrics.auroc(scores.confidence, scores.is_can) == pytest.approx(
        reference.roc_auc_score(scores.is_can, scores.confidence)
    )
    assert metrics.auroc(scores.confidence, scores.is_can, weights) == pytest.approx(
        reference.roc_auc_score(scores.is_can, scores.confidence, sample_weight=weights)
    )
    trials = np.repeat([True, False], 500)
    assert metrics.soft_auroc(scores.confidence, scores.accuracy) == pytest.approx(
        reference.roc_auc_score(
            trials, np.tile(scores.confidence, 2), sample_weight=np.concatenate([scores.accuracy, 1 - scores.accuracy])
        )
    )
    hard = scores.is_can.astype(float)
    assert metrics.brier(scores.confidence, hard) == pytest.approx(reference.brier_score_loss(hard, scores.confidence))
    inside = np.clip(scores.confidence, 0.01, 0.99)
    assert metrics.log_loss(inside, hard) == pytest.approx(reference.log_loss(hard, inside))
    curve = metrics.roc_curve(scores.confidence, scores.is_can)
    assert curve is not None
    np.testing.assert_allclose(
        curve, reference.roc_curve(scores.is_can, scores.confidence, drop_intermediate=False)[:2], atol=1e-12
    )


def test_cases_done_by_hand() -> None:
    confidence, outcome = np.array([0.9, 0.5, 0.5, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])
    assert metrics.auroc(confidence, outcome > 0.5) == 7 / 8
    assert metrics.brier(confidence, outcome) == pytest.approx(0.13)
    assert metrics.brier_skill(confidence, outcome) == pytest.approx(1 - 0.13 / 0.25)
    assert metrics.ece(confidence, outcome, bins=2) == pytest.approx(0.05)
    coverage, risk = metrics.risk_coverage(confidence, outcome)
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risk, [0, 0.25, 1 / 3, 0.5])
    assert metrics.aurc(confidence, outcome) == pytest.approx(np.mean([0, 0.25, 1 / 3, 0.5]))
    sure_and_wrong = metrics.log_loss(np.array([1.0]), np.array([0.0]))
    assert sure_and_wrong == pytest.approx(-np.log(metrics.CLIP), rel=1e-4)


def test_bins_have_equal_mass_and_keep_ties_together() -> None:
    spread = metrics.reliability_bins(np.linspace(0, 1, 40), np.ones(40))
    assert spread.size.tolist() == [4] * 10
    tied = metrics.reliability_bins(np.array([0.2] * 30 + [0.8] * 10), np.repeat([0.0, 1.0], [30, 10]))
    assert (tied.size.tolist(), tied.outcome.tolist()) == ([30, 10], [0.0, 1.0])
    heap = metrics.reliability_bins(np.array([0.2] + [0.5] * 38 + [0.8]), np.ones(40))
    assert heap.size.tolist() == [1, 38, 1]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_only_the_order_of_confidences_moves_auroc_and_never_the_order_of_rows(
    rows: list[tuple[int, int]], random: Any
) -> None:
    scores = make_scores([k for _, k in rows], [level / 20 for level, _ in rows])
    random.shuffle(rows)
    shuffled = make_scores([k for _, k in rows], [level / 20 for level, _ in rows])
    value = metrics.auroc(scores.confidence, scores.is_can)
    assert metrics.auroc(np.exp(3 * scores.confidence) - 7, scores.is_can) == value
    flipped = metrics.auroc(-scores.confidence, scores.is_can)
    assert flipped is None if value is None else flipped == pytest.approx(1 - value)
    one, other = (metrics.summarize(columns, 0, replicates=2) for columns in (scores, shuffled))
    for name in ("auroc", "auroc_soft", "ece", "aurc"):
        assert one[name] == pytest.approx(other[name])


def test_excess_brier_estimates_the_distance_to_the_unseen_accuracy() -> None:
    rng = np.random.default_rng(3)
    truth, sure = rng.beta(0.6, 0.6, 50_000), rng.random(50_000)
    right, graded = rng.binomial(3, truth), np.full(50_000, 3)
    distance = float(np.mean((sure - truth) ** 2))
    assert metrics.excess_brier(sure, right, graded) == pytest.approx(distance, abs=0.004)
    assert metrics.brier(sure, right / graded) != pytest.approx(distance, abs=0.02)


def test_ece_band_holds_19_of_20_judges_who_know_each_accuracy() -> None:
    rng = np.random.default_rng(4)
    sure, graded = rng.random(300), np.full(300, 5)
    band = metrics.ece_band(sure, graded)
    errors = [metrics.ece(sure, rng.binomial(5, sure) / 5) for _ in range(400)]
    assert band is not None
    assert 0.92 <= np.mean([error is not None and error <= band for error in errors]) <= 0.98


def test_bootstrap_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(5)
    whole = simulated(50_000, seed=6)
    truth = metrics.auroc(whole.confidence, whole.is_can)
    assert truth is not None
    covered = []
    for _ in range(120):
        drawn = rng.integers(0, len(whole), 150)
        part = make_scores(whole.num_correct[drawn].tolist(), whole.confidence[drawn].tolist())
        interval = metrics.auroc_interval(part, replicates=200)
        assert interval is not None
        covered.append(interval.low <= truth <= interval.high)
    assert 0.90 <= np.mean(covered) <= 0.99


def test_repeating_every_question_inside_its_group_narrows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    once = simulated(120, seed=7)
    twice = make_scores(
        np.tile(once.num_correct, 2).tolist(), np.tile(once.confidence, 2).tolist(), group=once.group.tolist() * 2
    )
    interval = metrics.auroc_interval(once)
    assert interval == pytest.approx(metrics.auroc_interval(twice))
    monkeypatch.setattr(bootstrap, "CELLS_AT_ONCE", 1000)
    assert metrics.auroc_interval(once) == interval
    assert metrics.auroc_interval(once, seed=1) != interval


def test_gain_is_paired() -> None:
    vague = simulated(300, seed=8, noise=0.6)
    sharp = make_scores(vague.num_correct.tolist(), (0.5 * vague.confidence + 0.5 * vague.accuracy).tolist())
    assert metrics.auroc_gain(vague, vague) == (0, 0, 0)
    gain, before, after = (metrics.auroc_gain(vague, sharp), metrics.auroc_interval(vague), metrics.auroc_interval(sharp))
    assert gain is not None
    assert before is not None
    assert after is not None
    assert 0 < gain.low < gain.difference < gain.high
    assert gain.high - gain.low < (before.high - before.low) + (after.high - after.low)
    assert metrics.auroc_gain(make_scores([5, 5], [0.1, 0.2]), sharp) is None


def test_summary_holds_plain_numbers_that_agree_with_their_parts() -> None:
    scores = make_scores([5, 4, 0, 1, 3], [0.9, 0.8, 0.1, 0.7, 0.4])
    summary = metrics.summarize(scores, dropped=2)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert (summary["questions"], summary["dropped"]) == (5, 2)
    assert (summary["judgment_accuracy"], summary["majority"], summary["qa_accuracy"]) == pytest.approx((0.6, 0.6, 0.52))
    assert (summary["auroc"], summary["auroc_all_correct"]) == pytest.approx((5 / 6, 1))
    assert summary["undefined"].keys() == {name for name, value in summary.items() if value is None}


@pytest.mark.parametrize(
    ("num_correct", "num_graded", "group", "undefined"),
    [
        ([], 5, None, set(metrics.summarize(make_scores([], []), 0)) - {"questions", "dropped", "undefined"}),
        (
            [5, 5, 5],
            5,
            None,
            {"auroc", "auroc_low", "auroc_high", "auroc_all_correct", "auroc_soft", "brier_skill"},
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
    summary = metrics.summarize(make_scores(num_correct, confidence, num_graded, group), 0)
    assert {name for name, value in summary.items() if value is None} == undefined == set(summary["undefined"])
    assert all(summary["undefined"].values())


def test_scores_refuse_what_cannot_be() -> None:
    with pytest.raises(DataError, match="out of range"):
        make_scores([6], [0.5])
    with pytest.raises(DataError, match="row 1 is out of range"):
        make_scores([1, 1], [0.5, float("nan")])
    with pytest.raises(DataError, match="one row per question"):
        make_scores([1, 1], [0.5, 0.5], group=["a"])
