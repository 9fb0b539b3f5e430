"""Two experiments side by side: paired on the questions that both measured, and never on unlike rules by accident."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from know_thyself.cli import app
from know_thyself.config import LabelConfig, RunConfig
from know_thyself.errors import ConfigError, DataError, StoreError
from know_thyself.evaluation.metrics.discrimination import auroc
from know_thyself.evaluation.thresholds import for_accuracy
from know_thyself.experiment import Experiment
from know_thyself.experiment.epochs import EpochStages, write_index
from know_thyself.pipelines.comparing import compare_experiments, comparison_table
from know_thyself.pipelines.wishes import Wish, answer_wishes
from know_thyself.types import Question, Split
from tests.unit.test_export import commit

NUMBER = 240
RIGHT = np.random.default_rng(0).binomial(5, np.random.default_rng(1).beta(0.5, 0.5, NUMBER))


def an_experiment(
    root: Path, name: str, confidence: Sequence[float], first: int = 0, last: int = NUMBER, config: RunConfig | None = None
) -> Experiment:
    """One epoch on the questions from `first` to `last`, two in three for validation, judged with `confidence`."""
    (root / name).mkdir(parents=True)
    experiment = Experiment(root / name, attempt=1)
    (experiment.path / "config.json").write_text("{}")
    asked = range(first, last)
    questions = [
        Question(
            id=f"q{i}",
            text=f"What is {i}?",
            answers=("x",),
            group=f"g{i}",
            split=str(Split.CALIBRATION if i % 3 == 0 else Split.VALIDATION),
        )
        for i in asked
    ]
    judged = [{"id": f"q{i}", "trials": None, "probabilities": [confidence[i], 1 - confidence[i]], "mass": 1.0} for i in asked]
    graded = [{"id": f"q{i}", "correct": [bool(trial < RIGHT[i]) for trial in range(5)]} for i in asked]
    folders = {
        "questions": commit(experiment, "questions", 0, [question.to_row() for question in questions]),
        "graded": commit(experiment, "grade", 0, graded),
        "judged": commit(experiment, "examine", 0, judged),
    }
    names = {stage: folder.path.name for stage, folder in folders.items()}
    write_index(experiment, config or RunConfig(), [EpochStages(epoch=0, sampled=None, trained=None, **names)])
    experiment.summary.write_text(json.dumps({"best_epoch": 0}))
    return experiment


def sharp_and_vague() -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(2)
    return (
        np.clip(RIGHT / 5 + rng.normal(0, 0.2, NUMBER), 0.01, 0.99).tolist(),
        np.clip(RIGHT / 5 + rng.normal(0, 0.6, NUMBER), 0.01, 0.99).tolist(),
    )


def test_differences_are_those_on_the_shared_questions(tmp_path: Path) -> None:
    sharp, vague = sharp_and_vague()
    found = compare_experiments(an_experiment(tmp_path, "vague", vague, first=30), an_experiment(tmp_path, "sharp", sharp))
    shared = [i for i in range(30, NUMBER) if i % 3]
    assert found.questions == len(shared)
    event = RIGHT[shared] >= 3
    expected = [auroc(np.array(confidence)[shared], event) for confidence in (vague, sharp)]
    row = found.differences["auroc"]
    assert (row.first, row.second) == pytest.approx(expected)
    assert row.low is not None
    assert row.high is not None
    assert 0 < row.low < (row.difference or 0) < row.high
    assert found.differences["qa_accuracy"].difference == 0
    assert comparison_table(found).row_count == len(found.differences)


def test_unlike_rules_are_refused_unless_told(tmp_path: Path) -> None:
    sharp, vague = sharp_and_vague()
    first = an_experiment(tmp_path, "half", sharp)
    second = an_experiment(tmp_path, "all", vague, config=RunConfig(label=LabelConfig(uncertain_at=1.0)))
    with pytest.raises(ConfigError, match="give --any-rule"):
        compare_experiments(first, second)
    assert compare_experiments(first, second, any_rule=True).questions == NUMBER * 2 // 3


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    sharp, _ = sharp_and_vague()
    whole, other = an_experiment(tmp_path, "whole", sharp), an_experiment(tmp_path, "other", sharp, first=NUMBER - 3)
    few = an_experiment(tmp_path, "few", sharp, last=3)
    with pytest.raises(DataError, match="share no validation question"):
        compare_experiments(few, other)
    whole.summary.unlink()
    with pytest.raises(StoreError, match="no whole summary"):
        compare_experiments(whole, other)


def test_the_command_prints_the_table(tmp_path: Path) -> None:
    sharp, vague = sharp_and_vague()
    an_experiment(tmp_path, "a", vague)
    an_experiment(tmp_path, "b", sharp)
    result = CliRunner().invoke(app, ["compare", "a", "b", "--experiments-root", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "auroc" in result.output
    assert "shared validation questions" in result.output


def test_wishes_are_answered_from_the_calibration_questions(tmp_path: Path) -> None:
    sharp, vague = sharp_and_vague()
    experiment = an_experiment(tmp_path, "sharp", sharp)
    wish = Wish(accuracy=0.8, coverage=0.4, wrong=10.0, escalation=1.0)
    accuracy, coverage, cost = answer_wishes(experiment, wish)
    learned = [i for i in range(NUMBER) if i % 3 == 0]
    found = for_accuracy(np.array(sharp)[learned], RIGHT[learned] >= 3, 0.8)
    assert found.accuracy is not None
    assert f"{found.accuracy:.1%} right" in accuracy
    assert coverage.startswith("40% answered, at 95% confidence: p_correct >= 0.")
    assert cost.startswith("least cost: p_correct >= 0.900; on validation ")
    hopeless = Wish(accuracy=0.999, coverage=None, wrong=None, escalation=1.0)
    (told,) = answer_wishes(an_experiment(tmp_path, "vague", vague), hopeless)
    assert "not reachable at 95% confidence: best is " in told
    with pytest.raises(ConfigError, match="is no share"):
        Wish(accuracy=90, coverage=None, wrong=None, escalation=1.0)
