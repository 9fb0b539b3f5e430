"""Thresholds keep what they promise: exact cases, and redraws from worlds whose truth is known."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from know_thyself.evaluation.thresholds import GRID, LEVEL, Costs, for_accuracy, for_coverage, lower_bound

stats: Any = importlib.import_module("scipy.stats")
REDRAWS = 500


def world(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A judge that is overconfident: the event holds less often than it says."""
    confidence = rng.beta(0.5, 0.5, number)
    return confidence, rng.random(number) < confidence**1.3


def test_the_bound_is_clopper_and_pearsons() -> None:
    for right, number in ((0, 10), (7, 10), (10, 10), (850, 1000)):
        expected = stats.binomtest(right, number, alternative="greater").proportion_ci(LEVEL, method="exact").low
        assert lower_bound(right, number) == pytest.approx(expected)


@pytest.mark.parametrize(("target", "number"), [(0.9, 300), (0.8, 300), (0.95, 1000)])
def test_the_accuracy_promised_is_kept(target: float, number: int) -> None:
    rng = np.random.default_rng(0)
    everywhere, holds = world(rng, 400_000)
    truth = {float(t): holds[everywhere >= t].mean() for t in GRID if (everywhere >= t).any()}
    kept, found = 0, 0
    for _ in range(REDRAWS):
        promise = for_accuracy(*world(rng, number), target)
        found += promise.reachable
        kept += not promise.reachable or truth[promise.threshold or 0.0] >= target
    assert kept / REDRAWS >= 0.93
    assert found / REDRAWS > 0.3, "a promise that is never made is easily kept"


def test_the_coverage_promised_is_kept() -> None:
    rng = np.random.default_rng(1)
    everywhere, _ = world(rng, 400_000)
    kept = [(everywhere >= (for_coverage(*world(rng, 200), 0.5).threshold or 0.0)).mean() >= 0.5 for _ in range(REDRAWS)]
    assert np.mean(kept) >= 0.93


def test_what_cannot_be_promised_is_not_and_the_best_is_told() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.random(400)
    promise = for_accuracy(confidence, rng.random(400) < 0.7, 0.95)
    assert not promise.reachable
    assert promise.best is not None
    assert 0.55 <= promise.best < 0.75
    assert promise.accuracy_low is not None
    assert promise.accuracy_low >= promise.best
    nothing = for_accuracy(confidence[:2], np.zeros(2, dtype=bool), 0.9)
    assert (nothing.reachable, nothing.best, nothing.threshold) == (False, None, None)
    assert for_accuracy(np.array([]), np.array([], dtype=bool), 0.9).threshold is None


def test_as_many_right_answers_as_could_show_it_are_enough() -> None:
    """0.9^42 < 5 %/4 < 0.9^41: so many, all right, are the least that promise 90 % from one of four starts."""
    assert not for_accuracy(np.full(41, 0.7), np.ones(41, dtype=bool), 0.9).reachable
    promise = for_accuracy(np.full(42, 0.7), np.ones(42, dtype=bool), 0.9)
    assert promise.reachable
    assert promise.threshold is not None
    assert promise.threshold <= 0.7
    assert (promise.accuracy, promise.coverage) == (1.0, 1.0)


def test_a_lower_target_never_lets_fewer_pass() -> None:
    confidence, event = world(np.random.default_rng(3), 600)
    thresholds = [for_accuracy(confidence, event, target).threshold for target in (0.95, 0.9, 0.8, 0.6)]
    known = [threshold for threshold in thresholds if threshold is not None]
    assert len(known) >= 3
    assert known == sorted(known, reverse=True)


@pytest.mark.parametrize("target", [0.0, 1.0, 1.2])
def test_a_target_that_is_no_share_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 1"):
        for_accuracy(np.array([0.5]), np.array([True]), target)


def test_answering_is_cheapest_where_chow_says() -> None:
    costs = Costs(wrong=10, escalation=2, abstention=5)
    assert costs.threshold == pytest.approx(0.8)
    assert costs.per_question(np.array([0.9, 0.5]), np.array([1.0, 0.0])).tolist() == [0.0, 2.0]
    assert Costs(wrong=1, escalation=2, abstention=3).threshold == 0
    rng = np.random.default_rng(4)
    p = rng.random(50_000)
    outcome = (rng.random(50_000) < p).astype(float)
    spent = {t: np.where(p >= t, 10 * (1 - outcome), 2.0).mean() for t in np.linspace(0, 1, 41)}
    assert min(spent, key=lambda t: spent[t]) == pytest.approx(costs.threshold, abs=0.05)
    assert costs.per_question(p, outcome).mean() == pytest.approx(spent[0.8], rel=0.01)
