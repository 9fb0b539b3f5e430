"""Which examples each step sees, and how fast it learns: pure functions of settings, seed and place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from know_thyself.config import TrainConfig

FILL = -1
"""In a batch: no example, but the place of one."""


def order(lengths: Sequence[int], config: TrainConfig, seed: int, epoch: int) -> Iterator[NDArray[np.int64]]:
    """The examples of each step: `batch_size` indices into `lengths` (tokens per example), filled up with `FILL`.

    Each pass is shuffled, cut into pools of `length_pool` batches, each pool sorted by length and cut into batches, and the
    batches taken in random order: those of one batch are about as long, and no length comes before another.
    """
    measured = np.asarray(lengths)
    for number in range(config.passes):
        random = np.random.default_rng([seed, epoch, number])
        batches = list(_batches(random.permutation(len(measured)), measured, config))
        yield from (batches[i] for i in random.permutation(len(batches)))


def _batches(shuffled: NDArray[np.int64], lengths: NDArray[np.int64], config: TrainConfig) -> Iterator[NDArray[np.int64]]:
    size = config.batch_size
    for first in range(0, len(shuffled), size * config.length_pool):
        pool = shuffled[first : first + size * config.length_pool]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        for start in range(0, len(pool), size):
            batch = pool[start : start + size]
            yield np.pad(batch, (0, size - len(batch)), constant_values=FILL)


def share_of(indices: NDArray[np.int64], rank: int, workers: int, places: int) -> NDArray[np.int64]:
    """The part of a global batch that worker `rank` of `workers` computes: every `workers`th example, long ones and short.

    Each of them has so many `places`; those that no example is left for are filled up with `FILL`.
    """
    filled = np.pad(indices, (0, places * workers - len(indices)), constant_values=FILL)
    return filled.reshape(places, workers)[:, rank]


def rate(progress: float, config: TrainConfig) -> float:
    """Learning rate at `progress`, the share of all epochs that lies behind: linear warm-up, then the decay chosen."""
    if progress < config.warmup:
        return config.learning_rate * progress / config.warmup
    behind = (progress - config.warmup) / (1.0 - config.warmup)
    return config.learning_rate * (config.final_rate + (1.0 - config.final_rate) * REMAINING[config.decay](behind))


REMAINING: dict[str, Callable[[float], float]] = {
    "linear": lambda behind: 1.0 - behind,
    "cosine": lambda behind: 0.5 * (1.0 + math.cos(math.pi * behind)),
    "constant": lambda behind: 1.0,
}
"""For each decay, what is left of the way from peak to final rate when a share of the time after the warm-up is behind."""
