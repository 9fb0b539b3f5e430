"""Our evaluation of judges that are not ours, by the two-file recipe, and of two experiments beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from know_thyself.config import RunConfig
from know_thyself.data.scores import read_labels, read_scores
from know_thyself.errors import DataError, StoreError
from know_thyself.evaluation.metrics.discrimination import auroc
from know_thyself.pipelines.foreign import evaluate_files

NUMBER = 400


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    truth = rng.beta(0.5, 0.5, NUMBER)
    scores = [{"question_id": f"q{i}", "confidence": float(p**2)} for i, p in enumerate(truth)]
    labels = [
        {
            "question_id": f"q{i}",
            "num_correct": int(rng.binomial(5, p)),
            "num_trials": 5,
            "split": "calibration" if i % 2 else "validation",
            "group": f"g{i // 4}",
        }
        for i, p in enumerate(truth)
    ]
    return write(tmp_path / "scores.jsonl", scores), write(tmp_path / "labels.jsonl", labels)


def evaluated(tmp_path: Path, scores: Path, labels: Path) -> dict[str, Any]:
    config = RunConfig(experiments_root=tmp_path / "experiments", name="foreign", scores=scores, labels=labels)
    path = evaluate_files(config, scores, labels, Console(quiet=True))
    assert (path.parent / "report.html").stat().st_size > 10_000
    return dict(json.loads(path.read_text()))


def test_scores_of_any_system_are_measured_calibrated_and_given_thresholds(tmp_path: Path, files: tuple[Path, Path]) -> None:
    scores, labels = files
    found = evaluated(tmp_path, scores, labels)
    told, known = read_scores(scores), read_labels(labels)
    asked = [name for name, label in known.items() if label.split == "validation"]
    sure = np.array([told[name] for name in asked])
    event = np.array([known[name].log.num_correct >= 3 for name in asked])
    facts = found["epochs"][0]["validation"]
    assert (facts["questions"], facts["dropped"]) == (NUMBER // 2, 0)
    assert facts["auroc"] == pytest.approx(auroc(sure, event))
    assert facts["mass"] is None
    assert found["calibration"]["ece_after"] < found["calibration"]["ece_before"]
    assert found["calibration"]["n"] == NUMBER // 2
    assert [row["target_accuracy"] for row in found["thresholds"]] == [0.8, 0.9, 0.95, 0.99]
    cut = found["decision"]["threshold"]
    assert found["decision"]["accuracy"] == pytest.approx(np.mean((sure >= cut) == event))
    assert found["decision"]["accuracy"] > facts["judgment_accuracy"], "it was underconfident"
    assert found["ceiling"]["auroc"] > facts["auroc"] - 0.02


def test_rows_of_one_question_add_up_and_parquet_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question_id": ["a", "b"], "confidence": [0.9, 0.1]}), tmp_path / "scores.parquet")
    labels = write(
        tmp_path / "labels.jsonl",
        [{"question_id": name, "correct": right} for name, right in (("a", True), ("a", True), ("b", False), ("c", True))],
    )
    assert read_labels(labels)["a"].log == (2, 2)
    found = evaluated(tmp_path, tmp_path / "scores.parquet", labels)
    assert (found["epochs"][0]["validation"]["questions"], found["epochs"][0]["validation"]["auroc"]) == (2, 1.0)
    assert found["epochs"][0]["validation"]["dropped"] == 1
    assert found["calibration"]["method"] is None
    assert all(row["threshold"] is None for row in found["thresholds"])


@pytest.mark.parametrize(
    ("scores", "labels", "told"),
    [
        ([{"question_id": "a", "confidence": 1.2}], [], "confidence=1.2: give a number from 0 to 1"),
        ([{"question_id": "a", "confidence": "high"}], [], "confidence='high'"),
        ([{"question_id": "a", "confidence": 0.5}] * 2, [], "is there twice"),
        ([{"confidence": 0.5}], [], "give each row the id of its question"),
        ([], [], "holds no row"),
        ([{"question_id": "a", "confidence": 0.5}], [{"question_id": "a"}], "no correct"),
        ([{"question_id": "a", "confidence": 0.5}], [{"question_id": "a", "correct": True, "split": "test"}], "split='test'"),
        ([{"question_id": "a", "confidence": 0.5}], [{"question_id": "b", "correct": True}], "share no question"),
        ([{"question_id": "\ud800", "confidence": 0.5}], [], r"question_id='\\ud800' holds half a character"),
        (
            [{"question_id": "a", "confidence": 0.5}],
            [{"question_id": "a", "correct": True, "group": "g\udfff"}],
            r"group='g\\udfff', which holds half",
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_line(
    tmp_path: Path, scores: list[dict[str, Any]], labels: list[dict[str, Any]], told: str
) -> None:
    with pytest.raises(DataError, match=told) as error:
        evaluated(tmp_path, write(tmp_path / "s.jsonl", scores), write(tmp_path / "l.jsonl", labels))
    assert "\n" not in str(error.value)


def test_the_report_of_an_experiment_is_never_written_over(tmp_path: Path, files: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="give --name"):
        RunConfig(scores=files[0], labels=files[1])
    (tmp_path / "experiments" / "foreign").mkdir(parents=True)
    (tmp_path / "experiments" / "foreign" / "epochs.json").write_text("{}")
    with pytest.raises(StoreError, match="give another --name"):
        evaluated(tmp_path, *files)


def test_one_file_alone_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="go together"):
        RunConfig(scores=tmp_path / "scores.jsonl")
    with pytest.raises(DataError, match="write it as one of them"):
        read_scores(tmp_path / "scores.csv")
