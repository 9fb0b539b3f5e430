"""Questions in the order of a score, on many draws at once: what every metric of ranking is summed up from."""

from __future__ import annotations

import numpy as np

from know_thyself.evaluation.metrics.scores import Column, Floats


class Ranking:
    """Questions by rising `score`, those of equal score in one block: sorted once for all columns and all draws."""

    def __init__(self, score: Floats) -> None:
        self._order = np.argsort(score, kind="stable")
        self._starts = np.flatnonzero(np.diff(score[self._order], prepend=-np.inf))

    def place(self, column: Column) -> Floats:
        """`column` in the order of the score."""
        placed: Floats = column[self._order].astype(np.float64)
        return placed

    def draw(self, weights: Column) -> Floats:
        """Weights `[replicates, questions]` in the order of the score."""
        drawn: Floats = weights[:, self._order]
        return drawn

    def sums(self, placed: Floats) -> Floats:
        """Sums of `placed` `[replicates, questions]`, which is in order, over each block: `[replicates, blocks]`."""
        if len(self._starts) == len(self._order):
            return placed
        sums: Floats = np.add.reduceat(placed, self._starts, axis=1)
        return sums


def ratio(part: Floats, whole: Floats, otherwise: float = np.nan) -> Floats:
    """`part / whole`, and `otherwise` where `whole` is 0."""
    found: Floats = np.divide(part, whole, out=np.full(whole.shape, otherwise), where=whole > 0)
    return found


def dot(one: Floats, other: Floats) -> Floats:
    """The sum of products of each row, `[replicates]`."""
    products: Floats = np.einsum("ij,ij->i", one, other)
    return products


def auroc_of(right: Floats, wrong: Floats) -> Floats:
    """P(a right one ranks above a wrong one), ties counting half, from sums by block: `[replicates]`, nan without either."""
    below = np.cumsum(wrong, axis=1)
    wins = dot(right, below) - dot(right, wrong) / 2
    return ratio(wins, right.sum(axis=1) * below[:, -1])


def average_precision_of(found: Floats, every: Floats) -> Floats:
    """Mean precision at each of the `found` as the lowest scores are taken first, from sums by block; nan without any.

    sum over blocks of (recall gained) x (precision so far): the area under the steps of precision over recall (Davis &
    Goadrich 2006; scikit-learn's `average_precision_score`).
    """
    so_far = np.cumsum(found, axis=1)
    # Nothing is found before anything was drawn, and what is drawn are whole questions.
    precision = so_far / np.maximum(np.cumsum(every, axis=1), 1.0)
    return ratio(dot(found, precision), so_far[:, -1])
