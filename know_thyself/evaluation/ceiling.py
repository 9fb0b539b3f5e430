"""What k right trials of n can tell at all: how accuracies are spread over the questions of a run.

Model: question i has an accuracy p_i ~ Beta(alpha, beta), and k_i ~ Binomial(n_i, p_i) of its trials are right; k_i is then
beta-binomial. Does not cover trials of one question that depend on each other, or several kinds of questions with a spread of
their own: the fit is the nearest single beta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, expit, gammaln, logit

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

LOGIT_MEAN = (-12.0, 12.0)
LOG_SIZE = (-7.0, 9.0)
"""Bounds of the fit: mean accuracy within 6e-6 of 0 and 1, alpha + beta from 1e-3 (each question all right or all wrong) to
8,000 (all questions alike). The likelihood of counts at such an end grows without a maximum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaBinomial:
    """A spread of accuracies: the beta distribution with parameters `alpha` and `beta`, both above 0."""

    alpha: float
    beta: float

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return self.alpha / (self.alpha + self.beta)

    def log_likelihood(self, num_correct: Counts, num_graded: Counts) -> Floats:
        """Logarithm of P(k of n) for each question, shape as given (Skellam 1948)."""
        k, n = num_correct, num_graded
        ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        likely: Floats = ways + betaln(k + self.alpha, n - k + self.beta) - betaln(self.alpha, self.beta)
        return likely

    def given(self, num_correct: int, num_graded: int) -> BetaBinomial:
        """The spread of a question's accuracy once `num_correct` of `num_graded` of its trials were right (the posterior)."""
        return BetaBinomial(alpha=self.alpha + num_correct, beta=self.beta + num_graded - num_correct)

    def shares(self, num_trials: int) -> Floats:
        """P(k right of `num_trials`) for k = 0..`num_trials`; sums to 1."""
        k = np.arange(num_trials + 1)
        likely = np.exp(self.log_likelihood(k, np.full_like(k, num_trials)))
        shares: Floats = likely / likely.sum()
        return shares


def fit_beta_binomial(num_correct: Counts, num_graded: Counts) -> BetaBinomial:
    """The beta-binomial of the highest likelihood for `num_correct` of `num_graded` trials, one row per question.

    Found by L-BFGS-B in (logit mean, log(alpha + beta)), within `LOGIT_MEAN` and `LOG_SIZE`: counts that pull the estimate to
    an end, such as all right, are answered by the end. Raises `ValueError` without questions.
    """
    if not len(num_correct):
        raise ValueError("no questions to fit a spread of accuracies on")
    # Questions of equal counts are one term of the likelihood.
    counts, times = np.unique(np.stack([num_correct, num_graded]), axis=1, return_counts=True)

    def loss(place: Floats) -> float:
        return -float(times @ _at(place).log_likelihood(*counts)) / len(num_correct)

    mean = np.clip(num_correct.sum() / num_graded.sum(), 1e-3, 1 - 1e-3)
    found = minimize(loss, x0=np.array([logit(mean), 0.0]), method="L-BFGS-B", bounds=[LOGIT_MEAN, LOG_SIZE])
    return _at(found.x)


def _at(place: Floats) -> BetaBinomial:
    mean, size = expit(place[0]), np.exp(place[1])
    return BetaBinomial(alpha=float(mean * size), beta=float((1 - mean) * size))
