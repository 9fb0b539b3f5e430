"""The dry run: it foretells questions and tokens, and leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from know_thyself import prompts
from know_thyself.config import CostConfig, DataConfig, RunConfig, SamplingConfig, TrainConfig
from know_thyself.data.sources import load
from know_thyself.errors import DataError
from know_thyself.experiment import write_experiment
from know_thyself.pipelines.dry_run import CHARACTERS_PER_TOKEN, dry_run


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    folder = tmp_path / "questions"
    folder.mkdir()
    for split, count in (("train", 60), ("validation", 20)):
        rows = [{"question": f"Who is {split} {i:03d}?", "answers": ["a"], "context": "c" * 12} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, [*rows, rows[0], {"question": "?"}])))
    return RunConfig(
        experiments_root=tmp_path / "experiments",
        dataset=str(folder),
        data=DataConfig(least=1, num_validation=15),
        sampling=SamplingConfig(num_trials=3, max_tokens=8),
        train=TrainConfig(epochs=2, passes=2),
    )


def test_it_counts_what_a_run_would_ask_and_drop(config: RunConfig, tmp_path: Path) -> None:
    told = dry_run(config)
    assert told["questions"] == {"train": 48, "dev": 6, "calibration": 6, "validation": 15}
    assert told["dropped"] == {"no answer": 2, "merged duplicate": 2, "not drawn": 5}
    assert told["stages_done"] == []
    assert json.loads(json.dumps(told))["config"]["seed"] == 0
    assert not (tmp_path / "experiments").exists()


def test_its_tokens_are_those_of_every_pass(config: RunConfig) -> None:
    told: dict[str, Any] = dry_run(config)["estimate"]
    loaded = load(config)
    asked = (loaded.train[0], loaded.validation[0])
    characters = [len(prompts.ANSWER_SYSTEM) + len(prompts.ask(question)) for question in asked]
    prompt = (60 * characters[0] + 15 * characters[1]) / CHARACTERS_PER_TOKEN
    assert told["prompt_tokens"] == round(prompt * (2 + 2))  # sampled once, judged before the first epoch and after each
    assert told["generated_tokens_at_most"] == 75 * 3 * 8
    assert told["trained_tokens_at_most"] == round(prompt * 48 / 75 * 2 * 2)


def test_answers_that_training_changes_are_asked_for_again(config: RunConfig) -> None:
    frozen, changing = (dry_run(config.model_copy(update={"tuning": kind}))["estimate"] for kind in ("lora", "full"))
    assert changing["generated_tokens_at_most"] == 3 * frozen["generated_tokens_at_most"]
    assert changing["prompt_tokens"] == pytest.approx(frozen["prompt_tokens"] * (3 + 3) / (1 + 3), abs=2)
    assert changing["trained_tokens_at_most"] == frozen["trained_tokens_at_most"]


def test_it_names_the_stages_that_are_done(config: RunConfig) -> None:
    with write_experiment(config) as experiment:
        whole, torn = experiment.stage("questions", {"a": 1}), experiment.stage("examine", {})
        for folder in (whole, torn):
            folder.path.mkdir(parents=True)
            (folder.path / "weights").write_text("")
        whole.commit_files([whole.path / "weights"], num_in=1, began=0.0)
    told = dry_run(config)
    assert told["experiment"] == str(experiment.path)
    assert told["stages_done"] == [whole.path.name]


def test_questions_that_are_not_there_are_told(config: RunConfig) -> None:
    with pytest.raises(DataError, match="/nowhere is no folder"):
        dry_run(config.model_copy(update={"dataset": "/nowhere"}))


def test_hours_and_money_follow_from_what_is_given(config: RunConfig) -> None:
    given = CostConfig(sampled=2.0, judged=50.0, trained=25.0, start=36.0, answer_tokens=4.0, on_demand=3.0)
    told: dict[str, Any] = dry_run(config.model_copy(update={"cost": given}))["estimate"]
    assert told["generated_tokens"] == 75 * 3 * 4
    assert told["device_hours"]["sample"] == pytest.approx(75 * 3 * 4 / 2.0 / 3600)
    assert told["device_hours"]["judge"] == pytest.approx(told["prompt_tokens"] * 3 / 4 / 50.0 / 3600, rel=1e-3)
    assert told["device_hours"]["train"] == pytest.approx(told["trained_tokens_at_most"] / 25.0 / 3600, rel=1e-3)
    assert told["device_hours"]["start"] == pytest.approx((3 + 2) * 36.0 / 3600)  # three examinations, two trainings
    assert told["money"] == {"on_demand": pytest.approx(3.0 * told["device_hours"]["all"], rel=1e-4), "spot": None}


def test_without_a_throughput_there_are_no_hours(config: RunConfig) -> None:
    told: dict[str, Any] = dry_run(config.model_copy(update={"cost": CostConfig(on_demand=3.0)}))["estimate"]
    assert told["device_hours"]["all"] is None
    assert told["money"]["on_demand"] is None
    assert "generated_tokens" not in told
