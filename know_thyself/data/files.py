"""Questions from files: JSON Lines (plain or gzip) and Parquet, rows of `{question, answers, id?, context?, group?}`.

A folder of questions holds `train.*` and `validation.*`, and perhaps `taught.*`, which are training questions as well.
Covers UTF-8 with or without a byte order mark and both line ends. What cannot be decoded or parsed is a malformed line; what
parses but is no usable question is set aside with a reason.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from know_thyself.data.identity import question_id
from know_thyself.errors import DataError
from know_thyself.types import Question, Split

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
TRAINING_FILES = ("train", "taught")
LONGEST_TEXT, LONGEST_CONTEXT = 32_000, 1_000_000
"""In characters: a question or an answer, and a context; rows with longer ones are set aside."""

Malformed = Literal["strict", "lenient"]
Row = dict[str, Any]


class _Unusable(NamedTuple):
    """Why a row is no question."""

    reason: str


def read_folder(folder: Path, malformed: Malformed) -> tuple[list[Question], list[Question], dict[str, int]]:
    """Training and validation questions of `folder`, and the rows set aside, counted by reason.

    Raises `DataError` for a missing, unreadable or empty file, and for a malformed line unless `malformed` is lenient.
    """
    if not folder.is_dir():
        raise DataError(f"dataset {folder} is no folder: give one that holds train and validation files (JSONL or Parquet)")
    dropped: Counter[str] = Counter()
    train_files = [_find(folder, name) for name in TRAINING_FILES if name == "train" or _matches(folder, name)]
    train = [q for file in train_files for q in _read_questions(file, Split.TRAIN, malformed, dropped)]
    validation = _read_questions(_find(folder, "validation"), Split.VALIDATION, malformed, dropped)
    return train, validation, dict(dropped)


def _matches(folder: Path, name: str) -> list[Path]:
    return [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]


def _find(folder: Path, name: str) -> Path:
    found = _matches(folder, name)
    if len(found) != 1:
        expected = " or ".join(f"{name}{suffix}" for suffix in SUFFIXES)
        raise DataError(f"{folder} holds {len(found)} files named {expected}: it needs exactly one")
    return found[0]


def _read_questions(path: Path, split: Split, malformed: Malformed, dropped: Counter[str]) -> list[Question]:
    unusable: Counter[str] = Counter()
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _jsonl_rows(path, malformed, unusable)
    questions = []
    for row in rows:
        found = _question(row, path, split)
        if isinstance(found, Question):
            questions.append(found)
        else:
            unusable[found.reason] += 1
    if not questions:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in unusable.items()) or "it is empty"
        raise DataError(f"{path} holds no usable question ({reasons}): give rows of question and answers")
    dropped.update(unusable)
    return questions


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as Parquet ({reason}): write it again") from error


def _jsonl_rows(path: Path, malformed: Malformed, unusable: Counter[str]) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = _parse(line, "utf-8-sig" if number == 1 else "utf-8")
        except (ValueError, RecursionError) as error:
            if malformed == "strict":
                told = f"{path} line {number}: {_fault(error)}"
                raise DataError(f"{told}: mend the line, or set such lines aside with --data.malformed lenient") from error
            unusable["malformed line"] += 1
        else:
            if row is not None:
                yield row


def _parse(line: bytes, encoding: str) -> Row | None:
    """The object that `line` holds, None if it is blank. Raises `ValueError` or `RecursionError` for anything else."""
    text = line.decode(encoding).strip()
    if not text:
        return None
    if "\x00" in text:
        raise ValueError("a NUL character")
    row = json.loads(text, object_pairs_hook=_object)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key stands twice")
    return row


def _fault(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return f"not JSON ({error})" if isinstance(error, json.JSONDecodeError) else str(error)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged or truncated gzip file ({error}): write it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _question(row: Row, path: Path, split: Split) -> Question | _Unusable:
    """The question in `row`, or the reason why there is none."""
    try:
        text, context, answers = _text(row, "question"), _text(row, "context"), _answers(row)
        given, group = _name(row, "id"), _name(row, "group")
    except ValueError as error:
        return _Unusable(str(error))
    if not text:
        return _Unusable("no question text")
    if not answers:
        return _Unusable("no answer")
    texts = (text, given, group, *answers)
    if len(context) > LONGEST_CONTEXT or any(len(value) > LONGEST_TEXT for value in texts):
        return _Unusable("too long")
    if any(_UNPAIRED.search(value) for value in (context, *texts)):
        return _Unusable("unpaired surrogate")
    return Question(
        id=given or question_id(text, context or None),
        text=text,
        answers=answers,
        context=context or None,
        group=group,
        dataset=path.parent.name,
        split=split,
    )


def _text(row: Row, column: str) -> str:
    """The text in `column`, empty when there is none to see. Raises `ValueError` when it is something else."""
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{column} is no text")
    return value.strip() if _is_visible(value) else ""


def _answers(row: Row) -> tuple[str, ...]:
    """The accepted answers, each once: a list in `answers`, or one text in `answers` or `answer`."""
    value = row.get("answers")
    value = row.get("answer") if value is None else value
    accepted = [value] if isinstance(value, str) else value or []
    if not isinstance(accepted, list) or not all(isinstance(answer, str) for answer in accepted):
        raise ValueError("answers are no texts")
    return tuple(dict.fromkeys(answer for answer in accepted if _is_visible(answer)))


def _name(row: Row, column: str) -> str:
    """The id or group in `column`: a text or a whole number. Raises `ValueError` when it is something else."""
    value = row.get(column)
    return str(value) if type(value) is int else _text(row, column)


_UNPAIRED = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which no tokenizer and no file can take."""


def _is_visible(text: str) -> bool:
    """Whether `text` holds more than white space, control and zero-width characters."""
    return any(character.isprintable() and not character.isspace() for character in text)
