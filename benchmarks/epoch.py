"""Where does the time of a whole adaptive epoch go, start-ups included?

    python -m benchmarks.epoch

The judgment job on the packaged world with one epoch and without baselines, as a user starts it: five answers and a judgment of
each question, grades, training, and a judgment by the judge. Each row is a part beside the whole; what falls between the
stages is the start of Python and Ray, the evaluation and the report. 20,000 questions are extrapolated from the two sizes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.asking import steady
from benchmarks.results import Row, report
from know_thyself.experiment import MARKER

CASE, NAME = "epoch", "epoch"
SIZES, FARTHER = ((600, 400), (3_000, 2_000)), 20_000
"""Questions to train on and to validate on."""
WHOLE = "the whole"


def run() -> Iterator[Row]:
    """The parts of an epoch in each size, and the whole of a size farther off."""
    wholes = {}
    for size in SIZES:
        parts = _measured(*size)
        wholes[sum(size)] = parts[WHOLE]
        for name, seconds in parts.items():
            yield _row(f"{sum(size):,} questions: {name}", seconds, parts[WHOLE])
    (few, least), (many, most) = wholes.items()
    each = (most - least) / (many - few)
    farther = most + each * (FARTHER - many)
    yield _row(f"{FARTHER:,} questions, extrapolated: start-ups", least - each * few, farther)


def _row(size: str, seconds: float, whole: float) -> Row:
    return Row(case=CASE, size=size, against=WHOLE, ours=seconds, theirs=whole, unit="s", less_is_better=True)


def _measured(num_train: int, num_validation: int) -> dict[str, float]:
    """Seconds of each part of an epoch, and of all."""
    with tempfile.TemporaryDirectory() as scratch:
        flags = ["--preset", "world", "--name", NAME, "--train.epochs", "1", "--no-evidence.baselines", "--data.least", "50"]
        sizes = ["--data.num-train", str(num_train), "--data.num-validation", str(num_validation)]
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "jobs.judgment", *flags, *sizes],
            env={**os.environ, "KT_EXPERIMENTS": scratch},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        whole = time.perf_counter() - began
        markers = [(path.parent, json.loads(path.read_text())) for path in Path(scratch).glob(f"{NAME}/stages/*/{MARKER}")]
        parts = dict(part for folder, done in markers for part in _parts(folder, done))
    return {**parts, "between the stages": whole - sum(parts.values()), WHOLE: whole}


def _parts(folder: Path, done: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The seconds of a stage; of an examination those of the engine's start apart."""
    if done["stage"] != "examine":
        yield done["stage"], done["seconds"]
        return
    tables = sorted(folder.glob("part-*.parquet"))
    asking = steady(tables) * done["num_out"]
    named = "sample and judge" if _has_trials(tables[0]) else "judge"
    yield f"{named}, engine's start", done["seconds"] - asking
    yield f"{named}, asking", asking


def _has_trials(table: Path) -> bool:
    return bool(pq.read_table(table, columns=["trials"])["trials"].null_count == 0)


if __name__ == "__main__":
    report(CASE, run)
