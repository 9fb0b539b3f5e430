"""The export: the prototype's files from an experiment's tables, every question in each, nothing missing in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from know_thyself.cli import app
from know_thyself.config import LabelConfig, RunConfig
from know_thyself.errors import StoreError
from know_thyself.experiment import MARKER, Experiment, StageFolder
from know_thyself.experiment.epochs import EpochStages, committed_stage, read_index, write_index
from know_thyself.pipelines.export import export_jsonl
from know_thyself.types import Finish, Question, Split

SPLITS = {"a": Split.TRAIN, "b": Split.DEV, "c": Split.CALIBRATION, "d": Split.VALIDATION}
QUESTIONS = [
    Question(id=name, text=f"What is {name}?", answers=(f"é{name}", name), context="long", group=name, split=str(split))
    for name, split in SPLITS.items()
]
FROZEN = {"responses.jsonl", "val_responses.jsonl"} | {
    f"{prefix}tested_epoch{epoch}.jsonl" for prefix in ("", "val_") for epoch in (0, 1)
}


def commit(
    experiment: Experiment, stage: str, version: int, rows: list[dict[str, Any]], schema: pa.Schema = None
) -> StageFolder:
    folder = experiment.stage(stage, {"version": version})
    folder.path.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder.path / "part-0.parquet")
    folder.commit_table(num_in=len(rows), num_dropped={}, began=0.0)
    return folder


def examined(experiment: Experiment, version: int, can: float, trials: str | None) -> StageFolder:
    """All questions judged `can`, "c" unreadable; two trials each that say `trials`, or none."""
    trial = {"index": 0, "seed": 0, "text": trials, "finish": str(Finish.STOP), "num_tokens": 1}
    rows: list[dict[str, Any]] = [
        {"id": name, "trials": [trial, trial] if trials else None, "probabilities": [can, 1 - can], "mass": 1.0}
        for name in SPLITS
    ]
    rows[2] |= {"probabilities": None, "mass": None}
    return commit(experiment, "examine", version, rows)


def graded(experiment: Experiment, version: int, grades: dict[str, list[bool | None]]) -> StageFolder:
    rows = [{"id": name, "correct": correct, "matched": [None, None]} for name, correct in grades.items()]
    return commit(experiment, "grade", version, rows)


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    path = tmp_path / "experiments" / "mine"
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return Experiment(path, attempt=1)


def a_run(experiment: Experiment, *, recollected: bool) -> list[EpochStages]:
    """Two epochs with their stages; the answerer is frozen unless `recollected`."""
    questions = commit(experiment, "questions", 0, [question.to_row() for question in QUESTIONS])
    first = examined(experiment, 0, 0.9, "old")
    grades = graded(experiment, 0, {"a": [True, True], "b": [True, False], "c": [False, False], "d": [True, None]})
    second = examined(experiment, 1, 0.2, "new" if recollected else None)
    again = graded(experiment, 1, {name: [False, False] for name in SPLITS}) if recollected else grades
    epochs = [
        EpochStages(
            epoch=epoch,
            questions=questions.path.name,
            sampled=sampled.path.name,
            graded=marks.path.name,
            judged=judged.path.name,
            trained=trained,
        )
        for epoch, sampled, marks, judged, trained in (
            (0, first, grades, first, None),
            (1, second if recollected else first, again, second, "train-0123456789ab"),
        )
    ]
    write_index(experiment, RunConfig(), epochs)
    return epochs


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_index_is_read_as_it_was_written(experiment: Experiment) -> None:
    epochs = a_run(experiment, recollected=True)
    write_index(experiment, RunConfig(label=LabelConfig(can_at=0.9, uncertain_at=0.4)), epochs)
    index = read_index(experiment)
    assert list(index.epochs) == epochs
    assert (index.rule.can_at, index.rule.uncertain_at, index.mode) == (0.9, 0.4, "binary")


def test_a_frozen_answerer_has_one_file_of_answers(experiment: Experiment, tmp_path: Path) -> None:
    a_run(experiment, recollected=False)
    written = export_jsonl(experiment, tmp_path / "out")
    assert {path.name for path in written} == {path.name for path in (tmp_path / "out").iterdir()} == FROZEN
    assert read(tmp_path / "out" / "responses.jsonl") == [
        {
            "id": name,
            "split": SPLITS[name],
            "question": f"What is {name}?",
            "answers": [f"é{name}", name],
            "responses": ["old", "old"],
            "num_correct": num_correct,
            "num_trials": 2,
            "ability": ability,
        }
        for name, num_correct, ability in (("a", 2, "can"), ("b", 1, "uncertain"), ("c", 0, "cannot"))
    ]
    assert "é" in (tmp_path / "out" / "responses.jsonl").read_text(), "for eyes, not for escapes"


def test_what_could_not_be_graded_or_read_is_null(experiment: Experiment, tmp_path: Path) -> None:
    a_run(experiment, recollected=False)
    export_jsonl(experiment, tmp_path)
    ungraded = read(tmp_path / "val_responses.jsonl")
    assert [(row["num_correct"], row["num_trials"], row["ability"]) for row in ungraded] == [(None, 2, None)]
    tested = {row["id"]: row for row in read(tmp_path / "tested_epoch0.jsonl") + read(tmp_path / "val_tested_epoch0.jsonl")}
    told = {name: (row["ability"], row["verdict"], row["confidence"], row["correct"]) for name, row in tested.items()}
    assert told == {
        "a": ("can", "can", 0.9, True),
        "b": ("uncertain", "can", 0.9, True),
        "c": ("cannot", None, None, None),
        "d": (None, "can", 0.9, None),
    }
    assert [row["correct"] for row in read(tmp_path / "tested_epoch1.jsonl")] == [False, False, None]


def test_answers_that_training_changed_have_files_of_their_own(experiment: Experiment, tmp_path: Path) -> None:
    a_run(experiment, recollected=True)
    written = {path.name for path in export_jsonl(experiment, tmp_path / "out")}
    assert written == FROZEN | {"responses_epoch1.jsonl", "val_responses_epoch1.jsonl"}
    assert [row["responses"] for row in read(tmp_path / "out" / "responses_epoch1.jsonl")] == [["new", "new"]] * 3
    tested = read(tmp_path / "out" / "tested_epoch1.jsonl")
    assert [(row["ability"], row["correct"]) for row in tested] == [("cannot", True), ("cannot", True), ("cannot", None)]


def test_files_of_epochs_that_are_no_more_are_not_left_among_the_new(experiment: Experiment, tmp_path: Path) -> None:
    epochs = a_run(experiment, recollected=False)
    export_jsonl(experiment, tmp_path / "out")
    (tmp_path / "out" / "notes.jsonl").write_text("mine")
    write_index(experiment, RunConfig(), epochs[:1])
    with pytest.raises(StoreError, match=r"out holds tested_epoch1.jsonl, val_tested_epoch1.jsonl of another export"):
        export_jsonl(experiment, tmp_path / "out")
    write_index(experiment, RunConfig(), epochs)
    export_jsonl(experiment, tmp_path / "out")


def test_labels_from_logs_have_counts_and_no_answers(experiment: Experiment, tmp_path: Path) -> None:
    epochs = [EpochStages(**{**row.to_row(), "sampled": None}) for row in a_run(experiment, recollected=False)]
    write_index(experiment, RunConfig(), epochs)
    export_jsonl(experiment, tmp_path)
    rows = read(tmp_path / "responses.jsonl")
    assert [(row["responses"], row["num_correct"]) for row in rows] == [(None, 2), (None, 1), (None, 0)]


@pytest.mark.parametrize("field", ["questions", "sampled", "graded", "judged"])
def test_a_missing_stage_is_told_and_nothing_is_written(experiment: Experiment, tmp_path: Path, field: str) -> None:
    epochs = a_run(experiment, recollected=True)
    gone = experiment.path / "stages" / getattr(epochs[1], field)
    (gone / MARKER).unlink()
    with pytest.raises(StoreError, match=f"{gone.name} is not there or was never finished: run the command of mine again"):
        export_jsonl(experiment, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_stage_is_told(experiment: Experiment) -> None:
    epochs = a_run(experiment, recollected=False)
    path = experiment.path / "stages" / epochs[0].judged
    with (path / "part-0.parquet").open("ab") as part:
        part.write(b"x")
    with pytest.raises(StoreError, match=r"part-0.parquet is not as it was committed"):
        committed_stage(experiment, path.name)
    (path / MARKER).write_text("{")
    with pytest.raises(StoreError, match=r"_DONE.json is not as it was committed: move .* away"):
        committed_stage(experiment, path.name)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "epochs": 3, "label_mode": "x"}']
)
def test_an_index_that_cannot_be_read_is_told(experiment: Experiment, content: str) -> None:
    experiment.epochs.write_text(content)
    with pytest.raises(StoreError, match=r"epochs.json cannot be read .*: run the command of mine again"):
        read_index(experiment)


def test_the_command_writes_beside_the_experiment_and_names_its_files(experiment: Experiment) -> None:
    a_run(experiment, recollected=False)
    root = str(experiment.path.parent)
    told = CliRunner().invoke(app, ["export", "mine", "--format", "jsonl", "--experiments-root", root])
    assert told.exit_code == 0, told.output
    assert {Path(line).name for line in told.output.split()} == FROZEN
    assert (experiment.path / "export" / "val_tested_epoch1.jsonl").is_file()
    assert CliRunner().invoke(app, ["export", "mine", "--format", "csv", "--experiments-root", root]).exit_code == 2


def test_an_experiment_without_an_index_says_how_to_get_one(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"mine has no epochs.json yet: run the command of mine again"):
        export_jsonl(experiment, tmp_path)
