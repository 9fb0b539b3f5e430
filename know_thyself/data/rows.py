"""From a row of any source to a Question, or to the reason why there is none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from know_thyself.data.identity import question_id
from know_thyself.data.logs import Log, log_of, unite
from know_thyself.errors import DataError
from know_thyself.types import Question, Split

LONGEST_TEXT, LONGEST_CONTEXT = 32_000, 1_000_000
"""In characters: a question or an answer, and a context; rows with longer ones are set aside."""

Row = dict[str, Any]


class Unusable(NamedTuple):
    """Why a row is no question."""

    reason: str


class Draft(NamedTuple):
    """The parts of a question as a row holds them, unchecked: `answers` is a list of texts or one text."""

    question: Any
    answers: Any
    context: Any = None
    id: Any = None
    group: Any = None


class Part(NamedTuple):
    """The rows of one file or one split of a data set; `name` tells it in errors."""

    name: str
    split: Split
    rows: Iterable[Row | Unusable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How rows are read: `draft` finds the parts of a question, and raises `ValueError` with the reason where it cannot.

    `closed_book` leaves contexts out. `logged` takes the counts of right trials from the rows, which then need no answers.
    """

    dataset: str
    draft: Callable[[Row], Draft]
    closed_book: bool = False
    logged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """All rows of a data set: questions, rows set aside by reason, and by question id what the logs say, if they were read."""

    train: Sequence[Question]
    validation: Sequence[Question]
    dropped: dict[str, int]
    logs: dict[str, Log]


def read_parts(parts: Iterable[Part], reading: Reading) -> Loaded:
    """The questions of `parts`. Raises `DataError` for a part without a usable question."""
    dropped: Counter[str] = Counter()
    found: dict[Split, list[tuple[Question, Log | None]]] = {Split.TRAIN: [], Split.VALIDATION: []}
    for part in parts:
        found[part.split] += _read_part(part, reading, dropped)
    logs: dict[str, Log] = {}
    questions = {}
    for split, read in found.items():
        questions[split], told = unite(read) if reading.logged else ([question for question, _ in read], {})
        logs |= told
    return Loaded(train=questions[Split.TRAIN], validation=questions[Split.VALIDATION], dropped=dict(dropped), logs=logs)


def _read_part(part: Part, reading: Reading, dropped: Counter[str]) -> list[tuple[Question, Log | None]]:
    unusable: Counter[str] = Counter()
    read = []
    for row in part.rows:
        found = row if isinstance(row, Unusable) else read_row(row, part.split, reading)
        if isinstance(found, Unusable):
            unusable[found.reason] += 1
        else:
            read.append(found)
    if not read:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in unusable.items()) or "it is empty"
        wanted = (
            "question and correct, or of question, num_correct and num_trials" if reading.logged else "question and answers"
        )
        raise DataError(f"{part.name} holds no usable question ({reasons}): give rows of {wanted}")
    dropped.update(unusable)
    return read


def read_row(row: Row, split: Split, reading: Reading) -> tuple[Question, Log | None] | Unusable:
    """The question in `row` and, where logs are read, what `row` says of it; or the reason why there is none."""
    try:
        question = _question(reading.draft(row), split, reading)
        return question, log_of(row) if reading.logged else None
    except ValueError as error:
        return Unusable(str(error))


def _question(draft: Draft, split: Split, reading: Reading) -> Question:
    """The question that `draft` makes. Raises `ValueError` with the reason why it makes none."""
    text, answers = _text(draft.question, "question"), _answers(draft.answers)
    context = "" if reading.closed_book else _text(draft.context, "context")
    given, group = _name(draft.id, "id"), _name(draft.group, "group")
    if not text:
        raise ValueError("no question text")
    if not answers and not reading.logged:
        raise ValueError("no answer")
    texts = (text, given, group, *answers)
    if len(context) > LONGEST_CONTEXT or any(len(value) > LONGEST_TEXT for value in texts):
        raise ValueError("too long")
    if any(map(is_unpaired, (context, *texts))):
        raise ValueError("unpaired surrogate")
    return Question(
        id=given or question_id(text, context or None),
        text=text,
        answers=answers,
        context=context or None,
        group=group,
        dataset=reading.dataset,
        split=split,
    )


def _text(value: Any, what: str) -> str:
    """The text `value`, empty when there is none to see. Raises `ValueError` when it is something else."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{what} is no text")
    return value.strip() if _is_visible(value) else ""


def _answers(value: Any) -> tuple[str, ...]:
    """The accepted answers, each once."""
    accepted = [value] if isinstance(value, str) else value or []
    if not isinstance(accepted, list) or not all(isinstance(answer, str) for answer in accepted):
        raise ValueError("answers are no texts")
    return tuple(dict.fromkeys(answer for answer in accepted if _is_visible(answer)))


def _name(value: Any, what: str) -> str:
    """An id or group: a text or a whole number. Raises `ValueError` when it is something else."""
    return str(value) if type(value) is int else _text(value, what)


_UNPAIRED = re.compile("[\ud800-\udfff]")


def is_unpaired(text: str) -> bool:
    """Whether `text` holds half of a surrogate pair, which no tokenizer and no file can take."""
    return _UNPAIRED.search(text) is not None


def _is_visible(text: str) -> bool:
    """Whether `text` holds more than white space, control and zero-width characters."""
    return any(character.isprintable() and not character.isspace() for character in text)
