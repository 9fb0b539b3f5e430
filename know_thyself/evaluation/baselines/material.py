"""What baselines are made from: columns about questions, and the splits that they learn, choose and are measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from know_thyself.evaluation.metrics.scores import Column, Floats


class Need(StrEnum):
    """What a baseline has to be given, beyond the labels of the training questions."""

    NOTHING = "nothing"
    TEXT = "question text"
    UNTRAINED = "untrained judgment"
    STATES = "hidden states"
    GREEDY = "greedy answer"
    PROBES = "questions about itself"
    TRIALS = "trials"


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Columns of one split, a row per question, nan (or "") where a question has no value.

    `event` is what is to be told; `texts` are the questions. `numbers` holds one-dimensional columns by name, each pointing so
    that more means more able, `states` hidden states `[layers, questions, hidden]`.
    """

    event: NDArray[np.bool_]
    texts: Column
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    states: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The questions that baselines learn from, those that choose among their settings, and those that they are measured on."""

    train: Material
    dev: Material
    validation: Material

    @property
    def learnable(self) -> bool:
        """Whether there are both kinds of questions to learn from, and to choose by."""
        return all(0 < part.event.sum() < len(part) for part in (self.train, self.dev))
