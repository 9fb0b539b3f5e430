"""The reliability diagram and the thresholds of a judge, measured once, for whoever holds the judge and not its questions."""

from __future__ import annotations

from know_thyself.evaluation.calibration import Calibration
from know_thyself.evaluation.metrics.calibration import reliability_bins
from know_thyself.evaluation.metrics.scores import Column, Floats, Scores
from know_thyself.types import Split
from know_thyself.wire import OperatingPoint, Reliability, ReliabilityBin

STEPS = 100
"""Thresholds per unit of p_correct."""
DIGITS = 4


def reliability_of(validation: Scores, calibration: Calibration | None) -> Reliability | None:
    """How `calibration`, which made the forecasts, did on validation; None without one: a confidence is no p_correct."""
    if calibration is None or validation.forecast is None:
        return None
    return measure_reliability(validation.forecast, validation.accuracy)


def measure_reliability(forecast: Floats, outcome: Floats, measured_on: str = Split.VALIDATION) -> Reliability | None:
    """How `forecast`, the p_correct of each question, stands beside `outcome`, the accuracy measured; None of no questions."""
    if not len(forecast):
        return None
    held = reliability_bins(forecast, outcome)
    bins = [
        ReliabilityBin(p_correct=_rounded(claimed), accuracy=_rounded(measured), questions=int(size))
        for claimed, measured, size in zip(*held, strict=True)
    ]
    curve = [_point(step / STEPS, forecast, outcome) for step in range(STEPS + 1)]
    return Reliability(measured_on=str(measured_on), n=len(forecast), bins=tuple(bins), curve=tuple(curve))


def _point(threshold: float, forecast: Floats, outcome: Floats) -> OperatingPoint:
    passes: Column = forecast >= threshold
    accuracy = _rounded(outcome[passes].mean()) if passes.any() else None
    return OperatingPoint(threshold=threshold, coverage=_rounded(passes.mean()), accuracy=accuracy)


def _rounded(share: float) -> float:
    return round(float(share), DIGITS)
