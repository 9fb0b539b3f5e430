"""Grade: committed trials against the accepted answers. Regrading costs no inference."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from know_thyself.compute.tables import Workers, run_table_stage, write_part
from know_thyself.experiment import StageFolder
from know_thyself.experiment.place import pull
from know_thyself.grading import grade, load_grader
from know_thyself.types import StageDone, Trial

GRADED = pa.schema(
    [
        ("id", pa.string()),
        ("correct", pa.list_(pa.bool_())),
        ("matched", pa.list_(pa.string())),
        ("fault", pa.list_(pa.string())),
    ]
)
"""One row per question, one entry per trial; `correct` is null where a trial could not be graded, and `fault` says why."""


class Answers:
    """The accepted answers of each question of `parts` by its id. In Arrow's memory, a part of what Python's take."""

    def __init__(self, parts: Sequence[Path]) -> None:
        table = pa.concat_tables([pq.read_table(part, columns=["id", "answers"]) for part in parts]).sort_by("id")
        self._ids, self._answers = table["id"].combine_chunks(), table["answers"].combine_chunks()

    def __getitem__(self, question: str) -> list[str]:
        """The answers of the question with this id. Raises `KeyError`."""
        place = bisect_left(range(len(self._ids)), question, key=lambda row: self._ids[row].as_py())
        if place == len(self._ids) or self._ids[place].as_py() != question:
            raise KeyError(question)
        answers: list[str] = self._answers[place].as_py()
        return answers


class TrialGrader:
    """The worker: holds the accepted answers of all questions, grades batch by batch."""

    def __init__(self, questions: Sequence[str], grader: str) -> None:
        parts = [Path(part) for part in questions]
        self._answers = Answers([pull(part.parent, part.name) / part.name for part in parts])
        self._grader, self._name = load_grader(grader)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows of `GRADED` for the rows of `EXAMINED` in `batch`."""
        return pa.Table.from_pylist([self._row(row) for row in batch.to_pylist()], schema=GRADED)

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        answers = self._answers[row["id"]]
        trials = [Trial.from_row({"question_id": row["id"], **trial}) for trial in row["trials"]]
        grades = [grade(trial, answers, self._grader, self._name) for trial in trials]
        return {"id": row["id"], **{name: [getattr(g, name) for g in grades] for name in ("correct", "matched", "fault")}}


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


def commit_logs(folder: StageFolder, logs: Mapping[str, tuple[int, int]]) -> StageDone:
    """Commit counts (right, trials) by question id as the rows of `GRADED`: right trials first, for logs know no order."""
    began = time.monotonic()
    rows = [
        {
            "id": name,
            "correct": [True] * num_correct + [False] * (num_trials - num_correct),
            "matched": [None] * num_trials,
            "fault": [None] * num_trials,
        }
        for name, (num_correct, num_trials) in logs.items()
    ]
    write_part(folder, pa.Table.from_pylist(rows, schema=GRADED))
    return folder.commit_table(num_in=len(rows), num_dropped={}, began=began)


def count_faults(folder: StageFolder) -> tuple[int, Counter[str]]:
    """The trials in the committed grades, and those that could not be graded, by reason."""
    faults = pc.list_flatten(folder.read(["id", "fault"])["fault"])
    counts = {row["values"]: row["counts"] for row in faults.drop_null().value_counts().to_pylist()}
    return len(faults), Counter(counts)


def grader_name(spec: str) -> str:
    """Name and version of the grader that `spec` means. Raises `ConfigError`."""
    return load_grader(spec)[1]
