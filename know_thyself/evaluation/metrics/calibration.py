"""Calibration: how far a forecast of the accuracy k/n is from the accuracy measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from know_thyself.evaluation.bootstrap import Gain, Statistics, mean_statistic, paired_gain
from know_thyself.evaluation.ceiling import outcome_shares
from know_thyself.evaluation.metrics.ranking import ratio
from know_thyself.evaluation.metrics.scores import Column, Floats, Scores, mean

BINS = 10
CELLS = 500
"""Of so many questions the band simulates each one; of more, so many cells of neighbours."""
CLIP = 1e-12


class ReliabilityBins(NamedTuple):
    """Mean forecast, mean outcome and number of questions of each bin that holds any, by rising forecast."""

    forecast: Floats
    outcome: Floats
    size: NDArray[np.int64]


def _equal_mass_bin(forecast: Floats, bins: int) -> NDArray[np.int64]:
    """The bin of each question: its rank (ties: their middle rank) in `bins` equal parts."""
    _, tie, size = np.unique(forecast, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - size / 2
    return np.asarray(middle[tie] * bins / max(1, len(forecast)), dtype=np.int64)


def reliability_bins(forecast: Floats, outcome: Floats, bins: int = BINS) -> ReliabilityBins:
    """Bins of equal mass by forecast (Nguyen & O'Connor 2015); ties share a bin, so that masses may differ."""
    place = _equal_mass_bin(forecast, bins)
    size = np.bincount(place)
    held = size > 0
    claimed, measured = (np.bincount(place, weights=column)[held] / size[held] for column in (forecast, outcome))
    return ReliabilityBins(claimed, measured, size[held])


def ece(forecast: Floats, outcome: Floats, bins: int = BINS) -> float | None:
    """Expected calibration error: sum over bins of (size/questions) |mean forecast - mean outcome| (Naeini et al. 2015)."""
    if not len(forecast):
        return None
    held = reliability_bins(forecast, outcome, bins)
    return float(np.average(np.abs(held.forecast - held.outcome), weights=held.size))


def ece_band(
    forecast: Floats,
    num_graded: Column,
    *,
    concentration: float = np.inf,
    level: float = 0.95,
    bins: int = BINS,
    seed: int = 0,
    replicates: int = 1000,
) -> float | None:
    """The quantile `level` of the ECE of a judge that is right on average (consistency resampling, Bröcker & Smith 2007).

    Questions of forecast f are given accuracies Beta(f c, (1 - f) c) of this `concentration` c, so that k is beta-binomial:
    the trials of a question agree with each other (`ceiling.fit_concentration`). Infinite: every question has the very
    accuracy forecast, and k_i ~ Bin(n_i, f_i). Beyond `CELLS` questions, neighbours share their mean forecast.
    """
    if not len(forecast):
        return None
    place = _equal_mass_bin(forecast, bins)
    fine = _equal_mass_bin(forecast, max(CELLS, bins)) if len(forecast) > CELLS else np.arange(len(forecast))
    found, cell = np.unique(np.stack([place, fine, num_graded]), axis=1, return_inverse=True)
    size = np.bincount(cell)
    sure = np.bincount(cell, weights=forecast) / size
    rng = np.random.default_rng(seed)
    errors = np.zeros((replicates, bins))
    for trials in np.unique(num_graded):
        held = found[2] == trials
        spread = outcome_shares(sure[held], int(trials), concentration)
        counts = rng.multinomial(size[held], spread, size=(replicates, int(held.sum())))
        surplus = counts @ (np.arange(trials + 1) / trials) - size[held] * sure[held]
        errors += surplus @ np.eye(bins)[found[0][held]]
    return float(np.quantile(np.abs(errors).sum(axis=1) / len(forecast), level))


def brier(forecast: Floats, outcome: Floats) -> float | None:
    """mean[(forecast - k/n)^2] (Brier 1950)."""
    return mean((forecast - outcome) ** 2)


def brier_gain(before: Scores, after: Scores, *, seed: int = 0, replicates: int = 1000) -> Gain | None:
    """How much lower the Brier score is `after`, paired: a group is drawn for both or for neither; None without forecasts.

    Unlike AUROC it is defined where all questions are of one class, and it holds the level of a forecast against it.
    """
    if before.forecast is None or after.forecast is None or not len(before) or not len(after):
        return None
    old, new = (before.forecast - before.accuracy) ** 2, (after.forecast - after.accuracy) ** 2
    return paired_gain(
        mean_statistic(-old), mean_statistic(-new), (before.group, after.group), seed=seed, replicates=replicates
    )


def brier_skill(forecast: Floats, outcome: Floats) -> float | None:
    """1 - Brier / Brier of always saying mean k/n (Murphy 1973): 1 is perfect, 0 no better than the base rate, < 0 worse."""
    if not len(outcome) or np.ptp(outcome) == 0:
        return None
    return float(1 - np.mean((forecast - outcome) ** 2) / np.var(outcome))


def excess_brier(forecast: Floats, num_correct: Column, num_graded: Column) -> float | None:
    """mean[(forecast - k/n)^2] - mean[k(n-k)/(n^2(n-1))]: an unbiased estimate of mean[(forecast - p)^2].

    The second term estimates p(1-p)/n, what chance in n trials adds, without bias. None where a question has one trial.
    """
    excess = mean(_excess(forecast, num_correct, num_graded))
    return None if excess is None or np.isnan(excess) else excess


def _excess(forecast: Floats, num_correct: Column, num_graded: Column) -> Floats:
    chance = ratio(num_correct * (num_graded - num_correct), num_graded**2 * (num_graded - 1.0))
    excess: Floats = (forecast - num_correct / num_graded) ** 2 - chance
    return excess


def log_loss(forecast: Floats, outcome: Floats) -> float | None:
    """Cross-entropy of forecast against k/n in nats, forecast clipped to `CLIP` from 0 and 1."""
    return mean(_log_losses(forecast, outcome))


def _log_losses(forecast: Floats, outcome: Floats) -> Floats:
    sure = np.clip(forecast, CLIP, 1 - CLIP)
    losses: Floats = -(outcome * np.log(sure) + (1 - outcome) * np.log1p(-sure))
    return losses


def calibration_statistics(forecast: Floats, num_correct: Column, num_graded: Column) -> Statistics:
    """`ece`, `brier`, `brier_skill`, `excess_brier` and `log_loss` on draws of questions; the bins stay those of them all."""
    outcome = num_correct / num_graded
    surplus = np.eye(BINS)[_equal_mass_bin(forecast, BINS)] * (forecast - outcome)[:, np.newaxis]
    squares, losses = (forecast - outcome) ** 2, _log_losses(forecast, outcome)
    means = [squares, _excess(forecast, num_correct, num_graded), losses, outcome, outcome**2]
    columns = np.column_stack([*means, surplus])

    def statistics(weights: Column) -> dict[str, Floats]:
        sums = weights @ columns / weights.sum(axis=1, keepdims=True)
        squared, excess, lost, first, second = sums[:, : len(means)].T
        variance = second - first**2
        return {
            "ece": np.abs(sums[:, len(means) :]).sum(axis=1),
            "brier": squared,
            "brier_skill": 1 - ratio(squared, np.where(variance > 1e-12, variance, 0.0)),
            "excess_brier": excess,
            "log_loss": lost,
        }

    return statistics
