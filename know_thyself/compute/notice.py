"""What Ray knows of the near future of the workers of Ray Train: nodes that are drained, and nodes that came."""

from __future__ import annotations

import time
from typing import Literal

import ray
import ray.train
from ray.train.collective import broadcast_from_rank_zero

RESIZE_EVERY = 20.0
"""Seconds between two looks of Ray for room for more workers; its count of the nodes is as old as that."""
DRAINED, GROWN = 0.5, 0.1
"""The share of the time for checkpoints when a node is about to go, and when the workers may soon be stopped to become more."""


class Outlook:
    """How much of the time should go into checkpoints because the workers may soon be stopped, as each of them asks."""

    def __init__(self, workers_max: int, kind: Literal["CPU", "GPU"]) -> None:
        context = ray.train.get_context()
        self._may_grow, self._is_first = context.get_world_size() < workers_max, context.get_world_rank() == 0
        self._kind = kind
        self._room = ray.cluster_resources().get(kind, 0.0)
        self._grew = float("-inf")

    def __call__(self) -> float:
        """See `know_thyself.learning.keeping.Notice`."""
        if ray.train.get_preemption_info() is not None:
            return DRAINED
        if not self._may_grow:
            return 0.0
        return GROWN if broadcast_from_rank_zero(self._is_first and self._is_growing()) else 0.0

    def _is_growing(self) -> bool:
        """Whether room came so lately that Ray may not have looked since."""
        room = ray.cluster_resources().get(self._kind, 0.0)
        if room > self._room:
            self._grew = time.monotonic()
        self._room = room
        return time.monotonic() - self._grew < 3 * RESIZE_EVERY
