"""Grade: committed trials against the accepted answers. Regrading costs no inference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from know_thyself.compute.tables import Workers, run_table_stage
from know_thyself.experiment import StageFolder
from know_thyself.grading import grade, load_grader
from know_thyself.types import StageDone, Trial

GRADED = pa.schema([("id", pa.string()), ("correct", pa.list_(pa.bool_())), ("matched", pa.list_(pa.string()))])
"""One row per question, one entry per trial; `correct` is null where a trial could not be graded."""


class TrialGrader:
    """The worker: holds the accepted answers of all questions, grades batch by batch."""

    def __init__(self, questions: Sequence[str], grader: str) -> None:
        tables = [pq.read_table(Path(part), columns=["id", "answers"]) for part in questions]
        self._answers = {row["id"]: row["answers"] for table in tables for row in table.to_pylist()}
        self._grader, self._name = load_grader(grader)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows of `GRADED` for the rows of `EXAMINED` in `batch`."""
        return pa.Table.from_pylist([self._row(row) for row in batch.to_pylist()], schema=GRADED)

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        answers = self._answers[row["id"]]
        trials = [Trial.from_row({"question_id": row["id"], **trial}) for trial in row["trials"]]
        grades = [grade(trial, answers, self._grader, self._name) for trial in trials]
        return {"id": row["id"], "correct": [g.correct for g in grades], "matched": [g.matched for g in grades]}


def grade_trials(
    folder: StageFolder, examined: StageFolder, questions: StageFolder, num_questions: int, grader: str
) -> StageDone:
    """Grade the trials committed in `examined` into `folder`."""
    workers = Workers(
        worker=TrialGrader,
        arguments={"questions": [str(part) for part in questions.tables()], "grader": grader},
        least=1,
        most=1,
        batch_size=1024,
        num_cpus=1,
    )
    return run_table_stage(folder, examined, workers, num_in=num_questions, block_rows=4096, columns=["id", "trials"])


def grader_name(spec: str) -> str:
    """Name and version of the grader that `spec` means. Raises `ConfigError`."""
    return load_grader(spec)[1]
