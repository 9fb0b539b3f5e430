"""What was claimed and what was measured: the columns that every metric is computed from, alike in both label modes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from know_thyself.errors import DataError

Column = NDArray[Any]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def names_of(texts: Iterable[str]) -> Column:
    """`texts` as a column in which each takes its own length: of `np.str_`, each takes four bytes a letter of the longest."""
    return np.array(list(texts), dtype=np.dtypes.StringDType())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """What was claimed and what was measured, one row per question.

    `classes` are the label mode's, the most able first; `ability` and `verdict` are indices into them: the class measured and
    the class claimed. `num_correct` of `num_graded` trials were right. `group` are the texts of `names_of`.

    `probabilities` `[questions, classes]` are those of the verdict words; `owed`, of the same shape, is what they should have
    been (`labeling.owed_shares`). `forecast` is the accuracy k/n that the judge expects, None where no calibration questions
    were there to tell; `mass` is the probability on the verdict words at all, None of scores that come without it.

    Raises `DataError` for columns of unequal length and for values out of range.
    """

    classes: tuple[str, ...]
    group: Column
    num_correct: Indices
    num_graded: Indices
    ability: Indices
    verdict: Indices
    probabilities: Floats
    owed: Floats
    forecast: Floats | None
    mass: Floats | None

    def __post_init__(self) -> None:
        columns = self._columns()
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns of unequal length {lengths}: give one row per question")
        for row in np.flatnonzero(~self._possible())[:1]:
            found = {name: column[row : row + 1].tolist()[0] for name, column in columns.items()}
            raise DataError(f"row {row} is out of range: {found}; drop questions that could not be graded or judged")

    def __len__(self) -> int:
        return len(self.group)

    def _columns(self) -> dict[str, Column]:
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in named.items() if isinstance(column, np.ndarray)}

    def _possible(self) -> NDArray[np.bool_]:
        """Whether each row can be."""
        possible = (self.num_graded >= 1) & (self.num_correct >= 0) & (self.num_correct <= self.num_graded)
        if self.mass is not None:
            possible &= np.isfinite(self.mass)
        for index in (self.ability, self.verdict):
            possible &= (index >= 0) & (index < len(self.classes))
        for shares in (self.probabilities, self.owed):
            possible &= ((shares >= 0) & (shares <= 1)).all(axis=1) & np.isclose(shares.sum(axis=1), 1)
        if self.forecast is not None:
            possible &= (self.forecast >= 0) & (self.forecast <= 1)
        return possible

    @property
    def accuracy(self) -> Floats:
        """Share of right trials of each question, 0..1."""
        return self.num_correct / self.num_graded

    @property
    def event(self) -> NDArray[np.bool_]:
        """Whether the event holds that the judge's confidence is about: the ability is the first class, can."""
        can: NDArray[np.bool_] = self.ability == 0
        return can

    @property
    def confidence(self) -> Floats:
        """P(event) as read: the probability of the word for can."""
        return self.probabilities[:, 0]


def mean(column: Column) -> float | None:
    """The mean; None of nothing."""
    return float(column.mean()) if len(column) else None
