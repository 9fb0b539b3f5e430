"""Training from logs: how often a model was right, as rows say it, in place of trials that we sample and grade.

A row says `correct` (true, false, 1 or 0: one trial) or `num_correct` and `num_trials`. Rows of one question add up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from know_thyself.data.identity import content_key
from know_thyself.types import Question

MOST_TRIALS = 10_000
"""Of one row: a count above it is no count of trials."""


class Log(NamedTuple):
    """`num_correct` of `num_trials` answers to a question were right."""

    num_correct: int
    num_trials: int


def log_of(row: Mapping[str, Any]) -> Log:
    """What `row` says. Raises `ValueError` with the reason when it says nothing, or what cannot be."""
    correct, counts = row.get("correct"), (row.get("num_correct"), row.get("num_trials"))
    if correct is None and counts == (None, None):
        raise ValueError("no correct, and no num_correct and num_trials")
    if correct is not None and counts != (None, None):
        raise ValueError("both correct and counts")
    if correct is not None:
        if correct not in (0, 1):
            raise ValueError("correct is neither true nor false")
        return Log(int(correct), 1)
    right, trials = (_whole(value, name) for value, name in zip(counts, ("num_correct", "num_trials"), strict=True))
    if not 1 <= trials <= MOST_TRIALS:
        raise ValueError(f"num_trials is not in 1 to {MOST_TRIALS}")
    if not 0 <= right <= trials:
        raise ValueError("num_correct is not in 0 to num_trials")
    return Log(right, trials)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"{name} is no whole number")
    return int(value)


def unite(read: Iterable[tuple[Question, Log | None]]) -> tuple[list[Question], dict[str, Log]]:
    """Each question once, with the answers of all its rows, and by its id the sum of what they say."""
    questions: dict[str, Question] = {}
    logs: dict[str, Log] = {}
    for question, log in read:
        key = content_key(question.text, question.context)
        first = questions.setdefault(key, question)
        if first is not question:
            questions[key] = dataclasses.replace(first, answers=tuple(dict.fromkeys(first.answers + question.answers)))
        before = logs.get(first.id, Log(0, 0))
        said = log or Log(0, 0)
        logs[first.id] = Log(before.num_correct + said.num_correct, before.num_trials + said.num_trials)
    return list(questions.values()), logs
