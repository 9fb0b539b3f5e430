"""Full fine-tuning: the answers are collected anew, both sets of labels are reported, and the judge brings its own weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from know_thyself.digests import digest_file
from know_thyself.experiment import Experiment
from know_thyself.judge import MODEL, read_judge
from know_thyself.pipelines.export import export_jsonl
from know_thyself.testing import forgets
from tests.conftest import write_fake_questions
from tests.ray.runs import Run

PER_EPOCH = {"examine": 2, "grade": 2, "train": 1, "questions": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Run:
    root = tmp_path_factory.mktemp("full")
    questions = write_fake_questions(root / "questions", train=200, validation=80)
    with (questions / "train.jsonl").open("a") as file:
        file.write(json.dumps({"id": "long", "question": "why " * 1100, "answers": ["x"], "group": "long"}) + "\n")
    run = Run(root, small_world / "model", questions, "--tuning", "full", "--train.epochs", "1", "--train.workers", "2")
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
    assert change < 0
    assert trained["validation"]["auroc"] != trained["validation"]["auroc_frozen"]


def test_the_answers_collected_anew_are_those_of_the_tuned_model(run: Run) -> None:
    first, again = (right_trials(run, epoch) for epoch in (0, 1))
    text = {row["id"]: row["text"] for row in rows_of(run, stages_of(run, 0)["questions"])}
    assert again == {name: 0 if forgets(text[name]) else count for name, count in first.items()}
    assert sum(again.values()) < sum(first.values())


def right_trials(run: Run, epoch: int) -> dict[str, int]:
    """Right trials by question, in the grades that the labels of `epoch` come from."""
    return {row["id"]: sum(filter(None, row["correct"])) for row in rows_of(run, stages_of(run, epoch)["graded"])}


def stages_of(run: Run, epoch: int) -> dict[str, str]:
    return dict(json.loads((run.path / "epochs.json").read_text())["epochs"][epoch])


def rows_of(run: Run, stage: str) -> list[dict[str, Any]]:
    return [row for part in (run.path / "stages" / stage).glob("part-*.parquet") for row in pq.read_table(part).to_pylist()]


def test_a_question_too_long_to_judge_is_counted_with_its_reason(run: Run) -> None:
    assert json.loads((run.path / "summary.json").read_text())["dropped"] == {"too long to judge": 1}
    assert "too long to judge" in (run.path / "report.html").read_text()


def test_the_judge_is_a_model_of_its_own(run: Run) -> None:
    card = read_judge(run.path / "judge")
    assert (card.tuning, card.epoch) == ("full", 1)
    assert digest_file(run.path / "judge" / MODEL / "model.safetensors") == digest_file(
        run.path / "stages" / str(stages_of(run, 1)["trained"]) / MODEL / "model.safetensors"
    )


def test_both_training_workers_were_at_work(run: Run) -> None:
    logs = {log.name for log in (run.path / "logs" / "attempt_1").iterdir()}
    assert {"train-epoch1-rank0.log", "train-epoch1-rank1.log"} <= logs


def test_answers_of_every_epoch_are_exported_under_the_prototype_s_names(run: Run, tmp_path: Path) -> None:
    written = {path.name: path for path in export_jsonl(Experiment(run.path), tmp_path)}
    names = {"responses.jsonl", "responses_epoch1.jsonl", "tested_epoch0.jsonl", "tested_epoch1.jsonl"}
    assert set(written) == names | {f"val_{name}" for name in names}
    rows = [json.loads(line) for line in written["val_responses_epoch1.jsonl"].read_text().splitlines()]
    assert len(rows) == 80
    assert {len(row["responses"]) for row in rows} == {5}
