"""Every metric of a judgment, one truth each, on columns with one row per question.

`confidence` is P(event) as read; `positive` says whether the event holds; `outcome` is the measured accuracy k/n, 0..1.
A metric that the data do not define is None and `summarize` gives the reason: nothing here is 0.5 or nan for want of data.
No result depends on the order of the rows: questions of equal confidence share a bin, a threshold and a risk.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from know_thyself.errors import DataError
from know_thyself.evaluation.bootstrap import Interval, Statistic, blocks, bootstrap_interval

Column = NDArray[Any]
Floats = NDArray[np.float64]

BINS = 10
CLIP = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """What was claimed and what was measured, one row per question.

    `num_correct` of `num_graded` trials were right; `confidence` is P(event); `says_can`: the claimed Verdict is not CANNOT;
    `is_can`: the event, the measured Ability is not CANNOT; `mass`: the probability on the verdict words at all.
    Raises `DataError` for columns of unequal length and for values out of range.
    """

    group: NDArray[np.str_]
    num_correct: NDArray[np.int64]
    num_graded: NDArray[np.int64]
    confidence: Floats
    says_can: NDArray[np.bool_]
    is_can: NDArray[np.bool_]
    mass: Floats

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns of unequal length {lengths}: give one row per question")
        counted = (self.num_graded >= 1) & (self.num_correct >= 0) & (self.num_correct <= self.num_graded)
        possible = (self.confidence >= 0) & (self.confidence <= 1) & np.isfinite(self.mass)
        for row in np.flatnonzero(~(counted & possible))[:1]:
            found = {field.name: getattr(self, field.name)[row] for field in fields(self)}
            raise DataError(f"row {row} is out of range: {found}; drop questions that could not be graded or judged")

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def accuracy(self) -> Floats:
        """Share of right trials of each question, 0..1."""
        return self.num_correct / self.num_graded


class ReliabilityBins(NamedTuple):
    """Mean confidence, mean outcome and number of questions of each bin that holds any, by rising confidence."""

    confidence: Floats
    outcome: Floats
    size: NDArray[np.int64]


class Gain(NamedTuple):
    """A difference of two AUROCs and its 95 % interval."""

    difference: float
    low: float
    high: float


def mean(column: Column) -> float | None:
    """The mean; None of nothing."""
    return float(column.mean()) if len(column) else None


def auroc_statistic(confidence: Floats, positive: Column) -> Statistic:
    """AUROC as a function of weights `[replicates, questions]`, sorted once for all; nan where one class is empty."""
    order = np.argsort(confidence, kind="stable")
    starts = np.flatnonzero(np.diff(confidence[order], prepend=-np.inf))
    share = positive[order].astype(float)

    def statistic(weights: Column) -> Floats:
        drawn = weights[:, order]
        right = np.add.reduceat(drawn * share, starts, axis=1)
        wrong = np.add.reduceat(drawn * (1 - share), starts, axis=1)
        wins = (right * (np.cumsum(wrong, axis=1) - wrong / 2)).sum(axis=1)
        pairs = right.sum(axis=1) * wrong.sum(axis=1)
        values: Floats = np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
        return values

    return statistic


def auroc(confidence: Floats, positive: Column, weights: Column | None = None) -> float | None:
    """P(a positive is given more confidence than a negative), ties counting half (Hanley & McNeil 1982).

    `positive` may be a share in 0..1: the question then counts as positive with that weight and as negative with the rest.
    """
    if not len(confidence):
        return None
    row: Column = np.ones(len(confidence)) if weights is None else weights
    value = float(auroc_statistic(confidence, positive)(row[np.newaxis])[0])
    return None if np.isnan(value) else value


def soft_auroc(confidence: Floats, outcome: Floats) -> float | None:
    """AUROC of single trials: each question is positive with weight k/n and negative with weight 1 - k/n.

    A question tied with itself counts half, as any tie; its part vanishes as 1/questions.
    """
    return auroc(confidence, outcome)


def auroc_interval(scores: Scores, *, seed: int = 0, replicates: int = 1000) -> Interval | None:
    """The 95 % interval of the AUROC of the event, groups resampled."""
    statistic = auroc_statistic(scores.confidence, scores.is_can)
    return bootstrap_interval(statistic, scores.group, seed=seed, replicates=replicates)


def auroc_gain(before: Scores, after: Scores, *, seed: int = 0, replicates: int = 1000) -> Gain | None:
    """AUROC `after` less AUROC `before`, paired: a group is drawn for both or for neither. None where either is undefined."""
    old, new = auroc(before.confidence, before.is_can), auroc(after.confidence, after.is_can)
    if old is None or new is None:
        return None
    of_old, of_new = (auroc_statistic(scores.confidence, scores.is_can) for scores in (before, after))
    cut = len(before)
    interval = bootstrap_interval(
        lambda weights: of_new(weights[:, cut:]) - of_old(weights[:, :cut]),
        np.concatenate([before.group, after.group]),
        seed=seed,
        replicates=replicates,
    )
    return None if interval is None else Gain(new - old, *interval)


def roc_curve(confidence: Floats, positive: Column) -> tuple[Floats, Floats] | None:
    """False and true positive rates as the threshold falls, from (0, 0) to (1, 1), one point per distinct confidence."""
    share = positive.astype(float)
    if not 0 < share.sum() < len(share):
        return None
    _, tie = np.unique(-confidence, return_inverse=True)
    rates = [np.cumsum(np.bincount(tie, weights=part)) / part.sum() for part in (1 - share, share)]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def _equal_mass_bin(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """The bin of each question: its rank (ties: their middle rank) in `bins` equal parts."""
    _, tie, size = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - size / 2
    return np.asarray(middle[tie] * bins / max(1, len(confidence)), dtype=np.int64)


def reliability_bins(confidence: Floats, outcome: Floats, bins: int = BINS) -> ReliabilityBins:
    """Bins of equal mass by confidence (Nguyen & O'Connor 2015); ties share a bin, so that masses may differ."""
    place = _equal_mass_bin(confidence, bins)
    size = np.bincount(place)
    held = size > 0
    claimed, measured = (np.bincount(place, weights=column)[held] / size[held] for column in (confidence, outcome))
    return ReliabilityBins(claimed, measured, size[held])


def ece(confidence: Floats, outcome: Floats, bins: int = BINS) -> float | None:
    """Expected calibration error: sum over bins of (size/questions) |mean confidence - mean outcome| (Naeini et al. 2015)."""
    if not len(confidence):
        return None
    held = reliability_bins(confidence, outcome, bins)
    return float(np.average(np.abs(held.confidence - held.outcome), weights=held.size))


def ece_band(
    confidence: Floats, num_graded: Column, *, bins: int = BINS, seed: int = 0, replicates: int = 1000
) -> float | None:
    """95th percentile of the ECE when k_i ~ Bin(n_i, confidence_i) (consistency resampling, Bröcker & Smith 2007).

    Covers a judge whose confidence is each question's own accuracy. Does not cover one that is right on average over unlike
    questions: their trials agree with each other, so its ECE may pass the band though it is calibrated.
    """
    if not len(confidence):
        return None
    order = np.argsort(confidence, kind="stable")
    sure, trials = confidence[order], num_graded[order]
    starts = np.flatnonzero(np.diff(_equal_mass_bin(sure, bins), prepend=-1))
    rng = np.random.default_rng(seed)
    errors = [
        np.abs(np.add.reduceat(rng.binomial(trials, sure, size=(size, len(sure))) / trials - sure, starts, axis=1)).sum(axis=1)
        for size in blocks(replicates, len(sure))
    ]
    return float(np.quantile(np.concatenate(errors) / len(sure), 0.95))


def brier(confidence: Floats, outcome: Floats) -> float | None:
    """mean[(confidence - k/n)^2] (Brier 1950)."""
    return mean((confidence - outcome) ** 2)


def brier_skill(confidence: Floats, outcome: Floats) -> float | None:
    """1 - Brier / Brier of always saying mean k/n (Murphy 1973): 1 is perfect, 0 no better than the base rate, < 0 worse."""
    if not len(outcome) or np.ptp(outcome) == 0:
        return None
    return float(1 - np.mean((confidence - outcome) ** 2) / np.var(outcome))


def excess_brier(confidence: Floats, num_correct: Column, num_graded: Column) -> float | None:
    """mean[(confidence - k/n)^2] - mean[k(n-k)/(n^2(n-1))]: an unbiased estimate of mean[(confidence - p)^2].

    The second term estimates p(1-p)/n, what chance in n trials adds, without bias. None where a question has one trial.
    """
    if not len(confidence) or np.any(num_graded < 2):
        return None
    chance = num_correct * (num_graded - num_correct) / (num_graded**2 * (num_graded - 1))
    return float(np.mean((confidence - num_correct / num_graded) ** 2 - chance))


def log_loss(confidence: Floats, outcome: Floats) -> float | None:
    """Cross-entropy of confidence against k/n in nats, confidence clipped to `CLIP` from 0 and 1."""
    sure = np.clip(confidence, CLIP, 1 - CLIP)
    return mean(-(outcome * np.log(sure) + (1 - outcome) * np.log1p(-sure)))


def risk_coverage(confidence: Floats, outcome: Floats) -> tuple[Floats, Floats]:
    """Coverage i/questions and the share of wrong trials among the i most confident questions (El-Yaniv & Wiener 2010).

    Questions of equal confidence are taken in random order: the curve is the expected one. Both arrays have one entry per
    question. The oracle's curve is `risk_coverage(outcome, outcome)`; random choice stays at 1 - mean(outcome).
    """
    _, tie, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    expected = np.bincount(tie, weights=1 - outcome) / size
    answered = np.arange(1, len(confidence) + 1)
    return answered / max(1, len(answered)), np.cumsum(np.repeat(expected, size)) / answered


def aurc(confidence: Floats, outcome: Floats) -> float | None:
    """Area under the risk-coverage curve: the mean risk over all coverages (Geifman et al. 2019); lower is better."""
    return mean(risk_coverage(confidence, outcome)[1])


ONE_CLASS = "all questions are of one class"
REASONS = {
    "auroc": ONE_CLASS,
    "auroc_low": "too few groups, or too few questions of one class, to resample",
    "auroc_high": "too few groups, or too few questions of one class, to resample",
    "auroc_all_correct": "every question, or none, has all its trials right",
    "auroc_soft": "every trial, or none, is right",
    "brier_skill": "all questions have the same accuracy",
    "excess_brier": "a question has a single trial: use 2 or more",
}
"""Why a metric can be undefined though there are questions."""


def summarize(scores: Scores, dropped: int, seed: int = 0, replicates: int = 1000) -> dict[str, Any]:
    """The `S` of summary.json: plain ints, floats and None, and `undefined` with the reason for each None.

    `dropped` is how many questions of the split have no row in `scores`.
    """
    sure, outcome = scores.confidence, scores.accuracy
    low, high = auroc_interval(scores, seed=seed, replicates=replicates) or (None, None)
    can_share = mean(scores.is_can)
    values = {
        "questions": len(scores),
        "dropped": dropped,
        "judgment_accuracy": mean(scores.says_can == scores.is_can),
        "majority": None if can_share is None else max(can_share, 1 - can_share),
        "qa_accuracy": mean(outcome),
        "auroc": auroc(sure, scores.is_can),
        "auroc_low": low,
        "auroc_high": high,
        "auroc_all_correct": auroc(sure, scores.num_correct == scores.num_graded),
        "auroc_soft": soft_auroc(sure, outcome),
        "ece": ece(sure, outcome),
        "ece_band": ece_band(sure, scores.num_graded, seed=seed, replicates=replicates),
        "brier": brier(sure, outcome),
        "brier_skill": brier_skill(sure, outcome),
        "excess_brier": excess_brier(sure, scores.num_correct, scores.num_graded),
        "log_loss": log_loss(sure, outcome),
        "aurc": aurc(sure, outcome),
        "mass": mean(scores.mass),
    }
    undefined = {name: REASONS[name] if len(scores) else "no questions" for name, value in values.items() if value is None}
    return {**values, "undefined": undefined}
