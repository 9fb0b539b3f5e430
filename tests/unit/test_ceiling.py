"""The spread of accuracies: its likelihood against scipy, its fit against simulations whose truth is known."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from know_thyself.evaluation.ceiling import BetaBinomial, fit_beta_binomial

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
