"""Full fine-tuning: the answers are collected anew, both sets of labels are reported, and the judge brings its own weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from know_thyself.experiment import Experiment
from know_thyself.judge import MODEL, read_judge
from know_thyself.pipelines.export import export_jsonl
from tests.conftest import write_fake_questions
from tests.ray.runs import Run

PER_EPOCH = {"examine": 2, "grade": 2, "train": 1, "questions": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Run:
    root = tmp_path_factory.mktemp("full")
    questions = write_fake_questions(root / "questions", train=200, validation=80)
    run = Run(root, small_world / "model", questions, "--tuning", "full", "--train.epochs", "1")
    run.finish()
    return run


def test_every_epoch_collects_its_answers_anew(run: Run) -> None:
    stages = [marker.parent.name.partition("-")[0] for marker in run.path.glob("stages/*/_DONE.json")]
    assert {stage: stages.count(stage) for stage in set(stages)} == PER_EPOCH


def test_both_sets_of_labels_are_reported(run: Run) -> None:
    untrained, trained = json.loads((run.path / "summary.json").read_text())["epochs"]
    added = {name for name in trained["validation"] if name not in untrained["validation"]}
    assert added == {
        *("qa_change", "qa_change_low", "qa_change_high", "judgment_accuracy_frozen"),
        *("auroc_frozen", "auroc_low_frozen", "auroc_high_frozen"),
    }
    change = trained["validation"]["qa_accuracy"] - untrained["validation"]["qa_accuracy"]
    assert trained["validation"]["qa_change"] == pytest.approx(change)


def test_the_judge_is_a_model_of_its_own(run: Run) -> None:
    summary = json.loads((run.path / "summary.json").read_text())
    card = read_judge(run.path / "judge")
    assert (card.tuning, card.epoch) == ("full", summary["best_epoch"])
    assert (run.path / "judge" / MODEL / "model.safetensors").is_file() == (card.epoch > 0)


def test_answers_of_every_epoch_are_exported_under_the_prototype_s_names(run: Run, tmp_path: Path) -> None:
    written = {path.name: path for path in export_jsonl(Experiment(run.path), tmp_path)}
    names = {"responses.jsonl", "responses_epoch1.jsonl", "tested_epoch0.jsonl", "tested_epoch1.jsonl"}
    assert set(written) == names | {f"val_{name}" for name in names}
    rows = [json.loads(line) for line in written["val_responses_epoch1.jsonl"].read_text().splitlines()]
    assert len(rows) == 80
    assert {len(row["responses"]) for row in rows} == {5}
