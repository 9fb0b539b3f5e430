"""Calibration: how far a forecast of the accuracy k/n is from the accuracy measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from know_thyself.evaluation.bootstrap import blocks
from know_thyself.evaluation.metrics.scores import Column, Floats, mean

BINS = 10
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


def ece_band(forecast: Floats, num_graded: Column, *, bins: int = BINS, seed: int = 0, replicates: int = 1000) -> float | None:
    """95th percentile of the ECE when k_i ~ Bin(n_i, forecast_i) (consistency resampling, Bröcker & Smith 2007).

    Covers a judge whose forecast is each question's own accuracy. Does not cover one that is right on average over unlike
    questions: their trials agree with each other, so its ECE may pass the band though it is calibrated.
    """
    if not len(forecast):
        return None
    order = np.argsort(forecast, kind="stable")
    sure, trials = forecast[order], num_graded[order]
    starts = np.flatnonzero(np.diff(_equal_mass_bin(sure, bins), prepend=-1))
    rng = np.random.default_rng(seed)
    errors = [
        np.abs(np.add.reduceat(rng.binomial(trials, sure, size=(size, len(sure))) / trials - sure, starts, axis=1)).sum(axis=1)
        for size in blocks(replicates, len(sure))
    ]
    return float(np.quantile(np.concatenate(errors) / len(sure), 0.95))


def brier(forecast: Floats, outcome: Floats) -> float | None:
    """mean[(forecast - k/n)^2] (Brier 1950)."""
    return mean((forecast - outcome) ** 2)


def brier_skill(forecast: Floats, outcome: Floats) -> float | None:
    """1 - Brier / Brier of always saying mean k/n (Murphy 1973): 1 is perfect, 0 no better than the base rate, < 0 worse."""
    if not len(outcome) or np.ptp(outcome) == 0:
        return None
    return float(1 - np.mean((forecast - outcome) ** 2) / np.var(outcome))


def excess_brier(forecast: Floats, num_correct: Column, num_graded: Column) -> float | None:
    """mean[(forecast - k/n)^2] - mean[k(n-k)/(n^2(n-1))]: an unbiased estimate of mean[(forecast - p)^2].

    The second term estimates p(1-p)/n, what chance in n trials adds, without bias. None where a question has one trial.
    """
    if not len(forecast) or np.any(num_graded < 2):
        return None
    chance = num_correct * (num_graded - num_correct) / (num_graded**2 * (num_graded - 1))
    return float(np.mean((forecast - num_correct / num_graded) ** 2 - chance))


def log_loss(forecast: Floats, outcome: Floats) -> float | None:
    """Cross-entropy of forecast against k/n in nats, forecast clipped to `CLIP` from 0 and 1."""
    sure = np.clip(forecast, CLIP, 1 - CLIP)
    return mean(-(outcome * np.log(sure) + (1 - outcome) * np.log1p(-sure)))
