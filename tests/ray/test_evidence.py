"""The evidence of a whole run on a cluster: what summary.json says beside its epochs, and what the report shows of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from know_thyself.client.local import LocalJudge
from know_thyself.config import EngineConfig
from know_thyself.evaluation.baselines import BASELINES
from know_thyself.judge import read_judge
from tests.conftest import write_fake_questions
from tests.ray.runs import FAKE, Run

TRAIN, VALIDATION = 360, 120


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Run:
    root = tmp_path_factory.mktemp("root")
    questions = write_fake_questions(root / "questions", TRAIN, VALIDATION)
    scores = [{"question_id": f"validation-{i}", "confidence": (i % 7) / 7} for i in range(VALIDATION)]
    (root / "popularity.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    told = ("--evidence.baselines", "--evidence.scores", f"popularity={root / 'popularity.jsonl'}")
    run = Run(root, small_world / "model", questions, "--train.epochs", "0", "--no-examples", *told)
    run.finish()
    return run


@pytest.fixture(scope="module")
def summary(run: Run) -> dict[str, Any]:
    return dict(json.loads((run.path / "summary.json").read_text()))


def test_every_baseline_is_measured_beside_the_judge(summary: dict[str, Any]) -> None:
    compared = summary["baselines"]
    assert compared.keys() == BASELINES.keys() | {"popularity"}
    for name, row in compared.items():
        # A model that knows nothing states no numbers.
        if name != "verbalised":
            assert row["auroc"] is not None, (name, row["reason"])
            assert row["questions"] == VALIDATION
            assert row["delta_low"] <= row["delta"] <= row["delta_high"]
    assert compared["untrained-judge"]["delta"] == 0
    assert compared["agreement"]["tokens"] == 15
    assert compared["p-true"]["relative_latency"] > compared["linear-probe"]["relative_latency"] == 1
    assert summary["audit"]["baseline"] in BASELINES
    assert summary["audit"]["verdict"]


def test_ceiling_calibration_and_thresholds_are_there(run: Run, summary: dict[str, Any]) -> None:
    assert 0.5 < summary["epochs"][0]["validation"]["auroc"] <= summary["ceiling"]["auroc_high"]
    assert 0 < summary["ceiling"]["fraction"] < 1.1
    card = read_judge(run.path / "judge")
    assert card.calibration is not None
    assert summary["calibration"]["id"] == card.calibration.id
    assert summary["calibration"]["method"] == card.calibration.method
    assert summary["calibration"]["ece_after"] == pytest.approx(summary["epochs"][0]["validation"]["ece"])
    assert [row["target_accuracy"] for row in summary["thresholds"]] == [0.8, 0.9, 0.95, 0.99]
    assert list(card.thresholds) == summary["thresholds"]
    assert card.reference is not None
    assert card.reference.n == card.calibration.n


def test_the_judge_tells_what_to_expect(run: Run) -> None:
    with LocalJudge(run.path / "judge", EngineConfig(backend=FAKE)) as judge:
        opinions = judge.judge_many([f"What is validation thing number {i}?" for i in range(20)])
    ranked = sorted(opinions, key=lambda opinion: opinion.confidence)
    expected = [opinion.p_correct for opinion in ranked]
    assert None not in expected
    assert expected == sorted(expected, key=float)  # type: ignore[arg-type]  # none is None


def test_the_model_is_read_once_and_report_and_card_hold_no_question(run: Run) -> None:
    (probed,) = run.path.glob("stages/probe-*")
    rows = [row for part in probed.glob("part-*.parquet") for row in pq.read_table(part, columns=["id"]).to_pylist()]
    calibration = 36
    assert len(rows) == TRAIN - calibration + VALIDATION
    page = (run.path / "report.html").read_text()
    card = (run.path / "judge" / "README.md").read_text()
    for text in (page, card):
        assert "thing number" not in text
        assert "than the question reveals" in text or "The question reveals more" in text
    assert "popularity" in page
    assert "Confident and wrong" not in page
