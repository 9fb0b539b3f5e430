"""The journal of a service: one SQLite file with what was judged and how it turned out, and no text of anyone's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from know_thyself.errors import StoreError

LAYOUT = """
CREATE TABLE IF NOT EXISTS scores (
    at INTEGER NOT NULL, judge TEXT NOT NULL, confidence REAL NOT NULL, p_correct REAL, verdict TEXT NOT NULL,
    decision TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS scores_by_time ON scores (at);
CREATE TABLE IF NOT EXISTS feedback (
    id TEXT NOT NULL, place INTEGER NOT NULL, at INTEGER NOT NULL, judge TEXT NOT NULL, score REAL NOT NULL,
    is_calibrated INTEGER NOT NULL, correct INTEGER NOT NULL, PRIMARY KEY (id, place));
CREATE INDEX IF NOT EXISTS feedback_by_time ON feedback (at);
"""
"""`at` is when it was judged, in seconds since 1970; `judge` the short digest; `score` p_correct where it `is_calibrated`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """The newest that a journal holds of one judge: columns of its judgments, and of its feedback.

    `confidence` and `judged_at` are one row per judgment, `p_correct` is too, nan of a judge without calibration; `forecast`
    (p_correct when it was judged), `correct` (0 or 1) and `told_of` (when) are one row per feedback. `of_others` counts the
    judgments of other judges.
    """

    judged_at: NDArray[np.float64]
    confidence: NDArray[np.float64]
    p_correct: NDArray[np.float64]
    told_of: NDArray[np.float64]
    forecast: NDArray[np.float64]
    correct: NDArray[np.float64]
    of_others: int


SCORES = "SELECT at, confidence, p_correct FROM scores WHERE judge = ? ORDER BY at DESC LIMIT ?"
FEEDBACK = "SELECT at, score, correct FROM feedback WHERE judge = ? AND is_calibrated ORDER BY at DESC LIMIT ?"
OTHERS = "SELECT count(*) FROM scores WHERE judge <> ?"


def read_journal(file: Path, judge: str, last: int) -> Recorded:
    """The `last` judgments and feedbacks that the journal `file` holds of the judge of that short digest.

    Raises `StoreError` where there is no journal to read.
    """
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as journal:
            scores = journal.execute(SCORES, (judge, last)).fetchall()
            feedback = journal.execute(FEEDBACK, (judge, last)).fetchall()
            ((others,),) = journal.execute(OTHERS, (judge,)).fetchall()
    except sqlite3.Error as error:
        raise StoreError(f"{file} is no journal to read ({error}): give the file of python -m serve --journal") from error
    judged_at, confidence, p_correct = _columns(scores)
    told_of, forecast, correct = _columns(feedback)
    return Recorded(
        judged_at=judged_at,
        confidence=confidence,
        p_correct=p_correct,
        told_of=told_of,
        forecast=forecast,
        correct=correct,
        of_others=others,
    )


def _columns(rows: Sequence[tuple[Any, ...]]) -> NDArray[np.float64]:
    """`rows` of three as columns; what is not there is nan."""
    return np.array(rows, dtype=np.float64).reshape(len(rows), 3).T
