"""Drift: whether what comes in has moved away from what a judge was calibrated on, and whether its probability still holds.

Scores tell whether the *questions* have changed: the spread of confidences against that of the calibration set, and the mean
accuracy expected. Feedback tells whether *p_correct* still holds: the accuracy told against the accuracy forecast for the very
same answers, and the calibration error. Feedback is on answers that were given, so that its plain accuracy says nothing; only
its difference from the forecasts does. Does not cover feedback that is given more readily on wrong answers than on right ones
of equal p_correct.

Intervals resample the seconds in which it was judged, so that lists of questions stay together; a question that is asked again
at another time counts as another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from know_thyself.evaluation.bootstrap import Draws, Interval, Statistic, Values, bootstrap_interval, mean_interval
from know_thyself.evaluation.metrics.calibration import calibration_statistics, ece, ece_band
from know_thyself.evaluation.metrics.scores import Column, Floats

BINS = 10
HALF = 0.5
"""Added to every count, so that an empty bin does not make the index infinite."""
STABLE, SHIFTED = 0.1, 0.25
"""Below, a population is taken to be as it was; from the second on, to be another (Siddiqi 2006)."""
LEVEL = 0.05
"""How often chance alone may look like changed questions, and how often like a p_correct that no longer holds."""
TWO_SIDED = 1.96
HALF_LEVEL_TWO_SIDED = 2.24
"""Standard deviations: two tests look at p_correct, each at half of `LEVEL`."""
LEAST_SCORES, LEAST_FEEDBACK = 500, 200
"""With fewer, chance hides all but the grossest changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The calibration set in short: `counts` of confidences below, between and from the rising `edges` on, and their accuracy.

    `accuracy` is the mean k/n, in 0..1. Raises `ValueError` for numbers that cannot be these.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    accuracy: float

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        if not (rising and len(self.counts) == len(self.edges) + 1 and min(self.counts) >= 0 and 0 <= self.accuracy <= 1):
            raise ValueError(f"{self} is no picture of a calibration set: run its job again")

    @classmethod
    def of(cls, confidence: Floats, outcome: Floats) -> Self | None:
        """The picture of questions of these confidences and k/n, in `BINS` bins of equal mass (ties allowing); None of none."""
        if not len(confidence):
            return None
        edges = np.unique(np.quantile(confidence, np.arange(1, BINS) / BINS))
        counts = histogram(confidence, edges)
        return cls(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()), accuracy=float(outcome.mean()))

    @property
    def n(self) -> int:
        """Questions in it."""
        return sum(self.counts)


def histogram(confidence: Floats, edges: Floats) -> NDArray[np.int64]:
    """How many of `confidence` are below, between and from the rising `edges` on; `[len(edges) + 1]`."""
    return np.bincount(np.searchsorted(edges, confidence, side="right"), minlength=len(edges) + 1)


def stability_index(before: Floats, after: Floats) -> Floats:
    """The population stability index of counts `after` `[..., bins]` against `before` `[bins]`: sum (q - p) ln(q / p).

    p and q are the shares with `HALF` added to every count. It is 0 for equal shares, and symmetric: the sum of both
    Kullback-Leibler divergences (Siddiqi 2006).
    """
    p = (before + HALF) / (before + HALF).sum()
    q = (after + HALF) / (after + HALF).sum(axis=-1, keepdims=True)
    index: Floats = ((q - p) * np.log(q / p)).sum(axis=-1)
    return index


