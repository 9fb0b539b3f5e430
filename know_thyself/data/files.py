"""Questions from files: JSON Lines (plain or gzip) and Parquet, rows of `{question, answers, id?, context?, group?}`.

A folder of questions holds `train.*` and `validation.*`, and perhaps `taught.*`, which are training questions as well.
Covers UTF-8 with or without a byte order mark and both line ends. What cannot be decoded or parsed is a malformed line; what
parses but is no usable question is set aside with a reason.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from know_thyself.data.identity import question_id
from know_thyself.errors import DataError
from know_thyself.types import Question, Split

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
TRAINING_FILES = ("train", "taught")
LONGEST_QUESTION, LONGEST_CONTEXT = 32_000, 1_000_000
"""In characters; longer ones are set aside."""

Row = dict[str, Any]


def read_folder(
    folder: Path, malformed: Literal["strict", "lenient"]
) -> tuple[list[Question], list[Question], dict[str, int]]:
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


def _read_questions(
    path: Path, split: Split, malformed: Literal["strict", "lenient"], dropped: Counter[str]
) -> list[Question]:
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _jsonl_rows(path, malformed, dropped)
    questions = []
    total = 0
    for row in rows:
        total += 1
        question = _question(row, path, split)
        if isinstance(question, Question):
            questions.append(question)
        else:
            dropped[question] += 1
    if not questions:
        raise DataError(f"{path} holds no usable question ({total} rows{_reasons(dropped)}): check its columns and rows")
    return questions


def _reasons(dropped: Counter[str]) -> str:
    return "".join(f", {count} {reason}" for reason, count in dropped.items())


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}): write it again") from error


def _jsonl_rows(path: Path, malformed: Literal["strict", "lenient"], dropped: Counter[str]) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        fault = None
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if "\x00" in text:
                fault = "a NUL character"
            elif text:
                row = json.loads(text)
                if isinstance(row, dict):
                    yield row
                else:
                    fault = "not a JSON object"
        except UnicodeDecodeError:
            fault = "not UTF-8"
        except (json.JSONDecodeError, RecursionError) as error:
            fault = f"not JSON ({error})" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        if fault and malformed == "strict":
            raise DataError(f"{path} line {number}: {fault}: mend the line, or set such lines aside with --data.malformed lenient")
        if fault:
            dropped["malformed line"] += 1


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged or truncated gzip file ({error}): write it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _question(row: Row, path: Path, split: Split) -> Question | str:
    """The question in `row`, or the reason why there is none."""
    text, context = row.get("question"), row.get("context")
    answers = row.get("answers", row.get("answer"))
    if not isinstance(text, str) or not text.strip():
        return "no question text"
    if context is not None and not isinstance(context, str):
        return "context is no text"
    accepted = [answers] if isinstance(answers, str) else answers
    if not isinstance(accepted, list) or not all(isinstance(answer, str) for answer in accepted):
        return "answers are no texts"
    accepted = [answer for answer in accepted if answer.strip()]
    if not accepted:
        return "no answer"
    if any(_unpaired(value) for value in (text, context or "", *accepted)):
        return "unpaired surrogate"
    if len(text) > LONGEST_QUESTION or len(context or "") > LONGEST_CONTEXT:
        return "too long"
    given, group = row.get("id"), row.get("group")
    return Question(
        id=str(given) if given not in (None, "") else question_id(text, context),
        text=text.strip(),
        answers=tuple(dict.fromkeys(accepted)),
        context=context or None,
        group=str(group) if group not in (None, "") else "",
        dataset=path.parent.name,
        split=split,
    )


def _unpaired(text: str) -> bool:
    """Whether `text` holds half of a surrogate pair, which no tokenizer and no file can take."""
    return any("\ud800" <= character <= "\udfff" for character in text)
