"""Where to draw the line for what an operator wishes: an accuracy or a coverage that holds, or the least cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from know_thyself.errors import ConfigError
from know_thyself.evaluation.bootstrap import mean_interval
from know_thyself.evaluation.calibration import ConfidenceMap
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.evaluation.thresholds import Costs, Threshold, for_accuracy, for_coverage
from know_thyself.experiment import Experiment
from know_thyself.pipelines.reading import ChosenJudge, read_chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wished for; None: nothing of the kind. Costs are in any one unit."""

    accuracy: float | None
    coverage: float | None
    wrong: float | None
    escalation: float

    def __post_init__(self) -> None:
        for name in ("accuracy", "coverage"):
            share = getattr(self, name)
            if share is not None and not 0 < share < 1:
                raise ConfigError(f"--{name} {share} is no share: give one above 0 and below 1, such as 0.9")
        if (self.wrong is not None and self.wrong <= 0) or self.escalation < 0:
            raise ConfigError(f"--wrong {self.wrong} --escalation {self.escalation}: costs are above 0")


def answer_wishes(experiment: Experiment, wish: Wish) -> Iterator[str]:
    """A sentence for each wish. Raises `StoreError` where the experiment is not finished."""
    judge = read_chosen(experiment)
    learned = judge.scores(judge.learned)
    if wish.accuracy is not None:
        found = for_accuracy(learned.confidence, learned.event, wish.accuracy)
        yield _promise(f"{wish.accuracy:.0%} right", found, judge)
    if wish.coverage is not None:
        found = for_coverage(learned.confidence, learned.event, wish.coverage)
        yield _promise(f"{wish.coverage:.0%} answered", found, judge)
    if wish.wrong is not None:
        costs = Costs(wrong=wish.wrong, escalation=wish.escalation, abstention=wish.escalation)
        yield _cheapest(costs, judge.scores(judge.measured))


def _promise(wished: str, found: Threshold, judge: ChosenJudge) -> str:
    if found.threshold is None or found.accuracy is None or found.coverage is None:
        return f"{wished}: not reachable at {found.level:.0%} confidence, nor is anything near it"
    seen = f"{found.accuracy:.1%} right and {found.coverage:.1%} answered on the calibration questions"
    if isinstance(judge.calibration, ConfidenceMap):
        line = f"p_correct >= {judge.calibration.expected(np.array([found.threshold]))[0]:.3f}"
    else:
        line = f"confidence >= {found.threshold:.3f}"
    if not found.reachable:
        return f"{wished}: not reachable at {found.level:.0%} confidence: best is {found.best:.0%}, with {line} ({seen})"
    return f"{wished}, at {found.level:.0%} confidence: {line} ({seen})"


def _cheapest(costs: Costs, measured: Scores) -> str:
    if measured.forecast is None or not len(measured):
        return "least cost: undefined, as the judge is not calibrated"
    spent = costs.per_question(measured.forecast, measured.accuracy)
    low, high = mean_interval(spent, measured.group) or (np.nan, np.nan)
    everything = costs.wrong * float(1 - measured.accuracy.mean())
    here = f"{spent.mean():.3f} per question ({low:.3f} to {high:.3f})"
    return (
        f"least cost: p_correct >= {costs.threshold:.3f}; on validation {here}, "
        f"answering everything {everything:.3f}, nothing {costs.escalation:.3f}"
    )
