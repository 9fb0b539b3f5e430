"""The main job with three verdicts, from the questions to the judge that is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from know_thyself.client.local import LocalJudge
from know_thyself.config import EngineConfig
from know_thyself.evaluation.calibration import ClassMap
from know_thyself.judge import read_judge
from know_thyself.types import LabelMode
from tests.conftest import write_fake_questions
from tests.ray.runs import FAKE, Run

TRAIN, VALIDATION = 480, 160


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Run:
    questions = write_fake_questions(tmp_path_factory.mktemp("data") / "questions", TRAIN, VALIDATION)
    flags = ("--label-mode", "uncertainty", "--train.epochs", "1", "--train.select", "weighted")
    two_engines = ("--engine.actors-min", "2", "--engine.actors-max", "2")
    run = Run(tmp_path_factory.mktemp("root"), small_world / "model", questions, *flags, *two_engines)
    run.finish()
    return run


@pytest.fixture(scope="module")
def epochs(run: Run) -> list[dict[str, Any]]:
    return list(json.loads((run.path / "summary.json").read_text())["epochs"])


def test_both_examinations_had_both_their_engines(run: Run) -> None:
    assert len(list(run.path.glob("logs/attempt_1/engine-*.log"))) == 4


def test_every_split_is_scored_in_three_classes(epochs: list[dict[str, Any]]) -> None:
    assert [row["epoch"] for row in epochs] == [0, 1]
    for facts in (row[split] for row in epochs for split in ("train", "dev", "validation")):
        matrix = np.array(facts["confusion"])
        assert matrix.shape == (3, 3)
        assert matrix.sum() == facts["questions"]
        assert facts["judgment_accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
        assert facts["auroc"] == facts["auroc_all_correct"] == facts["auroc_can"]
        assert facts["macro_f1"] > facts["majority_macro_f1"]
        assert facts["undefined"] == {}


def test_it_trains_on_the_odds_of_each_class(run: Run) -> None:
    (table,) = run.path.glob("stages/train-*/examples.parquet")
    targets = np.array(pq.read_table(table)["target"].to_pylist())
    assert targets.shape[1] == 3
    np.testing.assert_allclose(targets.sum(axis=1), 1)
    assert len(np.unique(targets, axis=0)) == 6, "one target for each number of right trials of five"
    assert ((targets > 0) & (targets < 1)).all()


def test_the_judge_keeps_its_map_and_tells_the_accuracy_to_expect(run: Run, epochs: list[dict[str, Any]]) -> None:
    card = read_judge(run.path / "judge")
    assert (card.label_mode, card.event) == (LabelMode.UNCERTAINTY, "k/n == 1")
    assert card.verdict_words == ("yes", "uncertain", "no")
    assert isinstance(card.calibration, ClassMap)
    can, uncertain, cannot = card.calibration.weights
    assert can > uncertain > cannot
    assert (card.calibration.fitted_on, card.calibration.n) == ("calibration", 48)
    texts = [f"What is validation thing number {i}?" for i in range(40)]
    with LocalJudge(run.path / "judge", EngineConfig(backend=FAKE)) as judge:
        opinions = judge.judge_many(texts)
    assert {opinion.verdict.value for opinion in opinions} == {"can", "uncertain", "cannot"}
    expected = [opinion.p_correct for opinion in opinions]
    assert all(value is not None and 0 <= value <= 1 for value in expected)
    assert np.corrcoef([opinion.confidence for opinion in opinions], np.array(expected, dtype=float))[0, 1] > 0.8
    assert epochs[card.epoch]["validation"]["brier"] is not None


def test_the_report_shows_the_three_classes(run: Run) -> None:
    text = (run.path / "report.html").read_text()
    assert "claimed uncertain" in text
    assert text.count("<svg") == 5
