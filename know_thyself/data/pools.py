"""Cut the questions of a study into its pools, whole groups at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from know_thyself.data.splits import Questions
from know_thyself.errors import DataError
from know_thyself.types import Pool, Question, Split

HELD_OUT = "taught"
"""The split of taught questions that no judge trains on; none of a judge's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """The questions of a study, each in the split that its judges see it in, and by pool those that are reported on."""

    questions: Questions
    of: Mapping[Pool, tuple[Question, ...]]

    @property
    def taught(self) -> tuple[Question, ...]:
        """The questions whose answers are taught, as far as the model does not know them."""
        return (*self.of[Pool.JUDGED_TAUGHT], *self.of[Pool.TAUGHT_HELD_OUT])


def cut_pools(questions: Questions, share: float, seed: int) -> Pools:
    """Choose `share` of the training groups to be taught; every other of them, in random order, leaves the judges' training.

    Raises `DataError` when there are too few groups for two taught halves and a judge to be trained on what is left.
    """
    groups = list(dict.fromkeys(question.group for question in questions.of(Split.TRAIN)))
    drawn = [groups[i] for i in np.random.default_rng([seed, 2]).permutation(len(groups))[: round(share * len(groups))]]
    if len(drawn) < 2 or len(drawn) == len(groups):
        raise DataError(
            f"study.taught={share} of {len(groups)} groups of training questions are {len(drawn)}: two are needed to be taught "
            "and one more for the judges; give more questions, or another share"
        )
    judged, held_out = set(drawn[::2]), set(drawn[1::2])
    cut = tuple(
        replace(question, split=HELD_OUT) if question.split == Split.TRAIN and question.group in held_out else question
        for question in questions.questions
    )
    whole = replace(questions, questions=cut)
    train = whole.of(Split.TRAIN)
    return Pools(
        questions=whole,
        of={
            Pool.JUDGED_TAUGHT: tuple(question for question in train if question.group in judged),
            Pool.TAUGHT_HELD_OUT: tuple(question for question in cut if question.split == HELD_OUT),
            Pool.JUDGED_NOT_TAUGHT: tuple(whole.of(Split.DEV)),
            Pool.NEVER_SEEN: tuple(whole.of(Split.VALIDATION)),
        },
    )
