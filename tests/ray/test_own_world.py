"""A world with paragraphs and several spellings, asked by the main job and graded by a grader of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.table import Table

from know_thyself.experiment import Experiment
from know_thyself.world.build import build_world
from know_thyself.world.describe import describe_world
from tests.conftest import SMALL_WORLD
from tests.ray.runs import Run, write_own_grader

pytestmark = pytest.mark.slow

VARIANT = SMALL_WORLD.model_copy(update={"context": 0.5, "spellings": 2, "steps": 10})
TRIALS = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("variant")
    build_world(VARIANT, out)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Run:
    """The fake engine on that world, started in a folder that holds the grader."""
    root = tmp_path_factory.mktemp("root")
    own = ("--grader", write_own_grader(root), "--sampling.num-trials", str(TRIALS))
    run = Run(root, world / "model", world / "questions", *own, "--train.epochs", "0", folder=root)
    assert f"epoch 0: {TRIALS} answers and a judgment each" in run.finish()
    return run


def rows(run: Run, stage: str) -> list[dict[str, Any]]:
    return [row for part in run.parts(stage) for row in pq.read_table(part).to_pylist()]


def total(table: Table, header: str) -> int:
    (column,) = (column for column in table.columns if column.header == header)
    return sum(int(str(cell)) for cell in column.cells)


def test_questions_come_with_their_paragraphs_and_spellings(run: Run) -> None:
    asked = rows(run, "questions")
    assert {len(question["answers"]) for question in asked} == {2}
    told = [question["context"] for question in asked if question["context"]]
    assert len(told) / len(asked) == pytest.approx(VARIANT.context, abs=0.1)
    assert json.loads((run.path / "summary.json").read_text())["context_cut"] == {}


def test_the_own_grader_decides_in_the_workers(run: Run) -> None:
    """It accepts what the fake engine says where that knows the answer, which no question of a world does."""
    answers = {question["id"]: question["answers"] for question in rows(run, "questions")}
    trials = {row["id"]: [trial["text"] for trial in row["trials"]] for row in rows(run, "examine")}
    graded = rows(run, "grade")
    assert len(graded) == len(answers)
    for row in graded:
        assert row["correct"] == [text.startswith("value ") for text in trials[row["id"]]]
        assert len(row["correct"]) == TRIALS
        assert {matched for matched in row["matched"] if matched} <= {answers[row["id"]][0]}
    assert {sum(row["correct"]) for row in graded} == set(range(TRIALS + 1))
    config = json.loads((run.path / "config.json").read_text())
    assert config["grader"] == "own_grader:grade"


def test_a_world_is_described_by_the_run_on_it(run: Run, world: Path) -> None:
    counts, known = describe_world(world, Experiment(run.path))
    assert total(known, "questions") == total(counts, "facts") == len(rows(run, "grade"))
    assert known.row_count > 3
    assert "exposure predicts all with AUROC 0." in str(known.caption)
