"""A judge that is measured on other questions than its own, and one epoch trained alone; the engines are stood in for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from know_thyself.compute.room import Room
from know_thyself.compute.tables import write_part
from know_thyself.config import LabelConfig, RunConfig, TrainConfig
from know_thyself.data.logs import Log
from know_thyself.data.splits import Questions
from know_thyself.errors import ConfigError
from know_thyself.evaluation.calibration import ClassMap
from know_thyself.judge import JudgeCard
from know_thyself.pipelines import alone
from know_thyself.pipelines.bench import Bench, Result
from know_thyself.pipelines.judges import FoundJudge
from know_thyself.stages.examining import EXAMINED
from know_thyself.types import LabelMode, ModelRef, PromptStyle, Question, Split
from tests.ray.benches import bench_of

PER_SPLIT = 12
TRIALS = 4
SHARES = {LabelMode.BINARY: [0.75, 0.25], LabelMode.UNCERTAINTY: [0.5, 0.25, 0.25]}


@pytest.fixture(autouse=True)
def answerers(monkeypatch: pytest.MonkeyPatch) -> list[ModelRef | None]:
    """Who was asked for answers, while every judgment is the same."""
    asked: list[ModelRef | None] = []

    def examine(bench: Bench, title: str, questions: Result, **models: Any) -> Result:
        asked.append(models["answerer"])
        began = time.monotonic()
        folder = bench.experiment.stage("examine", {"time": len(asked)}, [questions.done])
        rows = [
            {"id": question.id, "trials": None, "probabilities": SHARES[bench.config.label_mode], "mass": 1.0}
            for question in bench.questions.questions
        ]
        write_part(folder, pa.Table.from_pylist(rows, schema=EXAMINED))
        return Result(folder, folder.commit_table(num_in=len(rows), num_dropped={}, began=began))

    monkeypatch.setattr(Bench, "examine", examine)
    return asked


def a_bench(root: Path, **settings: Any) -> Bench:
    """A bench whose questions come with logs: of `TRIALS`, 0, 1, 2, ... are right in turn."""
    questions = tuple(
        Question(id=f"{split}-{i}", text=f"What is {split} {i}?", answers=(), group=f"{split}-{i}", split=str(split))
        for split in Split
        for i in range(PER_SPLIT)
    )
    logs = {question.id: Log(i % (TRIALS + 1), TRIALS) for i, question in enumerate(questions)}
    config = RunConfig(experiments_root=root, name="run", label=LabelConfig(source="logs"), **settings)
    return bench_of(root, Questions(questions=questions, dropped={}, logs=logs), config)


def a_judge(bench: Bench, calibration: ClassMap | None = None) -> FoundJudge:
    card = JudgeCard(
        experiment="other",
        epoch=2,
        tuning=bench.config.tuning,
        base="none",
        base_digest="none",
        prompt_version="1",
        prompt_style=PromptStyle.SYSTEM,
        label_mode=bench.config.label_mode,
        verdict_words=("yes", "no"),
        verdict_tokens=(0, 1),
        prefill="",
        encoding="none",
        event="k/n >= 0.5",
        label_rule="can >= 1, uncertain >= 0.5",
        decoding={},
        calibration=calibration,
    )
    return FoundJudge(folder=bench.experiment.path / "no-weights", card=card, stale=False)


def measured(bench: Bench, judge: FoundJudge) -> dict[str, Any]:
    return dict(json.loads(alone.evaluate(bench, judge).read_text())["splits"]["validation"])


def accuracies(bench: Bench) -> list[float]:
    return [
        log.num_correct / log.num_trials for log in (bench.questions.logs[q.id] for q in bench.questions.of(Split.VALIDATION))
    ]


def test_three_verdicts_are_measured_by_the_map_that_the_judge_brings(tmp_path: Path) -> None:
    bench = a_bench(tmp_path, label_mode=LabelMode.UNCERTAINTY)
    brought = ClassMap.of((1.0, 1.0, 0.6), "calibration", 300)
    expected = float(brought.forecast(np.array(SHARES[LabelMode.UNCERTAINTY])))
    facts = measured(bench, a_judge(bench, brought))
    assert facts["brier"] == pytest.approx(np.mean([(expected - share) ** 2 for share in accuracies(bench)]))
    assert measured(bench, a_judge(bench))["brier"] is None, "none is fitted on these questions"


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_what_logs_say_is_not_asked_again_whatever_was_tuned(
    tmp_path: Path, tuning: str, answerers: list[ModelRef | None]
) -> None:
    bench = a_bench(tmp_path, tuning=tuning)
    facts = measured(bench, a_judge(bench))
    assert facts["qa_accuracy"] == pytest.approx(np.mean(accuracies(bench)))
    assert set(answerers) == {None}


@pytest.mark.parametrize(("start", "epochs"), [(1, 0), (4, 3)])
def test_an_epoch_beyond_the_schedule_is_not_trained(tmp_path: Path, start: int, epochs: int) -> None:
    bench = a_bench(tmp_path, start_epoch=start, train=TrainConfig(epochs=epochs))
    with pytest.raises(ConfigError, match=f"start-epoch={start} names no epoch to train, with train.epochs={epochs}"):
        alone.train(bench)


def test_an_epoch_without_examples_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = a_bench(tmp_path, train=TrainConfig(select="wrong"))
    monkeypatch.setattr("know_thyself.pipelines.rounds.select_examples", lambda *_: [])
    monkeypatch.setattr(Room, "for_training", lambda *_: None)  # there is no cluster
    with pytest.raises(ConfigError, match=r"leaves train\.select=wrong nothing to learn: use --train.select all"):
        alone.train(bench)
