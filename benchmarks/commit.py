"""How long does a commit take to read every row again, and what would a million rows take?

    python -m benchmarks.commit [--rows N]

Commits a table of questions and a table of five trials per question, each in parts of 10,000 rows; prints rows, seconds on the
clock and of the processor, and rows per second of the processor, which other work on the machine leaves nearly alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from know_thyself.experiment import Experiment
from know_thyself.types import Question

PART = 10_000
TRIALS = 5


def question(number: int) -> dict[str, Any]:
    """A row of the questions' table."""
    text = f"Which of the two came first, number {number} or the one before it?"
    return Question(id=f"q{number:08}", text=text, answers=("the one before", "it"), group=f"g{number // 3}").to_row()


def examined(number: int) -> dict[str, Any]:
    """A row of an examination's table."""
    trials = [
        {"index": i, "seed": number + i, "text": f"number {number}, I think", "finish": "stop", "num_tokens": 7}
        for i in range(TRIALS)
    ]
    sure = (number % 97) / 97
    return {"id": f"q{number:08}", "trials": trials, "probabilities": [sure, 1 - sure], "mass": 0.98 + sure / 100}


def measure(root: Path, name: str, row: Callable[[int], dict[str, Any]], rows: int) -> tuple[float, float]:
    """Seconds to commit so many of such rows: on the clock, and of the processor."""
    folder = Experiment(root, attempt=1).stage(name, {})
    folder.path.mkdir(parents=True)
    for first in range(0, rows, PART):
        part = [row(number) for number in range(first, min(first + PART, rows))]
        pq.write_table(pa.Table.from_pylist(part), folder.path / f"part-{first:08}.parquet")
    began, worked = time.monotonic(), time.process_time()
    folder.commit_table(num_in=rows, num_dropped={}, began=began)
    return time.monotonic() - began, time.process_time() - worked


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the commit of a table.")
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as scratch:
        for name, row in (("questions", question), ("examined", examined)):
            clock, worked = measure(Path(scratch), name, row, rows)
            print(f"{name}: {rows:,} rows in {clock:.1f} s ({worked:.1f} s of the processor), {rows / worked:,.0f} rows/s")


if __name__ == "__main__":
    main()
