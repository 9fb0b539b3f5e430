"""Ranking and decision metrics: against scikit-learn, done by hand, and as properties; their draws against real resampling."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from know_thyself.evaluation.bootstrap import at_once, bootstrap_intervals, draws
from know_thyself.evaluation.metrics import classes, decision
from know_thyself.evaluation.metrics.discrimination import auroc, discrimination_statistics
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.evaluation.metrics.summary import statistics_of, summarize
from tests.unit.columns import make_scores, simulated, simulated_ternary

reference: Any = importlib.import_module("sklearn.metrics")


def drawn(scores: Scores, times: np.ndarray) -> Scores:
    """The questions of `scores`, each as often as `times` says."""
    rows = np.repeat(np.arange(len(scores)), times.astype(int))
    return make_scores(scores.num_correct[rows].tolist(), scores.confidence[rows].tolist())


def test_every_number_on_weights_is_that_number_on_the_questions_drawn() -> None:
    scores = simulated(80, seed=1)
    (weights,) = draws(scores.group, seed=3, replicates=4)
    on_weights = statistics_of(scores)(weights)
    for replicate, times in enumerate(weights):
        again = drawn(scores, times)
        on_questions = at_once(statistics_of(again), len(again))
        for name, value in on_questions.items():
            # The bins of the calibration error stay those of the whole.
            if name != "ece":
                assert on_weights[name][replicate] == pytest.approx(value, abs=1e-9), name


def test_average_precision_is_scikit_learns() -> None:
    scores = simulated(400, seed=2)
    found = at_once(discrimination_statistics(scores), len(scores))["auprc_cannot"]
    assert found == pytest.approx(reference.average_precision_score(~scores.event, -scores.confidence))


def test_decisions_done_by_hand() -> None:
    found = at_once(decision.decision_statistics(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])), 4)
    assert found["aurc"] == pytest.approx(np.mean([0, 0.25, 1 / 3, 0.5]))
    assert found["e_aurc"] == pytest.approx(np.mean([0, 0.25, 1 / 3, 0.5]) - np.mean([0, 0, 1 / 3, 0.5]))
    judge, oracle, random = (np.mean(wrong) / 4 for wrong in ([0, 0.5, 1, 2], [0, 0, 1, 2], [0.5, 1, 1.5, 2]))
    assert found["prr"] == pytest.approx((random - judge) / (random - oracle))
    assert found["accuracy_at_50"] == pytest.approx(0.75)
    assert found["accuracy_at_80"] == pytest.approx(0.5)
    assert (found["coverage_at_90"], found["coverage_at_95"]) == (0.25, 0.25)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=2, max_size=30))
def test_no_ranking_beats_the_oracle_or_loses_to_its_reverse(rows: list[tuple[int, int]]) -> None:
    forecast, outcome = (np.array(column) / scale for column, scale in zip(zip(*rows, strict=True), (6, 5), strict=True))
    own, best, worst = (
        at_once(decision.decision_statistics(by, outcome), len(outcome)) for by in (forecast, outcome, -outcome)
    )
    assert own["aurc"] is not None
    assert best["aurc"] is not None
    assert worst["aurc"] is not None
    assert best["aurc"] - 1e-9 <= own["aurc"] <= worst["aurc"] + 1e-9
    assert own["e_aurc"] == pytest.approx(own["aurc"] - best["aurc"])
    if own["prr"] is not None:
        assert own["prr"] <= 1 + 1e-9
        assert best["prr"] == pytest.approx(1)
    assert decision.aurc(forecast, outcome) == pytest.approx(float(np.mean(decision.risk_coverage(forecast, outcome)[1])))


def test_guessing_has_no_rejection_ratio_and_no_gain() -> None:
    outcome = np.random.default_rng(0).choice([0.0, 0.4, 1.0], 3000)
    flat = at_once(decision.decision_statistics(np.full(3000, 0.5), outcome), 3000)
    assert flat["prr"] == pytest.approx(0, abs=1e-9)
    assert flat["accuracy_at_50"] == pytest.approx(outcome.mean())


def test_intervals_of_all_numbers_hold_them_and_stand_on_the_same_draws() -> None:
    for scores in (simulated(300, seed=4), simulated_ternary(300, seed=5)):
        summary = summarize(scores, 0, replicates=300)
        assert {"macro_f1", "auroc", "prr", "brier", "coverage_at_90"} <= summary["intervals"].keys()
        assert [summary["auroc_low"], summary["auroc_high"]] == summary["intervals"]["auroc"]
        for name in ("macro_f1", "balanced_accuracy", "qa_accuracy", "auroc", "auroc_soft", "brier", "aurc", "prr"):
            low, high = summary["intervals"][name]
            assert low < summary[name] < high, name


def test_macro_f1_intervals_cover_the_truth() -> None:
    whole, rng = simulated(40_000, seed=6), np.random.default_rng(1)
    truth = classes.macro_f1(classes.confusion(whole.ability, whole.verdict, 2))
    covered = []
    for seed in range(200):
        rows = rng.integers(0, len(whole), 150)
        statistics = classes.agreement_statistics(whole.ability[rows], whole.verdict[rows], 2)
        low, high = bootstrap_intervals(statistics, np.arange(150), seed=seed, replicates=100)["macro_f1"] or (1.0, 0.0)
        covered.append(low <= (truth or 0.0) <= high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_a_monotone_map_changes_no_ranking() -> None:
    scores = simulated(300, seed=7)
    mapped = 1 / (1 + np.exp(-4 * scores.confidence))
    assert auroc(mapped, scores.event) == auroc(scores.confidence, scores.event)
    one, other = (at_once(decision.decision_statistics(f, scores.accuracy), 300) for f in (scores.confidence, mapped))
    assert one == pytest.approx(other)
