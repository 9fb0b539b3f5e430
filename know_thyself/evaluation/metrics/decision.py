"""Decision: what is gained by answering only the questions with the highest forecast."""

from __future__ import annotations

import numpy as np

from know_thyself.evaluation.metrics.scores import Floats, mean


def risk_coverage(forecast: Floats, outcome: Floats) -> tuple[Floats, Floats]:
    """Coverage i/questions and the share of wrong trials of the i questions with the highest forecast (El-Yaniv & Wiener 2010).

    Questions of equal forecast are taken in random order: the curve is the expected one. Both arrays have one entry per
    question. The oracle's curve is `risk_coverage(outcome, outcome)`; random choice stays at 1 - mean(outcome).
    """
    _, tie, size = np.unique(-forecast, return_inverse=True, return_counts=True)
    expected = np.bincount(tie, weights=1 - outcome) / size
    answered = np.arange(1, len(forecast) + 1)
    return answered / max(1, len(answered)), np.cumsum(np.repeat(expected, size)) / answered


def aurc(forecast: Floats, outcome: Floats) -> float | None:
    """Area under the risk-coverage curve: the mean risk over all coverages (Geifman et al. 2019); lower is better."""
    return mean(risk_coverage(forecast, outcome)[1])
