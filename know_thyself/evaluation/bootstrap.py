"""Intervals by resampling groups: the questions of one group are drawn together, for they are not independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.float64]
"""Weights `[replicates, questions]`: how often each question was drawn, whole numbers."""
Values = NDArray[np.float64]

Statistic = Callable[[Draws], Values]
"""From weights to values `[replicates]`, nan where undefined."""
Statistics = Callable[[Draws], Mapping[str, Values]]
"""Several statistics of the same draws, by name: what they have in common is computed once."""

CELLS_AT_ONCE = 300_000
"""Replicates x questions worked on at once, so few that they stay in a cache; results do not depend on it."""

MAX_UNDEFINED = 0.05
"""With a larger share of replicates undefined, what is left no longer stands for the data: there is no interval."""


class Interval(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


class Gain(NamedTuple):
    """A difference of one statistic, after less before, and its 95 % interval."""

    difference: float
    low: float
    high: float


def blocks(replicates: int, num_rows: int) -> Iterator[int]:
    """Sizes that sum to `replicates`, each small enough for a `[size, num_rows]` array."""
    size = max(1, CELLS_AT_ONCE // max(1, num_rows))
    for start in range(0, replicates, size):
        yield min(size, replicates - start)


def draws(group: NDArray[Any], *, seed: int, replicates: int) -> Iterator[Draws]:
    """Weights of all replicates, block by block: each draws as many groups as there are, with replacement."""
    names, member = np.unique(group, return_inverse=True)
    rng = np.random.default_rng(seed)
    for size in blocks(replicates, len(group)):
        drawn = rng.integers(len(names), size=(size, len(names)))
        drawn += np.arange(size)[:, np.newaxis] * len(names)
        times = np.bincount(drawn.ravel(), minlength=size * len(names)).reshape(size, len(names))
        yield times.astype(np.float64)[:, member]


def bootstrap_values(
    statistics: Statistics, group: NDArray[Any], *, seed: int = 0, replicates: int = 1000
) -> dict[str, Values] | None:
    """Each of `statistics` on every replicate; None with fewer than two groups, for then nothing can be resampled."""
    if len(group) == 0 or np.all(group == group[0]):
        return None
    parts = [statistics(weights) for weights in draws(group, seed=seed, replicates=replicates)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def percentile_interval(values: Values, level: float = 0.95) -> Interval | None:
    """The middle `level` of `values` (Davison & Hinkley 1997, section 5.3); None when too many of them are undefined."""
    if np.isnan(values).mean() > MAX_UNDEFINED:
        return None
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def bootstrap_intervals(
    statistics: Statistics, group: NDArray[Any], *, seed: int = 0, replicates: int = 1000
) -> dict[str, Interval | None]:
    """The 95 % percentile interval of each of `statistics` under resampling of whole groups, all on the same draws.

    Empty with fewer than two groups. Does not cover the ends of a metric's range: a sample that is separated perfectly gets
    an interval of no width.
    """
    values = bootstrap_values(statistics, group, seed=seed, replicates=replicates)
    return {name: percentile_interval(column) for name, column in (values or {}).items()}


def bootstrap_interval(
    statistic: Statistic, group: NDArray[Any], *, seed: int = 0, replicates: int = 1000, level: float = 0.95
) -> Interval | None:
    """The percentile interval of one `statistic`: see `bootstrap_intervals`.

    Two statistics of the same questions are compared by giving the interval of their difference: both then see the same draws.
    None with fewer than two groups, or when more than `MAX_UNDEFINED` of the replicates are undefined.
    """
    values = bootstrap_values(lambda weights: {"": statistic(weights)}, group, seed=seed, replicates=replicates)
    return None if values is None else percentile_interval(values[""], level)


def paired_gain(
    before: Statistic, after: Statistic, groups: tuple[NDArray[Any], NDArray[Any]], *, seed: int = 0, replicates: int = 1000
) -> Gain | None:
    """`after` less `before`, on questions of these `groups` each, paired: a group is drawn for both or for neither.

    None where either is undefined, or there is no interval.
    """
    old, new = (statistic(np.ones((1, len(group))))[0] for statistic, group in zip((before, after), groups, strict=True))
    cut = len(groups[0])
    interval = bootstrap_interval(
        lambda weights: after(weights[:, cut:]) - before(weights[:, :cut]),
        np.concatenate(groups),
        seed=seed,
        replicates=replicates,
    )
    return None if interval is None or np.isnan(new - old) else Gain(float(new - old), *interval)


def mean_statistic(values: NDArray[np.float64]) -> Statistic:
    """The mean of `values` over the questions drawn."""

    def mean(weights: Draws) -> Values:
        averages: Values = weights @ values / weights.sum(axis=1)
        return averages

    return mean


def mean_interval(
    values: NDArray[np.float64], group: NDArray[Any], *, seed: int = 0, replicates: int = 1000
) -> Interval | None:
    """The 95 % interval of the mean of `values`, groups resampled; None with fewer than two groups."""
    return bootstrap_interval(mean_statistic(values), group, seed=seed, replicates=replicates)


def at_once(statistics: Statistics, num_rows: int) -> dict[str, float | None]:
    """Each of `statistics` on the questions as they are, every one once; None where undefined, or without questions."""
    found = statistics(np.ones((1, num_rows))) if num_rows else {}
    return {name: None if np.isnan(column[0]) else float(column[0]) for name, column in found.items()}
