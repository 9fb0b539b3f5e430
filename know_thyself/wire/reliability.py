"""Whether p_correct comes true: what a judge's run saw, in a form small enough to travel with the judge."""

from __future__ import annotations

from pydantic import Field

from know_thyself.wire.base import Closed, Probability


class ReliabilityBin(Closed):
    """Questions of about the same p_correct: its mean, the accuracy measured, and how many they are."""

    p_correct: Probability
    accuracy: Probability
    questions: int = Field(gt=0)


class OperatingPoint(Closed):
    """What comes of a threshold: the share of questions that reach it, and how often their answers are right; null of none."""

    threshold: Probability
    coverage: Probability
    accuracy: Probability | None


class Reliability(Closed):
    """How p_correct did on the questions of a split it was not fitted on: by bins of it and by thresholds, both rising."""

    measured_on: str
    n: int = Field(gt=0)
    bins: tuple[ReliabilityBin, ...]
    curve: tuple[OperatingPoint, ...]
