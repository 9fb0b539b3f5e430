"""Cut questions into train, dev, calibration and validation so that no two splits share a question or a group."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from know_thyself.config import DataConfig
from know_thyself.data.identity import content_key, near_duplicate_key
from know_thyself.data.logs import Log
from know_thyself.errors import DataError
from know_thyself.types import Question, Split


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The questions of an experiment, each with its split, and how many rows did not make it, by reason.

    `logs` holds by question id what the files say of right answers; it is empty where the answers are to be sampled.
    """

    questions: tuple[Question, ...]
    dropped: dict[str, int]
    logs: Mapping[str, Log] = dataclasses.field(default_factory=dict)

    def of(self, split: Split) -> list[Question]:
        """The questions of `split`."""
        return [question for question in self.questions if question.split == split]


def split_questions(train: Sequence[Question], validation: Sequence[Question], config: DataConfig, seed: int) -> Questions:
    """Unite groups, merge duplicates, drop or refuse overlap, draw the sizes asked for, and cut dev and calibration by group.

    Raises `DataError` for an id with two texts, a refused overlap, and when too few training questions remain.
    """
    dropped: Counter[str] = Counter()
    _check_ids([*train, *validation])
    grouped = unite_groups([*train, *validation])
    train, validation = (merge_duplicates(part, dropped) for part in (grouped[: len(train)], grouped[len(train) :]))
    train = _without_overlap(train, validation, config.overlap, dropped)
    rng = np.random.default_rng([seed, 1])
    drawn_train = _draw(train, config.num_train, rng, dropped)
    drawn_validation = _draw(validation, config.num_validation, rng, dropped)
    cut = (*_cut(drawn_train, config, rng), *drawn_validation)
    return Questions(questions=cut, dropped={reason: count for reason, count in dropped.items() if count})


def _check_ids(questions: Iterable[Question]) -> None:
    contents: dict[str, str] = {}
    for question in questions:
        content = content_key(question.text, question.context)
        if contents.setdefault(question.id, content) != content:
            raise DataError(f"id {question.id!r} stands for two questions, one of them {question.text[:80]!r}: make ids unique")


def merge_duplicates(questions: Iterable[Question], dropped: Counter[str]) -> list[Question]:
    """Questions of equal content as one with the answers of all; the rest is as it came first."""
    merged: dict[str, Question] = {}
    for question in questions:
        key = content_key(question.text, question.context)
        first = merged.get(key)
        if first is None:
            merged[key] = question
        else:
            answers = tuple(dict.fromkeys(first.answers + question.answers))
            merged[key] = dataclasses.replace(first, answers=answers)
            dropped["merged duplicate"] += 1
    return list(merged.values())


def unite_groups(questions: Sequence[Question]) -> list[Question]:
    """`questions`, those in one group that are bound by a group given, by near-duplicate texts, or by a chain of both.

    It is called as its first question is: by the group given, or else by the key of its text.
    """
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while (higher := above.setdefault(name, name)) != name:
            above[name] = name = above[higher]
        return name

    names = [(question.group, near_duplicate_key(question.text)) for question in questions]
    for group, text in names:
        if group:
            above[top(text)] = top(group)
    first = {top(group or text): group or text for group, text in reversed(names)}
    return [dataclasses.replace(q, group=first[top(group or text)]) for q, (group, text) in zip(questions, names, strict=True)]


def _without_overlap(
    train: list[Question], validation: list[Question], overlap: str | None, dropped: Counter[str]
) -> list[Question]:
    groups = {question.group for question in validation}
    shared = [question for question in train if question.group in groups]
    if shared and overlap != "drop":
        raise DataError(
            f"{len(shared)} training questions are in validation too, such as {shared[0].text[:80]!r}: "
            "remove them, or drop them from train with --data.overlap drop"
        )
    dropped["in validation too"] += len(shared)
    return [question for question in train if question.group not in groups]


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
