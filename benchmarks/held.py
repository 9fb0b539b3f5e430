"""What does a process hold for a million questions in each of the ways that a job holds them?

    python -m benchmarks.held [--questions N]

Makes N questions, their grades and judgments, holds them as the driver of a job does, and prints what its memory grew by, per
million: `read` to `scored` in the driver, one upon the other; `grader` in the worker that grades, besides its batch.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from know_thyself.data.identity import near_duplicate_key, question_id
from know_thyself.evaluation.evidence import Records, scores_of
from know_thyself.labeling import AbilityRule
from know_thyself.stages.grading import GRADED, TrialGrader
from know_thyself.types import LabelMode, Question

TRIALS, PAGE = 5, os.sysconf("SC_PAGE_SIZE")


def question(number: int) -> Question:
    """A question of a usual length, with two accepted answers and no context."""
    text = f"In which of the years after the war was the {number}th of the bridges over the river built?"
    answers = (f"{1900 + number % 100}", f"in {number}")
    return Question(id=question_id(text, None), text=text, answers=answers, group=near_duplicate_key(text))


@contextmanager
def held(what: str, questions: int) -> Iterator[None]:
    """Print what memory grows by within the context, per million questions."""
    before = _resident()
    yield
    print(f"{what:10} {(_resident() - before) / questions * 1e6 / 2**20:8,.0f} MiB a million", flush=True)


def _resident() -> int:
    gc.collect()
    pa.default_memory_pool().release_unused()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def main() -> None:
    """Hold them, one way after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200_000)
    count = parser.parse_args().questions
    random, rule = np.random.default_rng(0), AbilityRule(can_at=1.0, uncertain_at=0.5)
    with held("read", count):
        questions = [question(number) for number in range(count)]
    ids = [asked.id for asked in questions]
    with held("tables", count):
        right = random.random((count, TRIALS)) < 0.5
        nothing = [[None] * TRIALS] * count
        grades = pa.table({"id": ids, "correct": right.tolist(), "matched": nothing, "fault": nothing}, schema=GRADED)
        sure = random.random(count)
        judgments = pa.table({"id": ids, "probabilities": np.stack([sure, 1 - sure], axis=1).tolist(), "mass": sure})
        del right, sure, nothing
    with held("scored", count):
        scores = scores_of(Records(questions, grades, judgments, rule, LabelMode.BINARY), LabelMode.BINARY, None)
    assert len(scores.mass if scores.mass is not None else ()) == count
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part-0.parquet"
        pq.write_table(pa.table(Question.to_columns(questions)), part)
        del scores, grades, judgments, questions, ids
        with held("grader", count):
            grader = TrialGrader([str(part)], "alias")
        assert grader is not None


if __name__ == "__main__":
    main()
