"""Questions that are not the world's through the main job, on the world's model: it knows none, says so, and nothing breaks.

Real questions where there are any on this machine; elsewhere invented ones in HotpotQA's layout.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.behaviour.invented import hotpot_rows
from tests.conftest import PATIENCE

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
HOTPOT, NATURAL = DATA / "hotpotqa_distractor_100.json", DATA / "nq_open_dev.jsonl"

has_real_data = HOTPOT.is_file() and NATURAL.is_file()
real_data = pytest.mark.skipif(not has_real_data, reason=f"the real questions are not in {DATA}")
invented_data = pytest.mark.skipif(has_real_data, reason=f"the real questions are in {DATA}")


def run_job(root: Path, dataset: str, rows: list[dict[str, Any]]) -> tuple[Path, str]:
    """The main job, untrained, on `rows`, of which every fourth is for validation; the experiment's folder and its output."""
    folder = root / dataset
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps([row for i, row in enumerate(rows) if i % 4]))
    (folder / "validation.json").write_text(json.dumps(rows[::4]))
    command = [
        *(sys.executable, "-m", "jobs.judgment", "--preset", "world", "--name", dataset),
        *("--experiments-root", str(root / "runs"), "--dataset", dataset, "--data.path", str(folder)),
        *("--data.least", "5", "--train.epochs", "0", "--no-evidence.baselines"),
    ]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
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


def check_cut(experiment: Path, output: str, validation: int, least_cut: int) -> None:
    """All contexts but a few were cut, the run says so, and all validation questions were asked and judged."""
    summary = json.loads((experiment / "summary.json").read_text())
    facts = summary["epochs"][0]["validation"]
    assert (facts["questions"], facts["dropped"]) == (validation, 0)
    assert sum(summary["context_cut"].values()) >= least_cut
    assert "contexts cut to fit 256 tokens" in output
    assert "were too long for the model and lost their end" in (experiment / "report.html").read_text()


@invented_data
def test_invented_questions_with_long_contexts_are_cut_asked_and_judged(tmp_path: Path) -> None:
    rows = hotpot_rows()
    experiment, output = run_job(tmp_path, "hotpotqa", rows)
    check_cut(experiment, output, validation=5, least_cut=len(rows))
    asked = _rows(experiment, "questions")
    assert {row["id"]: row["question"] for row in rows} == {name: row["text"] for name, row in asked.items()}
    assert all(50 < len(row["context"]) < 800 for row in asked.values())
    assert {len(row["correct"]) for row in _rows(experiment, "grade").values()} == {5}


@real_data
def test_questions_with_long_contexts_are_cut_asked_and_judged(tmp_path: Path) -> None:
    experiment, output = run_job(tmp_path, "hotpotqa", json.loads(HOTPOT.read_text()))
    check_cut(experiment, output, validation=25, least_cut=91)
    assert share_answered(experiment) < 0.02


@real_data
def test_questions_that_people_asked_are_asked_and_judged(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in NATURAL.read_text().splitlines()[:200]]
    experiment, output = run_job(tmp_path, "nq_open", rows)
    summary = json.loads((experiment / "summary.json").read_text())
    assert summary["epochs"][0]["validation"]["questions"] == 50
    assert summary["context_cut"] == {}
    assert "contexts cut" not in output
    assert share_answered(experiment) < 0.02
