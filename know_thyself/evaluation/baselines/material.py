"""What baselines are made from: columns about questions, and the splits that they learn, choose and are measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from know_thyself.evaluation.metrics.scores import Column, Floats

MOST_TEXTS = 20_000
"""Training texts that features are counted in and neighbours are sought among."""


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
    states: NDArray[np.float16] | None = None

    def __len__(self) -> int:
        return len(self.event)


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """The questions that baselines learn from, those that choose among their settings, and those that they are measured on."""

    train: Material
    dev: Material
    validation: Material

    @property
    def learnable(self) -> bool:
        """Whether there are both kinds of questions to learn from, and to choose by."""
        return all(0 < part.event.sum() < len(part) for part in (self.train, self.dev))

    @cached_property
    def text_features(self) -> tuple[Any, Any, Any]:
        """TF-IDF weights of the texts of train (the first `MOST_TEXTS`), dev and validation, as sparse rows.

        Of words, word pairs, and of the ends and middles of words, 2 to 4 letters long: a name's ending is seen too.
        """
        # Imported here as it takes a second.
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_union

        shared = {"min_df": 2, "max_features": 50_000, "sublinear_tf": True}
        words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **shared)
        features = make_union(words, TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), **shared))
        train = features.fit_transform(self.train.texts[:MOST_TEXTS])
        return train, features.transform(self.dev.texts), features.transform(self.validation.texts)
