"""Real questions through the main job, on the world's model: it knows none of them, says so, and nothing breaks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
HOTPOT, NATURAL = DATA / "hotpotqa_distractor_100.json", DATA / "nq_open_dev.jsonl"

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not (HOTPOT.is_file() and NATURAL.is_file()), reason=f"the real questions are not in {DATA}"),
]


def run_job(root: Path, dataset: str, rows: list[dict[str, Any]]) -> tuple[Path, str]:
    """The main job, untrained, on `rows`, of which every fourth is for validation; the experiment's folder and its output."""
    folder = root / dataset
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps([row for i, row in enumerate(rows) if i % 4]))
    (folder / "validation.json").write_text(json.dumps(rows[::4]))
    command = [
        *(
            sys.executable,
            "-m",
            "jobs.judgment",
            "--preset",
            "world",
            "--name",
            dataset,
            "--experiments-root",
            str(root / "runs"),
        ),
        *("--dataset", dataset, "--data.path", str(folder), "--data.least", "5", "--train.epochs", "0"),
    ]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=590, check=False)
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, output
    assert "Traceback" not in output
    return root / "runs" / dataset, output


def _rows(experiment: Path, stage: str) -> dict[str, dict[str, Any]]:
    """The rows of a stage by their question's id."""
    parts = experiment.glob(f"stages/{stage}-*/part-*.parquet")
    return {row["id"]: row for part in parts for row in pq.read_table(part).to_pylist()}


def share_answered(experiment: Path) -> float:
    """The share with any trial right of the questions that a coin cannot answer; every trial could be graded."""
    questions, grades = _rows(experiment, "questions"), _rows(experiment, "grade")
    assert {len(row["correct"]) for row in grades.values()} == {5}
    assert all(grade is not None for row in grades.values() for grade in row["correct"])
    asked = [row for name, row in grades.items() if not {"yes", "no"} & set(questions[name]["answers"])]
    return sum(any(row["correct"]) for row in asked) / len(asked)


def test_questions_with_long_contexts_are_cut_asked_and_judged(tmp_path: Path) -> None:
    experiment, output = run_job(tmp_path, "hotpotqa", json.loads(HOTPOT.read_text()))
    summary = json.loads((experiment / "summary.json").read_text())
    validation = summary["epochs"][0]["validation"]
    assert (validation["questions"], validation["dropped"]) == (25, 0)
    assert sum(summary["context_cut"].values()) > 90
    assert "contexts cut to fit 256 tokens" in output
    assert "were too long for the model and lost their end" in (experiment / "report.html").read_text()
    assert share_answered(experiment) < 0.02


def test_questions_that_people_asked_are_asked_and_judged(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in NATURAL.read_text().splitlines()[:200]]
    experiment, output = run_job(tmp_path, "nq_open", rows)
    summary = json.loads((experiment / "summary.json").read_text())
    assert summary["epochs"][0]["validation"]["questions"] == 50
    assert summary["context_cut"] == {}
    assert "contexts cut" not in output
    assert share_answered(experiment) < 0.02
