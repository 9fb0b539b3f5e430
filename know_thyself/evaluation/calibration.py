"""From what a judge says to the accuracy to expect, fitted on the calibration questions alone.

A judge of two verdicts says a confidence, and a `ConfidenceMap` turns it into p_correct, the expected k/n. One of three says
P(can), P(uncertain) and P(cannot), and a `ClassMap` does. Both are numbers in `judge.json`, under an id that vouches for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self, get_args

import numpy as np
from scipy.optimize import isotonic_regression, lsq_linear, minimize
from scipy.special import expit, logit

from know_thyself.digests import SHORT, digest_json
from know_thyself.evaluation.metrics.calibration import log_loss
from know_thyself.evaluation.metrics.scores import Column, Floats
from know_thyself.types import Split

Method = Literal["temperature", "platt", "isotonic"]
METHODS: tuple[Method, ...] = get_args(Method)
"""Ways to map a confidence, the simplest first: it wins where the others gain nothing."""
FREE_FORM = 1000
"""Questions from which isotonic regression is a candidate: on fewer it fits their noise (Niculescu-Mizil & Caruana 2005)."""
FOLDS = 5
CLIP = 1e-6
"""Confidences are held this far from 0 and 1 where their odds are needed."""
TILT = 0.01
SLOPES, INTERCEPTS = (0.01, 20.0), (-12.0, 12.0)
"""Bounds of the fit: a map always rises, and outcomes that are all alike do not send it to infinity."""


def _identity(content: Mapping[str, Any]) -> str:
    return digest_json(dict(content))[:SHORT]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceMap:
    """p_correct as a strictly rising function of the confidence, by `method`, so that both rank questions alike.

    `numbers` are, of `temperature` and `platt`, one pair (slope, intercept): p_correct = expit(slope logit(s) + intercept), the
    intercept 0 for a temperature of 1/slope (Guo et al. 2017; Platt 1999). Of `isotonic`, they are points (s, accuracy) joined
    by lines: both ends of each block of isotonic regression (Zadrozny & Elkan 2002), held half a question's share from 0 and
    1; p_correct lies a share `TILT` of the way from there to s, so that it rises.
    They were fitted on `n` questions of `fitted_on`. Raises `ValueError` for an `id` that is not theirs.
    """

    id: str
    method: Method
    numbers: tuple[tuple[float, float], ...]
    fitted_on: str
    n: int

    def __post_init__(self) -> None:
        flat = np.array(self.numbers, dtype=np.float64).reshape(-1, 2)
        steps = np.diff(flat, axis=0)
        blocks = len(flat) > 0 and bool(np.all(steps[:, 0] > 0) and np.all(steps[:, 1] >= 0))
        rising = blocks if self.method == "isotonic" else len(flat) == 1 and flat[0, 0] > 0
        if not rising:
            raise ValueError(f"calibration {self.numbers} does not rise: fit it again")
        if self.id != self._id(self.method, self.numbers, self.fitted_on, self.n):
            raise ValueError(f"calibration {self.id} has other numbers than it was fitted with: restore it, or fit it again")

    @classmethod
    def of(cls, method: Method, numbers: Sequence[Sequence[float]], fitted_on: str, n: int) -> Self:
        """The map of these numbers, under its id."""
        pairs = tuple((float(a), float(b)) for a, b in numbers)
        return cls(id=cls._id(method, pairs, fitted_on, n), method=method, numbers=pairs, fitted_on=fitted_on, n=n)

    @staticmethod
    def _id(method: str, numbers: Sequence[Sequence[float]], fitted_on: str, n: int) -> str:
        pairs = [list(pair) for pair in numbers]
        return _identity({"map": method, "numbers": pairs, "fitted_on": fitted_on, "n": n})

    def expected(self, confidence: Floats) -> Floats:
        """p_correct of each confidence, shape as given."""
        if self.method == "isotonic":
            at, value = zip(*self.numbers, strict=True)
            tilted: Floats = (1 - TILT) * np.interp(confidence, at, value) + TILT * confidence
            return tilted
        ((slope, intercept),) = self.numbers
        mapped: Floats = expit(slope * _odds(confidence) + intercept)
        return mapped

    def forecast(self, probabilities: Floats) -> Floats:
        """p_correct `[questions]` of `probabilities` `[questions, verdicts]`, the first of which is the confidence."""
        return self.expected(probabilities[:, 0])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMap:
    """p_correct = sum over verdicts of P(verdict) times its weight: the accuracy of questions that deserve that verdict.

    `weights` are in 0..1, in the order of the verdict words, so p_correct is too. They were fitted on `n` questions of
    the split `fitted_on`; `id` is a digest of all this. Raises `ValueError` for weights out of range and for an `id` that is
    not theirs.
    """

    id: str
    weights: tuple[float, ...]
    fitted_on: str
    n: int

    def __post_init__(self) -> None:
        if not all(0 <= weight <= 1 for weight in self.weights):
            raise ValueError(f"weights {self.weights} are no shares: fit them again")
        if self.id != self._id(self.weights, self.fitted_on, self.n):
            raise ValueError(f"calibration {self.id} has other weights than it was fitted with: restore it, or fit it again")

    @classmethod
    def of(cls, weights: Sequence[float], fitted_on: str, n: int) -> Self:
        """The map of these weights, under its id."""
        return cls(id=cls._id(weights, fitted_on, n), weights=tuple(weights), fitted_on=fitted_on, n=n)

    @staticmethod
    def _id(weights: Sequence[float], fitted_on: str, n: int) -> str:
        return _identity({"map": "classes", "weights": list(weights), "fitted_on": fitted_on, "n": n})

    @property
    def method(self) -> str:
        """How it was fitted."""
        return "classes"

    def forecast(self, probabilities: Floats) -> Floats:
        """p_correct `[questions]` of `probabilities` `[questions, verdicts]`, whose rows sum to 1."""
        # Rows sum to 1 but for rounding, which may lift the sum of products above 1.
        expected: Floats = np.clip(probabilities @ np.array(self.weights), 0.0, 1.0)
        return expected


Calibration = ConfidenceMap | ClassMap


def fit_class_map(probabilities: Floats, outcome: Floats, fitted_on: str = Split.CALIBRATION) -> ClassMap | None:
    """The weights in 0..1 for which p_correct is nearest to k/n in the mean square (bounded least squares).

    `probabilities` are `[questions, verdicts]`, `outcome` k/n. With free weights this is the linear regression of k/n on the
    probabilities without an intercept, which sum-to-one rows contain already. None without questions.
    """
    if not len(outcome):
        return None
    weights = lsq_linear(probabilities, outcome, bounds=(0.0, 1.0)).x
    return ClassMap.of(np.clip(weights, 0.0, 1.0).tolist(), str(fitted_on), len(outcome))


def fit_method(method: Method, confidence: Floats, outcome: Floats, fitted_on: str = Split.CALIBRATION) -> ConfidenceMap:
    """The map of `method` with the lowest log loss of p_correct against k/n. Raises `ValueError` without questions."""
    if not len(outcome):
        raise ValueError("no questions to fit a calibration on")
    numbers = _isotonic(confidence, outcome) if method == "isotonic" else [_line(confidence, outcome, method == "platt")]
    return ConfidenceMap.of(method, numbers, str(fitted_on), len(outcome))


def _odds(confidence: Floats) -> Floats:
    odds: Floats = logit(np.clip(confidence, CLIP, 1 - CLIP))
    return odds


def _line(confidence: Floats, outcome: Floats, shifted: bool) -> tuple[float, float]:
    """Slope and intercept (0 unless `shifted`) of the logistic regression of k/n on the odds of the confidence."""
    odds = _odds(confidence)

    def loss(place: Floats) -> tuple[float, Floats]:
        score = place[0] * odds + place[1]
        surplus = expit(score) - outcome
        return float(np.mean(np.logaddexp(0, score) - outcome * score)), np.array([np.mean(surplus * odds), surplus.mean()])

    bounds = [SLOPES, INTERCEPTS if shifted else (0.0, 0.0)]
    slope, intercept = minimize(loss, x0=np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(slope), float(intercept)


def _isotonic(confidence: Floats, outcome: Floats) -> list[tuple[float, float]]:
    """The ends of each block of isotonic regression, with the block's accuracy; see `ConfidenceMap`."""
    at, tie, size = np.unique(confidence, return_inverse=True, return_counts=True)
    fitted = isotonic_regression(np.bincount(tie, weights=outcome) / size, weights=size.astype(np.float64))
    first, last = fitted.blocks[:-1], fitted.blocks[1:] - 1
    least = 0.5 / (len(confidence) + 1)
    value = np.clip(fitted.x[first], least, 1 - least)
    ends = np.stack([at[first], at[last]], axis=1)
    points = dict(zip(ends.ravel().tolist(), np.repeat(value, 2).tolist(), strict=True))
    return list(points.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The calibration chosen, the log loss of each candidate on questions it was not fitted on, and the forecasts made so."""

    calibration: Calibration
    losses: Mapping[str, float]
    crossfitted: Floats


Fit = Callable[[Floats, Floats], Calibration | None]


def choose_calibration(probabilities: Floats, outcome: Floats, group: Column, *, seed: int = 0) -> Fitted | None:
    """The calibration of `probabilities` `[questions, verdicts]` by k/n: the candidate that loses least when cross-fitted.

    Each question's forecast comes from a map fitted on other groups (`FOLDS` parts); the winner is then fitted on all. Two
    verdicts have the candidates `METHODS`, isotonic only from `FREE_FORM` questions on, three the `ClassMap`. None with fewer
    than two groups.
    """
    parts = fold_of(group, seed)
    if parts.max(initial=0) == 0:
        return None
    methods = [method for method in METHODS if method != "isotonic" or len(outcome) >= FREE_FORM]
    binary = probabilities.shape[1] == 2
    fits: dict[str, Fit] = {method: partial(_fit_two, method) for method in methods} if binary else {"classes": fit_class_map}
    crossed = {name: _crossfit(fit, probabilities, outcome, parts) for name, fit in fits.items()}
    losses = {name: log_loss(forecast, outcome) or 0.0 for name, forecast in crossed.items()}
    best = min(losses, key=lambda name: losses[name])
    chosen = fits[best](probabilities, outcome)
    return None if chosen is None else Fitted(calibration=chosen, losses=losses, crossfitted=crossed[best])


def _fit_two(method: Method, probabilities: Floats, outcome: Floats) -> ConfidenceMap:
    return fit_method(method, probabilities[:, 0], outcome)


def fold_of(group: Column, seed: int) -> Column:
    """The part, 0 to `FOLDS` - 1, of each question; groups are kept whole, in random order by `seed`."""
    names, member = np.unique(group, return_inverse=True)
    part = np.random.default_rng([seed, 2]).permutation(len(names)) % FOLDS
    return part[member]


def _crossfit(fit: Fit, probabilities: Floats, outcome: Floats, part: Column) -> Floats:
    forecast = np.empty(len(outcome))
    for held in np.unique(part):
        here = part == held
        fitted = fit(probabilities[~here], outcome[~here])
        forecast[here] = outcome[~here].mean() if fitted is None else fitted.forecast(probabilities[here])
    return forecast
