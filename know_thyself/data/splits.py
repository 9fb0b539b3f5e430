"""Cut questions into train, dev, calibration and validation so that no two splits share a question or a group."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from know_thyself.config import DataConfig
from know_thyself.data.identity import content_key, near_duplicate_key
from know_thyself.errors import DataError
from know_thyself.types import Question, Split


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The questions of an experiment, each with its split, and how many rows did not make it, by reason."""

    questions: tuple[Question, ...]
    dropped: dict[str, int]

    def of(self, split: Split) -> list[Question]:
        """The questions of `split`."""
        return [question for question in self.questions if question.split == split]


def split_questions(train: Sequence[Question], validation: Sequence[Question], config: DataConfig, seed: int) -> Questions:
    """Merge duplicates, drop or refuse overlap, draw the sizes asked for, and cut dev and calibration by group.

    Raises `DataError` for an id with two texts, a refused overlap, and when too few training questions remain.
    """
    dropped: Counter[str] = Counter()
    train, validation = merge_duplicates(train, dropped), merge_duplicates(validation, dropped)
    _check_ids([*train, *validation])
    train = _without_overlap(train, validation, config.overlap, dropped)
    rng = np.random.default_rng([seed, 1])
    drawn_train = _draw(train, config.num_train, rng, dropped)
    drawn_validation = _draw(validation, config.num_validation, rng, dropped)
    return Questions(questions=(*_cut(drawn_train, config, rng), *drawn_validation), dropped={why: n for why, n in dropped.items() if n})


def merge_duplicates(questions: Iterable[Question], dropped: Counter[str]) -> list[Question]:
    """Questions of equal content as one with all their answers; those without a group get their near-duplicates' one."""
    merged: dict[str, Question] = {}
    for question in questions:
        key = content_key(question.text, question.context)
        first = merged.get(key)
        if first is None:
            merged[key] = question if question.group else dataclasses.replace(question, group=near_duplicate_key(question.text))
        else:
            answers = tuple(dict.fromkeys(first.answers + question.answers))
            merged[key] = dataclasses.replace(first, answers=answers)
            dropped["merged duplicate"] += 1
    return list(merged.values())


def _check_ids(questions: Iterable[Question]) -> None:
    texts: dict[str, str] = {}
    for question in questions:
        other = texts.setdefault(question.id, content_key(question.text, question.context))
        if other != content_key(question.text, question.context):
            raise DataError(f"id {question.id!r} stands for two questions, one of them {question.text[:80]!r}: make ids unique")


def _without_overlap(
    train: list[Question], validation: list[Question], overlap: str, dropped: Counter[str]
) -> list[Question]:
    groups = {question.group for question in validation}
    texts = {near_duplicate_key(question.text) for question in validation}
    shared = [q.group in groups or near_duplicate_key(q.text) in texts for q in train]
    if any(shared) and overlap == "refuse":
        example = train[shared.index(True)].text
        raise DataError(
            f"{sum(shared)} training questions are in validation too, such as {example[:80]!r}: "
            "remove them, or drop them from train with --data.overlap drop"
        )
    dropped["in validation too"] += sum(shared)
    return [question for question, is_shared in zip(train, shared, strict=True) if not is_shared]


def _draw(questions: list[Question], size: int | None, rng: np.random.Generator, dropped: Counter[str]) -> list[Question]:
    """`size` of the questions in random order, all when None."""
    order = rng.permutation(len(questions))[:size]
    dropped["not drawn"] += len(questions) - len(order)
    return [questions[i] for i in order]


def _cut(questions: list[Question], config: DataConfig, rng: np.random.Generator) -> list[Question]:
    """`questions` with dev and calibration cut out of train, whole groups at a time, groups in random order."""
    sizes = Counter(question.group for question in questions)
    groups = list(sizes)
    order = iter([groups[i] for i in rng.permutation(len(groups))])
    split_of: dict[str, Split] = {}
    for split, share in ((Split.DEV, config.dev), (Split.CALIBRATION, config.calibration)):
        wanted, taken = max(config.least, round(share * len(questions))), 0
        for group in order:
            split_of[group] = split
            taken += sizes[group]
            if taken >= wanted:
                break
    cut = [dataclasses.replace(q, split=split_of.get(q.group, Split.TRAIN)) for q in questions]
    if not any(question.split == Split.TRAIN for question in cut):
        raise DataError(
            f"{len(questions)} training questions in {len(groups)} groups leave none to train on once dev and calibration "
            f"are cut: give more, or lower --data.least (now {config.least})"
        )
    return cut
