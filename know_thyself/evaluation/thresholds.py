"""Where to draw the line: the confidence from which a question passes, and what may be promised of those that pass.

Two kinds of promise are tested on the calibration questions, each at its own level (95 % unless said otherwise): the *accuracy*
of what passes, P(event | confidence >= t), and its *coverage*, P(confidence >= t). A question counts once, as one Bernoulli
trial of the event; questions of one group that depend on each other are not covered. The third kind is no promise but a
balance of costs.

The thresholds tried form a grid that is fixed beforehand, tested in order until one fails (fixed-sequence testing; Angelopoulos
et al. 2021, Learn then Test), each with an exact binomial test: so the one chosen keeps its promise with the probability of the
level, however many were tried. For accuracies the order is from strict to lax, from each of `STARTS`, which share the level's
error: where such a share of the questions passes, and as many as could show the target at all. That the starts are found by
counting who passes costs nothing more where accuracy, below some confidence, stays below the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, betaincinv, expit

from know_thyself.evaluation.metrics.scores import Column, Floats

LEVEL = 0.95
GRID: Floats = expit(np.linspace(9.0, -9.0, 181))
"""The thresholds tried, from strict to lax: steps of 0.1 in log-odds, 0.025 of confidence at most."""
STARTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""A few unlucky questions at the top must not end the search: it begins where such shares of the questions pass."""
TARGETS = (0.8, 0.9, 0.95, 0.99)
"""Accuracies that a report looks for a threshold for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A threshold on the confidence for a `target`, and what the calibration questions showed of what passes.

    `accuracy` and `coverage` are as seen there, `accuracy_low` and `coverage_low` their exact lower bounds (Clopper & Pearson
    1934) at `level`, taken alone. Where the target is not `reachable`, `best` is the highest target that is, in steps of 0.01,
    and the numbers are those of its threshold; all are None where nothing can be promised.
    """

    target: float
    reachable: bool
    best: float | None
    threshold: float | None
    accuracy: float | None
    accuracy_low: float | None
    coverage: float | None
    coverage_low: float | None
    level: float


def for_accuracy(confidence: Floats, event: Column, target: float, level: float = LEVEL) -> Threshold:
    """The lowest threshold whose passing questions hold the event with probability `target` or more, at `level`.

    Raises `ValueError` for a target or level that is not inside 0..1.
    """
    _check(target, level)
    passing, right = _counts(confidence, event)
    found = _lowest(passing, right, target, level)
    best = target if found is not None else None
    if found is None:
        for lower in np.arange(np.ceil(target * 100) - 1, 0, -1) / 100:
            found = _lowest(passing, right, lower, level)
            if found is not None:
                best = float(lower)
                break
    return _told(target, best, found, passing, right, len(confidence), level)


def for_coverage(confidence: Floats, event: Column, target: float, level: float = LEVEL) -> Threshold:
    """The highest threshold that lets a share `target` or more of all questions pass, at `level`, and its accuracy.

    Raises `ValueError` for a target or level that is not inside 0..1.
    """
    _check(target, level)
    passing, right = _counts(confidence, event)
    kept = (_tail(passing[::-1], len(confidence), target) <= 1 - level).cumprod().sum()
    found = len(GRID) - int(kept) if kept else None
    return _told(target, target if kept else None, found, passing, right, len(confidence), level)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a wrong answer, an escalation (a bigger model, a human) and an abstention cost, in any one unit, 0 or more."""

    wrong: float
    escalation: float
    abstention: float

    @property
    def threshold(self) -> float:
        """The p_correct from which answering is cheapest: 1 - (the cheaper way not to answer)/(a wrong answer) (Chow 1970)."""
        instead = min(self.escalation, self.abstention)
        return max(0.0, 1 - instead / self.wrong) if self.wrong > 0 else 0.0

    def per_question(self, p_correct: Floats, outcome: Floats) -> Floats:
        """What each question costs when those of `threshold` or more are answered; `outcome` is the accuracy k/n measured."""
        cost: Floats = np.where(p_correct >= self.threshold, self.wrong * (1 - outcome), min(self.escalation, self.abstention))
        return cost


def _check(target: float, level: float) -> None:
    if not (0 < target < 1 and 0 < level < 1):
        raise ValueError(f"target {target} and level {level} are shares above 0 and below 1")


def _counts(confidence: Floats, event: Column) -> tuple[Column, Column]:
    """For each threshold of `GRID` how many questions pass, and of how many of these the event holds."""
    rising = np.sort(confidence)
    holding = np.sort(confidence[np.asarray(event, dtype=bool)])
    return len(rising) - np.searchsorted(rising, GRID), len(holding) - np.searchsorted(holding, GRID)


def _tail(right: Column, number: Column | int, share: float) -> Floats:
    """P(Bin(number, share) >= right): how easily chance alone shows as much."""
    tail: Floats = np.where(right > 0, 1 - bdtr(np.maximum(right - 1, 0), number, share), 1.0)
    return tail


def _lowest(passing: Column, right: Column, target: float, level: float) -> int | None:
    """Index into `GRID` of the last threshold of the sequence that holds; None when the first fails already."""
    error = (1 - level) / len(STARTS)
    least = np.ceil(np.log(error) / np.log(target) - 1e-9)
    holds = _tail(right, passing, target) <= error
    starts = {int(np.searchsorted(passing, max(least, np.ceil(share * passing[-1])))) for share in STARTS}
    found = [_last_of_run(holds, start) for start in starts]
    return max((index for index in found if index is not None), default=None)


def _last_of_run(holds: Column, start: int) -> int | None:
    """Index of the last of the thresholds from `start` on that hold without a gap; None when the first does not."""
    kept = int(holds[start:].cumprod().sum())
    return start + kept - 1 if kept else None


def _told(
    target: float, best: float | None, found: int | None, passing: Column, right: Column, number: int, level: float
) -> Threshold:
    if found is None:
        return Threshold(
            target=target,
            reachable=False,
            best=None,
            threshold=None,
            accuracy=None,
            accuracy_low=None,
            coverage=None,
            coverage_low=None,
            level=level,
        )
    passed, held = int(passing[found]), int(right[found])
    return Threshold(
        target=target,
        reachable=best == target,
        best=best,
        threshold=float(GRID[found]),
        accuracy=held / passed,
        accuracy_low=lower_bound(held, passed, level),
        coverage=passed / number,
        coverage_low=lower_bound(passed, number, level),
        level=level,
    )


def lower_bound(right: int, number: int, level: float = LEVEL) -> float:
    """The one-sided exact lower bound of a share of which `right` of `number` were seen (Clopper & Pearson 1934)."""
    return float(betaincinv(right, number - right + 1, 1 - level)) if right else 0.0
