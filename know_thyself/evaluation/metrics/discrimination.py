"""Discrimination: how well a confidence tells the questions where the event holds from the others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from know_thyself.evaluation.bootstrap import Interval, Statistic, bootstrap_interval
from know_thyself.evaluation.metrics.scores import Column, Floats, Scores


class Gain(NamedTuple):
    """A difference of two AUROCs and its 95 % interval."""

    difference: float
    low: float
    high: float


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


def auroc_by_class(scores: Scores) -> list[float | None]:
    """For each class, the AUROC of its own probability for telling its questions from all others (one against the rest)."""
    return [auroc(scores.probabilities[:, index], scores.ability == index) for index in range(len(scores.classes))]


def auroc_interval(scores: Scores, *, seed: int = 0, replicates: int = 1000) -> Interval | None:
    """The 95 % interval of the AUROC of the event, groups resampled."""
    statistic = auroc_statistic(scores.confidence, scores.event)
    return bootstrap_interval(statistic, scores.group, seed=seed, replicates=replicates)


def auroc_gain(before: Scores, after: Scores, *, seed: int = 0, replicates: int = 1000) -> Gain | None:
    """AUROC `after` less AUROC `before`, paired: a group is drawn for both or for neither. None where either is undefined."""
    old, new = auroc(before.confidence, before.event), auroc(after.confidence, after.event)
    if old is None or new is None:
        return None
    of_old, of_new = (auroc_statistic(scores.confidence, scores.event) for scores in (before, after))
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