def chance_index(before: int, after: int, bins: int) -> float:
    """What the index exceeds one time in twenty where nothing has changed: (1/before + 1/after) chi2(0.95; bins - 1).

    `before` and `after` count the questions (Yurdakul 2018). 0.0 of one bin.
    """
    return float((1 / before + 1 / after) * chdtri(bins - 1, LEVEL)) if bins > 1 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Live judgments, one row each: confidence, p_correct (nan without calibration) and the second of each."""

    confidence: Floats
    p_correct: Floats
    at: Column


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answered:
    """Feedback, one row each: the p_correct that was forecast, whether the answer was right (0 or 1), when it was judged."""

    forecast: Floats
    correct: Floats
    at: Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A number now, with its 95 % interval, None where it cannot be resampled.

    `usual` is what it would be, or stay below, without drift; `is_off` tells that it is further from that than chance explains.
    """

    value: float
    interval: Interval | None
    usual: float
    is_off: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What scores and feedback tell; None where there is too little, or nothing calibrated, to tell by.

    `index`: the stability index; `expected`: the mean p_correct, `usual` the calibration set's accuracy. `accuracy`: what
    feedback says less what was forecast, `usual` 0; `ece`: its calibration error, `usual` what a judge that is right stays
    below.
    """

    index: Finding | None
    expected: Finding | None
    accuracy: Finding | None
    ece: Finding | None

    @property
    def advice(self) -> str:
        """What to do about it, in words."""
        if any(found is not None and found.is_off for found in (self.accuracy, self.ece)):
            return "recalibrate: answers are right less or more often than p_correct says"
        has_moved = self.index is not None and self.index.is_off
        if self.accuracy is None:
            wanted = f"{LEAST_FEEDBACK} feedbacks or more tell whether p_correct still holds"
            if self.index is None:
                return f"too little to tell anything: {LEAST_SCORES} judgments or more show whether questions changed, {wanted}"
            return f"questions have changed: {wanted}" if has_moved else f"questions are as they were: {wanted}"
        if has_moved:
            return "questions have changed, and p_correct holds for them: no need to recalibrate, look again soon"
        return "no need to recalibrate"


def find_drift(scores: Scored, feedback: Answered, reference: Reference, seed: int = 0) -> Drift:
    """What live `scores` and `feedback` say against the calibration set of `reference`."""
    enough = len(scores.confidence) >= LEAST_SCORES
    told = len(feedback.correct) >= LEAST_FEEDBACK
    is_calibrated = enough and not np.isnan(scores.p_correct).any()
    return Drift(
        index=score_shift(scores, reference, seed) if enough else None,
        expected=expected_accuracy(scores, reference, seed) if is_calibrated else None,
        accuracy=accuracy_surplus(feedback, seed) if told else None,
        ece=calibration_error(feedback, seed) if told else None,
    )


def score_shift(scores: Scored, reference: Reference, seed: int = 0) -> Finding:
    """The stability index of live confidences; off from `STABLE` on, where chance seldom brings as much."""
    edges, before = np.array(reference.edges), np.array(reference.counts, dtype=np.float64)
    place = np.searchsorted(edges, scores.confidence, side="right")
    held = np.eye(len(before))[place]
    index = float(stability_index(before, held.sum(axis=0)))
    usual = max(STABLE, chance_index(reference.n, len(place), len(before)))
    return Finding(
        value=index,
        interval=bootstrap_interval(_index_statistic(before, held), scores.at, seed=seed),
        usual=usual,
        is_off=index > usual,
    )


def _index_statistic(before: Floats, held: Floats) -> Statistic:
    def statistic(weights: Draws) -> Values:
        return stability_index(before, weights @ held)

    return statistic


def expected_accuracy(scores: Scored, reference: Reference, seed: int = 0) -> Finding:
    """The mean p_correct of live questions; off where its interval is apart from that of the calibration set's accuracy.

    The latter is a -/+ 1.96 sqrt(a (1 - a) / n), the widest that n questions can have: k/n varies no more than one trial does.
    """
    usual = reference.accuracy
    margin = TWO_SIDED * np.sqrt(usual * (1 - usual) / reference.n)
    interval = mean_interval(scores.p_correct, scores.at, seed=seed)
    is_apart = interval is not None and not (interval.low - margin <= usual <= interval.high + margin)
    return Finding(value=float(scores.p_correct.mean()), interval=interval, usual=usual, is_off=bool(is_apart))


def accuracy_surplus(feedback: Answered, seed: int = 0) -> Finding:
    """Mean of (right - p_correct): above 0 where answers are right more often than forecast.

    Off where |sum(right - p)| > 2.24 sqrt(sum p (1 - p)): calibration in the large, tested on independent answers of these very
    probabilities (Cox 1958; Spiegelhalter 1986). Unlike an interval, this stands where all answers were right.
    """
    surplus = feedback.correct - feedback.forecast
    spread = np.sqrt(np.sum(feedback.forecast * (1 - feedback.forecast)))
    return Finding(
        value=float(surplus.mean()),
        interval=mean_interval(surplus, feedback.at, seed=seed),
        usual=0.0,
        is_off=bool(abs(surplus.sum()) > HALF_LEVEL_TWO_SIDED * spread),
    )


def calibration_error(feedback: Answered, seed: int = 0) -> Finding:
    """The ECE of p_correct on feedback; off above what one that is right stays below 39 times in 40."""
    trials = np.ones(len(feedback.correct), dtype=np.int64)
    statistics = calibration_statistics(feedback.forecast, feedback.correct, trials)
    value, usual = ece(feedback.forecast, feedback.correct), ece_band(feedback.forecast, trials, level=1 - LEVEL / 2, seed=seed)
    assert value is not None
    assert usual is not None
    return Finding(
        value=value,
        interval=bootstrap_interval(lambda weights: statistics(weights)["ece"], feedback.at, seed=seed),
        usual=usual,
        is_off=value > usual,
    )
