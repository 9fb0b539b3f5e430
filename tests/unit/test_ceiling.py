"""The spread of accuracies: its likelihood against scipy, its fit against simulations whose truth is known."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from know_thyself.evaluation.ceiling import (
    BetaBinomial,
    ceiling_auroc,
    ceiling_of,
    fit_beta_binomial,
    fit_concentration,
    goodness_of_fit,
)
from know_thyself.evaluation.metrics.discrimination import auroc, ranking_statistics

stats: Any = importlib.import_module("scipy.stats")


@given(alpha=st.floats(0.05, 50), beta=st.floats(0.05, 50), num_trials=st.integers(1, 60))
def test_shares_are_the_beta_binomial_distribution(alpha: float, beta: float, num_trials: int) -> None:
    shares = BetaBinomial(alpha=alpha, beta=beta).shares(num_trials)
    np.testing.assert_allclose(shares, stats.betabinom.pmf(np.arange(num_trials + 1), num_trials, alpha, beta), atol=1e-9)
    assert shares.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.5), (1.0, 1.0), (4.0, 2.0), (0.1, 0.05)])
def test_the_fit_finds_the_spread_that_counts_were_drawn_from(alpha: float, beta: float) -> None:
    rng = np.random.default_rng(0)
    graded = rng.choice([5, 8], 40_000)
    right = rng.binomial(graded, rng.beta(alpha, beta, 40_000))
    found = fit_beta_binomial(right, graded)
    assert (found.alpha, found.beta) == pytest.approx((alpha, beta), rel=0.06)
    assert found.mean == pytest.approx(right.sum() / graded.sum(), abs=0.01)


def test_no_spread_near_the_fit_is_likelier() -> None:
    rng = np.random.default_rng(1)
    graded = np.full(300, 5)
    right = rng.binomial(graded, rng.beta(0.6, 0.9, 300))
    found = fit_beta_binomial(right, graded)
    best = found.log_likelihood(right, graded).sum()
    for alpha, beta in ((0.97, 1), (1.03, 1), (1, 0.97), (1, 1.03), (1.03, 1.03), (0.97, 0.97)):
        near = BetaBinomial(alpha=found.alpha * alpha, beta=found.beta * beta)
        assert near.log_likelihood(right, graded).sum() <= best


def test_a_question_that_was_tried_moves_the_spread() -> None:
    assert BetaBinomial(alpha=0.5, beta=2.0).given(3, 5) == BetaBinomial(alpha=3.5, beta=4.0)


@pytest.mark.parametrize(
    ("right", "low", "high"),
    [([0] * 50, 0.0, 0.01), ([5] * 50, 0.99, 1.0), ([0, 5] * 25, 0.49, 0.51), ([2, 3] * 25, 0.49, 0.51)],
    ids=["never right", "always right", "all or nothing", "all alike"],
)
def test_counts_without_a_maximum_end_at_a_bound(right: list[int], low: float, high: float) -> None:
    found = fit_beta_binomial(np.array(right), np.full(50, 5))
    assert low <= found.mean <= high
    assert np.isfinite(found.shares(5)).all()
    after_all_right = found.given(5, 5).shares(5)[5]
    assert after_all_right > 0.99 or set(right) != {0, 5}


def test_no_questions_have_no_spread() -> None:
    with pytest.raises(ValueError, match="no questions"):
        fit_beta_binomial(np.array([], dtype=np.int64), np.array([], dtype=np.int64))


ALL_OF_FIVE = np.array([0, 0, 0, 0, 0, 1.0])
HALF_OF_FIVE = np.array([0, 0, 0, 1.0, 1.0, 1.0])
BY_TRIAL = np.arange(6) / 5


@pytest.mark.parametrize(("correlation", "expected"), [(0.4, 0.937), (0.6, 0.973), (0.7, 0.985), (0.8, 0.993)])
def test_the_ceiling_is_that_of_the_reference_table(correlation: float, expected: float) -> None:
    size = 1 / correlation - 1
    spread = BetaBinomial(alpha=0.7 * size, beta=0.3 * size)
    assert spread.correlation == pytest.approx(correlation)
    assert ceiling_auroc(spread, ALL_OF_FIVE) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("positive", [ALL_OF_FIVE, HALF_OF_FIVE, BY_TRIAL], ids=["all", "half", "by trial"])
def test_the_ceiling_is_what_a_judge_who_knows_every_accuracy_gets(positive: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    p = rng.beta(0.4, 0.7, 60_000)
    right = rng.binomial(5, p)
    reached = auroc(p, positive[right])
    assert ceiling_auroc(BetaBinomial(alpha=0.4, beta=0.7), positive) == pytest.approx(reached, abs=0.005)


def test_a_label_that_no_question_or_every_one_has_leaves_no_ceiling() -> None:
    assert ceiling_auroc(BetaBinomial(alpha=1.0, beta=1.0), np.zeros(6)) is None


def test_the_fit_is_shown_and_a_bad_one_is_told() -> None:
    rng = np.random.default_rng(3)
    good = rng.binomial(5, rng.beta(0.5, 0.8, 3000))
    fit = goodness_of_fit(fit_beta_binomial(good, np.full(3000, 5)), good, 5)
    assert fit.observed == np.bincount(good, minlength=6).tolist()
    assert sum(fit.expected) == pytest.approx(3000)
    assert fit.p_value is not None
    assert fit.p_value > 0.05
    bad = rng.binomial(5, rng.choice([0.02, 0.5, 0.98], 3000))
    told = goodness_of_fit(fit_beta_binomial(bad, np.full(3000, 5)), bad, 5)
    assert told.p_value is not None
    assert told.p_value < 0.001


def test_the_share_of_the_ceiling_that_a_judge_reaches_has_an_interval() -> None:
    rng = np.random.default_rng(4)
    p = rng.beta(0.5, 0.5, 800)
    right = rng.binomial(5, p)
    for seen, low, high in ((p, 0.95, 1.03), (rng.random(800), -0.15, 0.15)):
        judge = ranking_statistics(seen, {"auroc": right >= 3})
        found = ceiling_of(judge, HALF_OF_FIVE, right, np.arange(800).astype(np.str_), replicates=40)
        assert found.fraction is not None
        assert found.fraction_interval is not None
        assert low < found.fraction_interval.low < found.fraction < found.fraction_interval.high < high + 0.1
        assert found.auroc is not None
        assert found.interval is not None
        assert found.interval.low < found.auroc < found.interval.high
    nothing = ceiling_of(judge, HALF_OF_FIVE, right[:0], np.array([], dtype=np.str_))
    assert nothing.auroc is None


@pytest.mark.parametrize("size", [0.3, 2.0, 20.0])
def test_the_concentration_about_a_forecast_is_found(size: float) -> None:
    rng = np.random.default_rng(5)
    forecast = rng.uniform(0.1, 0.9, 20_000)
    right = rng.binomial(5, rng.beta(forecast * size, (1 - forecast) * size))
    assert fit_concentration(forecast, right, np.full(20_000, 5)) == pytest.approx(size, rel=0.1)
    knowing = fit_concentration(forecast, rng.binomial(5, forecast), np.full(20_000, 5))
    assert knowing > 100
