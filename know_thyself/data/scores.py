"""Scores of any other system and the labels they are held against, from two files (JSON Lines or Parquet).

scores   {question_id, confidence}                 confidence is P(the question is answered right), 0..1
labels   {question_id, correct}                    true or false; rows of one question add up
or {question_id, num_correct, num_trials}
and, where wanted, group (questions that belong together) and split: validation, unless it says calibration
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from know_thyself.data.files import SUFFIXES, file_rows
from know_thyself.data.logs import Log, log_of
from know_thyself.data.rows import Row, Unusable, is_unpaired
from know_thyself.errors import DataError
from know_thyself.types import Split

SPLITS = (Split.CALIBRATION, Split.VALIDATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """How often a question was answered right, the group it belongs to, and the split it is for."""

    log: Log
    group: str
    split: Split


def read_scores(path: Path) -> dict[str, float]:
    """Confidence by question id. Raises `DataError` for a value that is no share, a missing id and one that is there twice."""
    found: dict[str, float] = {}
    for name, row in _named_rows(path):
        value = row.get("confidence")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise DataError(f"{path}: question {name!r} has confidence={value!r}: give a number from 0 to 1")
        if name in found:
            raise DataError(f"{path}: question {name!r} is there twice: give one confidence for each question")
        found[name] = float(value)
    return found


def read_labels(path: Path) -> dict[str, Label]:
    """Labels by question id; a question without a group is one by itself. Raises `DataError` for a row that says nothing."""
    found: dict[str, Label] = {}
    for name, row in _named_rows(path):
        group, split = str(row.get("group") or name), row.get("split") or Split.VALIDATION
        try:
            log = log_of(row)
        except ValueError as error:
            raise DataError(f"{path}: question {name!r}: {error}") from error
        if is_unpaired(group):
            raise DataError(f"{path}: question {name!r} has group={group!r}, which holds half a character: mend its encoding")
        if split not in SPLITS:
            raise DataError(f"{path}: question {name!r} has split={split!r}: use {' or '.join(SPLITS)}")
        if name in found:
            first = found[name].log
            log = Log(first.num_correct + log.num_correct, first.num_trials + log.num_trials)
        found[name] = Label(log=log, group=group, split=Split(split))
    return found


def _named_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of `path` with their question's id. Raises `DataError` for a file that is empty or of another kind."""
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path} is neither {', '.join(SUFFIXES[:-1])} nor {SUFFIXES[-1]}: write it as one of them")
    found = False
    for row in file_rows(path, "strict"):
        name = None if isinstance(row, Unusable) else row.get("question_id")
        if isinstance(row, Unusable) or isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise DataError(f"{path}: a row has question_id={name!r}: give each row the id of its question")
        if is_unpaired(str(name)):
            raise DataError(f"{path}: question_id={name!r} holds half a character: mend its encoding")
        found = True
        yield str(name), row
    if not found:
        raise DataError(f"{path} holds no row: give one for each question")
