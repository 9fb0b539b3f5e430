"""From what a judge says to the accuracy to expect, fitted on the calibration questions alone.

A judge of three verdicts says P(can), P(uncertain) and P(cannot); a `ClassMap` turns them into p_correct, the expected k/n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import lsq_linear

from know_thyself.digests import SHORT, digest_json
from know_thyself.evaluation.metrics.scores import Floats
from know_thyself.types import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMap:
    """p_correct = sum over verdicts of P(verdict) times its weight: the accuracy of questions that deserve that verdict.

    `weights` are in 0..1, in the order of the verdict words, so p_correct is too. They were fitted on `n` questions of
    the split `fitted_on`; `id` is a digest of all this. Raises `ValueError` for weights out of range and for an `id` that is
    not theirs.
    """

    id: str
    weights: tuple[float, ...]
    fitted_on: str
    n: int

    def __post_init__(self) -> None:
        if not all(0 <= weight <= 1 for weight in self.weights):
            raise ValueError(f"weights {self.weights} are no shares: fit them again")
        if self.id != _identity(self.weights, self.fitted_on, self.n):
            raise ValueError(f"calibration {self.id} has other weights than it was fitted with: restore it, or fit it again")

    @classmethod
    def of(cls, weights: Sequence[float], fitted_on: str, n: int) -> Self:
        """The map of these weights, under its id."""
        return cls(id=_identity(weights, fitted_on, n), weights=tuple(weights), fitted_on=fitted_on, n=n)

    def forecast(self, probabilities: Floats) -> Floats:
        """p_correct `[questions]` of `probabilities` `[questions, verdicts]`, whose rows sum to 1."""
        # Rows sum to 1 but for rounding, which may lift the sum of products above 1.
        expected: Floats = np.clip(probabilities @ np.array(self.weights), 0.0, 1.0)
        return expected


def _identity(weights: Sequence[float], fitted_on: str, n: int) -> str:
    return digest_json({"map": "classes", "weights": list(weights), "fitted_on": fitted_on, "n": n})[:SHORT]


def fit_class_map(probabilities: Floats, outcome: Floats, fitted_on: Split = Split.CALIBRATION) -> ClassMap | None:
    """The weights in 0..1 for which p_correct is nearest to k/n in the mean square (bounded least squares).

    `probabilities` are `[questions, verdicts]`, `outcome` k/n. With free weights this is the linear regression of k/n on the
    probabilities without an intercept, which sum-to-one rows contain already. None without questions.
    """
    if not len(outcome):
        return None
    weights = lsq_linear(probabilities, outcome, bounds=(0.0, 1.0)).x
    return ClassMap.of(np.clip(weights, 0.0, 1.0).tolist(), str(fitted_on), len(outcome))
