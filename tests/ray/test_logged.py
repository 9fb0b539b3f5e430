"""The main job on logs: nothing is sampled, and the labels are what the files say."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from know_thyself import labeling
from know_thyself.data.logs import Log
from know_thyself.experiment import Experiment
from know_thyself.stages.grading import GRADED, commit_logs
from know_thyself.types import Ability
from tests.ray.runs import Run


def test_logs_take_the_place_of_trials(small_world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "logged"
    folder.mkdir()
    for split, count in (("train", 120), ("validation", 40)):
        rows = [{"question": f"What is {split} {i}?", "num_correct": i % 5, "num_trials": 4 + i % 2} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = Run(tmp_path / "runs", small_world / "model", folder, "--label.source", "logs", "--train.epochs", "1")
    output = run.finish()
    assert "epoch 0: a judgment each" in output
    examined = [row for part in run.parts("examine") for row in pq.read_table(part).to_pylist()]
    assert len(examined) == 2 * 160, "both epochs judge, and neither samples"
    assert {row["trials"] is None for row in examined} == {True}
    graded = [row for part in run.parts("grade") for row in pq.read_table(part).to_pylist()]
    assert len(graded) == 160, "the logs are read once"
    assert {len(row["correct"]) for row in graded} == {4, 5}
    accuracy = {row["id"]: sum(row["correct"]) / len(row["correct"]) for row in graded}
    (table,) = run.path.glob("stages/train-*/examples.parquet")
    taught = pq.read_table(table).to_pylist()
    assert len(taught) == 60
    for row in taught:
        assert row["target"] == pytest.approx([accuracy[row["id"]], 1 - accuracy[row["id"]]])
    said = [(i % 5) / (4 + i % 2) for i in range(40)]
    for epoch in json.loads((run.path / "summary.json").read_text())["epochs"]:
        assert epoch["validation"]["questions"] == 40
        assert epoch["validation"]["qa_accuracy"] == pytest.approx(sum(said) / 40)


def test_the_grades_are_labels_like_those_of_trials(tmp_path: Path) -> None:
    folder = Experiment(tmp_path).stage("grade", {})
    done = commit_logs(folder, {"a": Log(0, 1), "b": Log(3, 5), "c": Log(4, 4)})
    table = folder.read()
    assert (done.num_in, done.num_out, table.schema.names) == (3, 3, GRADED.names)
    labels = [labeling.label(row["id"], row["correct"], labeling.AbilityRule()) for row in table.to_pylist()]
    assert [(label.ability, label.num_correct, label.num_graded) for label in labels if label] == [
        (Ability.CANNOT, 0, 1),
        (Ability.UNCERTAIN, 3, 5),
        (Ability.CAN, 4, 4),
    ]
