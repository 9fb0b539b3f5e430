"""Discrimination: how well a confidence tells the questions where the event holds from the others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from know_thyself.evaluation.bootstrap import Gain, Interval, Statistic, Statistics, bootstrap_interval, paired_gain
from know_thyself.evaluation.metrics.ranking import Ranking, auroc_of, average_precision_of
from know_thyself.evaluation.metrics.scores import Column, Floats, Scores


def auroc_statistic(confidence: Floats, positive: Column) -> Statistic:
    """AUROC as a function of weights `[replicates, questions]`, sorted once for all; nan where one class is empty."""
    statistics = ranking_statistics(confidence, {"auroc": positive})
    return lambda weights: statistics(weights)["auroc"]


def ranking_statistics(confidence: Floats, positive: Mapping[str, Column], sought: Column | None = None) -> Statistics:
    """AUROC for telling each column of `positive` by `confidence`, under its name; sorted once for all columns and draws.

    `auprc_cannot` is there too where `sought` is given: the average precision of finding these among the least confident.
    """
    ranking = Ranking(confidence)
    shares = {name: ranking.place(column) for name, column in positive.items()}
    missing = None if sought is None else ranking.place(sought)

    def statistics(weights: Column) -> dict[str, Floats]:
        drawn = ranking.draw(weights)
        every = ranking.sums(drawn)
        found = {}
        for name, share in shares.items():
            right = ranking.sums(drawn * share)
            found[name] = auroc_of(right, every - right)
        if missing is not None:
            found["auprc_cannot"] = average_precision_of(ranking.sums(drawn * missing), every)
        return found

    return statistics


def auroc(confidence: Floats, positive: Column, weights: Column | None = None) -> float | None:
    """P(a positive is given more confidence than a negative), ties counting half (Hanley & McNeil 1982).

    `positive` may be a share in 0..1: the question then counts as positive with that weight and as negative with the rest.
    """
    if not len(confidence):
        return None
    row: Column = np.ones(len(confidence)) if weights is None else weights
    value = float(auroc_statistic(confidence, positive)(row[np.newaxis])[0])
    return None if np.isnan(value) else value


def discrimination_statistics(scores: Scores) -> Statistics:
    """Of the confidence: AUROC of the event, of all trials right, of single trials, and the AUPRC of *cannot*.

    `auroc_soft` is the AUROC of single trials: each question is positive with weight k/n and negative with weight 1 - k/n. A
    question tied with itself counts half, as any tie; its part vanishes as 1/questions. Where there are more than two classes,
    each class's own probability is held against the rest as well (`auroc_<class>`).
    """
    positive = {
        "auroc": scores.event,
        "auroc_all_correct": scores.num_correct == scores.num_graded,
        "auroc_soft": scores.accuracy,
    }
    parts = [ranking_statistics(scores.confidence, positive, sought=scores.ability == len(scores.classes) - 1)]
    if len(scores.classes) > 2:
        for index, name in enumerate(scores.classes):
            own = {f"auroc_{name}": scores.ability == index}
            parts.append(ranking_statistics(scores.probabilities[:, index], own))
    return lambda weights: {name: values for part in parts for name, values in part(weights).items()}


def auroc_interval(scores: Scores, *, seed: int = 0, replicates: int = 1000) -> Interval | None:
    """The 95 % interval of the AUROC of the event, groups resampled."""
    statistic = auroc_statistic(scores.confidence, scores.event)
    return bootstrap_interval(statistic, scores.group, seed=seed, replicates=replicates)


def auroc_gain(before: Scores, after: Scores, *, seed: int = 0, replicates: int = 1000) -> Gain | None:
    """AUROC `after` less AUROC `before`, paired: a group is drawn for both or for neither. None where either is undefined."""
    if not len(before) or not len(after):
        return None
    old, new = (auroc_statistic(scores.confidence, scores.event) for scores in (before, after))
    return paired_gain(old, new, (before.group, after.group), seed=seed, replicates=replicates)


def roc_curve(confidence: Floats, positive: Column) -> tuple[Floats, Floats] | None:
    """False and true positive rates as the threshold falls, from (0, 0) to (1, 1), one point per distinct confidence."""
    share = positive.astype(float)
    if not 0 < share.sum() < len(share):
        return None
    _, tie = np.unique(-confidence, return_inverse=True)
    rates = [np.cumsum(np.bincount(tie, weights=part)) / part.sum() for part in (1 - share, share)]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])
