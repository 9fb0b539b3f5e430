"""What does the driver of a whole job hold at its most?

    python -m benchmarks.whole --questions 30000 240000 --no-evidence.baselines

Runs `jobs.judgment` on so many questions, one number after the other: the fake engine answers and judges, the world's model is
trained for an epoch on what it judges wrong. Prints the peak memory of each driver, and what a million questions more would add
to the last. Any other flag is the job's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.models import world_model
from know_thyself.testing import fake_answer

VALIDATION = 6
"""One question of so many is for validation."""


def peak(questions: int, flags: Sequence[str]) -> float:
    """The peak memory, in MiB, of the driver of a job on so many `questions`. Raises `SystemExit` when the job fails."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write(root / "questions", questions)
        command = [
            *(sys.executable, "-m", "jobs.judgment", "--name", "whole", "--experiments-root", folder),
            *("--model", world_model(), "--dataset", str(root / "questions")),
            *("--engine.backend", "know_thyself.testing:FakeEngine", "--engine.device", "cpu"),
            *("--train.epochs", "1", "--train.select", "wrong", *flags),
        ]
        with (root / "printed.txt").open("w") as printed:
            process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"the job of {questions} questions failed: {(root / 'printed.txt').read_text()}")
        return used.ru_maxrss / 1024


def _write(folder: Path, questions: int) -> None:
    """Questions of a usual length, with two accepted answers, each a group by itself."""
    folder.mkdir()
    for split, count in (("train", questions - questions // VALIDATION), ("validation", questions // VALIDATION)):
        with (folder / f"{split}.jsonl").open("w") as file:
            for number in range(count):
                text = f"In which of the years after the war was the {split} bridge number {number} over the river built?"
                file.write(json.dumps({"question": text, "answers": [fake_answer(text), f"in {number}"]}) + "\n")


def main() -> None:
    """Run the jobs and print what they held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[30_000, 240_000])
    given, flags = parser.parse_known_args()
    found = []
    for questions in given.questions:
        found.append((questions, peak(questions, flags)))
        print(f"{questions:11,} questions: {found[-1][1]:7,.0f} MiB", flush=True)
    for (few, before), (many, after) in pairwise(found):
        print(f"{few:,} to {many:,}: {(after - before) / (many - few) * 1e6:,.0f} MiB a million")


if __name__ == "__main__":
    main()
