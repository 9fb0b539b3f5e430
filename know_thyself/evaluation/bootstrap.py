"""Intervals by resampling groups: the questions of one group are drawn together, for they are not independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[Any]], NDArray[np.float64]]
"""From weights `[replicates, questions]` (how often each question was drawn) to values `[replicates]`, nan where undefined."""

CELLS_AT_ONCE = 2_000_000
"""Replicates x questions held in memory at once; results do not depend on it."""

MAX_UNDEFINED = 0.05
"""With a larger share of replicates undefined, what is left no longer stands for the data: there is no interval."""


class Interval(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


def blocks(replicates: int, num_rows: int) -> Iterator[int]:
    """Sizes that sum to `replicates`, each small enough for a `[size, num_rows]` array."""
    size = max(1, CELLS_AT_ONCE // max(1, num_rows))
    for start in range(0, replicates, size):
        yield min(size, replicates - start)


def bootstrap_interval(
    statistic: Statistic, group: NDArray[Any], *, seed: int = 0, replicates: int = 1000, level: float = 0.95
) -> Interval | None:
    """The percentile interval of `statistic` under resampling of whole groups (Davison & Hinkley 1997, section 3.8).

    Each replicate draws as many groups as there are, with replacement. Two statistics of the same questions are compared
    by giving the interval of their difference: both then see the same draws.
    None with fewer than two groups, or when more than `MAX_UNDEFINED` of the replicates are undefined.
    Does not cover the ends of a metric's range: a sample that is separated perfectly gets an interval of no width.
    """
    names, member = np.unique(group, return_inverse=True)
    if len(names) < 2:
        return None
    rng = np.random.default_rng(seed)
    equal = np.full(len(names), 1 / len(names))
    values = np.concatenate(
        [statistic(rng.multinomial(len(names), equal, size=size)[:, member]) for size in blocks(replicates, len(group))]
    )
    if np.isnan(values).mean() > MAX_UNDEFINED:
        return None
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def mean_interval(
    values: NDArray[np.float64], group: NDArray[Any], *, seed: int = 0, replicates: int = 1000
) -> Interval | None:
    """The 95 % interval of the mean of `values`, groups resampled; None with fewer than two groups."""

    def mean(weights: NDArray[Any]) -> NDArray[np.float64]:
        averages: NDArray[np.float64] = weights @ values / weights.sum(axis=1)
        return averages

    return bootstrap_interval(mean, group, seed=seed, replicates=replicates)
