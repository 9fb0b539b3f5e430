"""Questions from files: JSON Lines (plain or gzip) and Parquet, rows of `{question, answers, id?, context?, group?}`.

A folder of questions holds `train.*` and `validation.*`, and perhaps `taught.*`, which are training questions as well.
Covers UTF-8 with or without a byte order mark and both line ends. What cannot be decoded or parsed is a malformed line; what
parses but is no usable question is set aside with a reason.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from know_thyself.data.rows import Draft, Part, Row, Unusable
from know_thyself.errors import DataError
from know_thyself.types import Split

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
TRAINING_FILES = ("train", "taught")

Malformed = Literal["strict", "lenient"]


def draft(row: Row) -> Draft:
    """The parts of a question in `row`; the accepted answers are in `answers`, or one of them in `answer`."""
    answers = row.get("answers")
    answers = row.get("answer") if answers is None else answers
    return Draft(row.get("question"), answers, row.get("context"), row.get("id"), row.get("group"))


def folder_parts(folder: Path, malformed: Malformed) -> list[Part]:
    """The files of `folder`, their rows still to be read.

    Raises `DataError` for a missing or unreadable file and, while rows are read, for a malformed line unless `malformed` is
    lenient.
    """
    if not folder.is_dir():
        raise DataError(f"dataset {folder} is no folder: give one that holds train and validation files (JSONL or Parquet)")
    train = [_find(folder, name) for name in TRAINING_FILES if name == "train" or _matches(folder, name)]
    files = [*((path, Split.TRAIN) for path in train), (_find(folder, "validation"), Split.VALIDATION)]
    return [Part(str(path), split, file_rows(path, malformed)) for path, split in files]


def file_rows(path: Path, malformed: Malformed) -> Iterator[Row | Unusable]:
    """The rows of the file `path`, by its suffix. Raises `DataError` as they are read: see `folder_parts`."""
    return _parquet_rows(path) if path.suffix == ".parquet" else _jsonl_rows(path, malformed)


def _matches(folder: Path, name: str) -> list[Path]:
    return [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]


def _find(folder: Path, name: str) -> Path:
    found = _matches(folder, name)
    if len(found) != 1:
        expected = " or ".join(f"{name}{suffix}" for suffix in SUFFIXES)
        raise DataError(f"{folder} holds {len(found)} files named {expected}: it needs exactly one")
    return found[0]


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as Parquet ({reason}): write it again") from error


def _jsonl_rows(path: Path, malformed: Malformed) -> Iterator[Row | Unusable]:
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = _parse(line, "utf-8-sig" if number == 1 else "utf-8")
        except (ValueError, RecursionError) as error:
            if malformed == "strict":
                told = f"{path} line {number}: {_fault(error)}"
                raise DataError(f"{told}: mend the line, or set such lines aside with --data.malformed lenient") from error
            yield Unusable("malformed line")
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
