"""What k right trials of n can tell at all: how accuracies are spread over the questions of a run, and what caps a judge.

Model: question i has an accuracy p_i ~ Beta(alpha, beta), and k_i ~ Binomial(n_i, p_i) of its trials are right; k_i is then
beta-binomial. Does not cover trials of one question that depend on each other, or several kinds of questions with a spread of
their own: the fit is the nearest single beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import betaincinv, betaln, chdtrc, comb, expit, gammaln, logit

from know_thyself.evaluation.bootstrap import Draws, Interval, Statistics, bootstrap_values, percentile_interval

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

    @property
    def correlation(self) -> float:
        """Correlation of two trials of one question: 0 when all questions are alike, 1 when each is all right or all wrong."""
        return 1 / (self.alpha + self.beta + 1)

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


def fit_beta_binomial(num_correct: Counts, num_graded: Counts, times: Floats | None = None) -> BetaBinomial:
    """The beta-binomial of the highest likelihood for `num_correct` of `num_graded` trials, one row per question.

    `times` counts the questions of each row, where it stands for several.

    Found by L-BFGS-B in (logit mean, log(alpha + beta)), within `LOGIT_MEAN` and `LOG_SIZE`: counts that pull the estimate to
    an end, such as all right, are answered by the end. Raises `ValueError` without questions.
    """
    if not len(num_correct):
        raise ValueError("no questions to fit a spread of accuracies on")
    # Questions of equal counts are one term of the likelihood.
    each = np.ones(len(num_correct)) if times is None else times
    counts, row = np.unique(np.stack([num_correct, num_graded]), axis=1, return_inverse=True)
    share = np.bincount(row, weights=each) / each.sum()

    def loss(place: Floats) -> float:
        return -float(share @ _at(place).log_likelihood(*counts))

    mean = np.clip((each @ num_correct) / (each @ num_graded), 1e-3, 1 - 1e-3)
    found = minimize(loss, x0=np.array([logit(mean), 0.0]), method="L-BFGS-B", bounds=[LOGIT_MEAN, LOG_SIZE])
    return _at(found.x)


def _at(place: Floats) -> BetaBinomial:
    mean, size = expit(place[0]), np.exp(place[1])
    return BetaBinomial(alpha=float(mean * size), beta=float((1 - mean) * size))


def outcome_shares(mean: Floats, num_trials: int, concentration: float) -> Floats:
    """P(k of `num_trials`) of questions of these mean accuracies `[questions]`, spread by `concentration`: `[questions, k]`."""
    k = np.arange(num_trials + 1)
    p = np.clip(mean, 1e-9, 1 - 1e-9)[:, np.newaxis]
    if np.isinf(concentration):
        likely = comb(num_trials, k) * p**k * (1 - p) ** (num_trials - k)
    else:
        a, b = p * concentration, (1 - p) * concentration
        likely = comb(num_trials, k) * np.exp(betaln(k + a, num_trials - k + b) - betaln(a, b))
    shares: Floats = likely / likely.sum(axis=1, keepdims=True)
    return shares


def fit_concentration(mean: Floats, num_correct: Counts, num_graded: Counts) -> float:
    """The concentration of the highest likelihood for k_i ~ BetaBinomial of mean `mean[i]`; infinite where none is needed.

    It is the alpha + beta that questions of equal forecast have about it: small where each is all right or all wrong.
    """
    p = np.clip(mean, 1e-6, 1 - 1e-6)

    def loss(log_size: float) -> float:
        a, b = p * np.exp(log_size), (1 - p) * np.exp(log_size)
        return -float(np.mean(betaln(num_correct + a, num_graded - num_correct + b) - betaln(a, b)))

    found = minimize_scalar(loss, bounds=LOG_SIZE, method="bounded")
    return float("inf") if found.x > LOG_SIZE[1] - 0.1 else float(np.exp(found.x))


POINTS = 2000
"""Accuracies, equally likely under the spread, that a ceiling is summed up over."""


def ceiling_auroc(spread: BetaBinomial, positive: Floats) -> float | None:
    """The AUROC of a judge that knows every question's accuracy p, when k of n trials decide which questions are positive.

    `positive` `[n + 1]` is the share of a question with k right trials that counts as positive: 0 or 1 of a label, k/n of
    single trials. With w(p) = P(positive | p), it is E[w(p)(1 - w(p'))(1{w(p) > w(p')} + 1/2 1{=})] / (pi (1 - pi)), pi = E w:
    ranking by w is best (Neyman & Pearson 1933), and what remains is chance in the trials. None where pi is 0 or 1.
    """
    n = len(positive) - 1
    quantile = (np.arange(POINTS) + 0.5) / POINTS
    p = betaincinv(spread.alpha, spread.beta, quantile)
    w = np.sort(outcome_shares(p, n, np.inf) @ positive)
    below = np.cumsum(1 - w) - (1 - w) / 2
    pairs = w.sum() * (1 - w).sum()
    return float((w * below).sum() / pairs) if pairs > 0 else None


class Fit(NamedTuple):
    """How well a spread fits: questions by k as observed and as expected, and a chi-squared test (None without a degree)."""

    observed: list[int]
    expected: list[float]
    p_value: float | None


def goodness_of_fit(spread: BetaBinomial, num_correct: Counts, num_trials: int) -> Fit:
    """The counts of k = 0..`num_trials` beside those `spread` expects, and Pearson's chi-squared test (two numbers fitted).

    Cells that expect fewer than 5 questions join their neighbour. All questions have `num_trials` trials.
    """
    observed = np.bincount(num_correct, minlength=num_trials + 1)
    expected = spread.shares(num_trials) * len(num_correct)
    seen, wanted = [0.0], [0.0]
    for count, hoped in zip(observed, expected, strict=True):
        if wanted[-1] >= 5:
            seen.append(0.0)
            wanted.append(0.0)
        seen[-1] += count
        wanted[-1] += hoped
    if wanted[-1] < 5 and len(wanted) > 1:
        seen[-2:], wanted[-2:] = [sum(seen[-2:])], [sum(wanted[-2:])]
    freedom = len(seen) - 3
    distance = sum((s - w) ** 2 / w for s, w in zip(seen, wanted, strict=True))
    return Fit(observed.tolist(), expected.tolist(), float(chdtrc(freedom, distance)) if freedom > 0 else None)


class Ceiling(NamedTuple):
    """The best AUROC that labels from so few trials allow, and the share of the way from guessing to it that a judge went.

    Each with its 95 % interval, groups resampled and the spread fitted anew; None where undefined.
    """

    auroc: float | None
    interval: Interval | None
    fraction: float | None
    fraction_interval: Interval | None


def ceiling_of(
    judge: Statistics, positive: Floats, num_correct: Counts, group: NDArray[Any], *, seed: int = 0, replicates: int = 200
) -> Ceiling:
    """The ceiling of the label that `positive` `[n + 1]` makes of k, and what `judge`, by its number `auroc`, reaches of it."""
    n = len(positive) - 1
    cells = np.eye(n + 1)[num_correct]

    def statistics(weights: Draws) -> dict[str, Floats]:
        tops = np.array([_top(counts, positive) for counts in weights @ cells])
        reached = judge(weights)["auroc"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return {"auroc": tops, "fraction": np.where(tops > 0.5, (reached - 0.5) / (tops - 0.5), np.nan)}

    if not len(num_correct):
        return Ceiling(None, None, None, None)
    point = {name: float(value[0]) for name, value in statistics(np.ones((1, len(num_correct)))).items()}
    drawn = bootstrap_values(statistics, group, seed=seed, replicates=replicates) or {}
    intervals = {name: percentile_interval(values) for name, values in drawn.items()}
    values = {name: None if np.isnan(value) else value for name, value in point.items()}
    return Ceiling(values["auroc"], intervals.get("auroc"), values["fraction"], intervals.get("fraction"))


def _top(counts: Floats, positive: Floats) -> float:
    """The ceiling under the spread fitted to `counts` of questions by k; nan where undefined."""
    n = len(counts) - 1
    spread = fit_beta_binomial(np.arange(n + 1), np.full(n + 1, n), times=counts)
    top = ceiling_auroc(spread, positive)
    return np.nan if top is None else top
