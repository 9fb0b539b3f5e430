"""`--skip_collect` and `--start_epoch` on the whole job: what stands is used, and nothing that does not is begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from know_thyself.config import RunConfig
from know_thyself.data.splits import Questions
from know_thyself.errors import ConfigError
from know_thyself.pipelines.bench import Bench, Result
from know_thyself.types import Question, Split
from tests.conftest import PATIENCE, write_fake_questions
from tests.ray.benches import NO_MODEL, bench_of
from tests.ray.runs import Run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Run:
    """One epoch on few questions, after a first try that was not allowed to ask anything."""
    folder = tmp_path_factory.mktemp("guards")
    questions = write_fake_questions(folder / "questions", 120, 60)
    run = Run(folder / "experiments", small_world / "model", questions, "--epochs", "1")
    refused(run, "--skip_collect", told="skip-collect: experiment run holds no answers for these settings")
    run.finish()
    return run


def refused(run: Run, *flags: str, told: str) -> None:
    process = like(run, *flags).start()
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 2, output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {told}")


def like(run: Run, *flags: str) -> Run:
    other = Run(run.root, Path(), Path())
    other.flags = [*run.flags, *flags]
    return other


@pytest.mark.parametrize(
    ("settings", "sampled", "epoch", "told"),
    [
        ({"skip_collect": True}, True, 0, "holds no answers"),
        ({"start_epoch": 2}, True, 0, "epoch 0 of experiment run does not stand"),
        ({"start_epoch": 3}, False, 2, "epoch 2 of experiment run does not stand"),
    ],
)
def test_no_engine_starts_for_what_must_stand(
    tmp_path: Path, settings: dict[str, Any], sampled: bool, epoch: int, told: str
) -> None:
    bench, questions = a_bench(tmp_path, settings)
    with pytest.raises(ConfigError, match=told):
        bench.examine("", questions, answerer=NO_MODEL if sampled else None, judge=NO_MODEL, epoch=epoch)
    assert not list(tmp_path.glob("run/stages/examine-*"))


def test_no_training_starts_before_the_first_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("know_thyself.pipelines.bench.node_cores", lambda: 1)
    bench, questions = a_bench(tmp_path, {"start_epoch": 3})
    with pytest.raises(ConfigError, match="epoch 2 of experiment run does not stand"):
        bench.train("", 2, [], evidence=[questions], parent=None)
    assert not list(tmp_path.glob("run/stages/train-*"))


def a_bench(root: Path, settings: dict[str, Any]) -> tuple[Bench, Result]:
    """A bench with one question committed, and that stage."""
    question = Question(id="a", text="What is a?", answers=("a",), split=str(Split.TRAIN))
    bench = bench_of(root, Questions(questions=(question,), dropped={}), RunConfig(**settings))
    return bench, bench.put_questions()


@pytest.mark.slow
def test_what_stands_is_used(finished: Run) -> None:
    before = finished.tables()
    output = like(finished, "--skip_collect", "--start_epoch", "2").finish()
    assert output.count("already done") == len(before) - 1
    assert finished.tables() == before


@pytest.mark.slow
def test_the_answers_that_stand_serve_another_training(finished: Run) -> None:
    sampled = finished.parts("examine")
    refused(finished, "--lr", "1e-2", "--start_epoch", "2", told="start-epoch=2: epoch 1 of experiment run does not stand")
    assert finished.parts("examine") == sampled
    like(finished, "--lr", "1e-2", "--skip_collect").finish()
    assert len(list(finished.path.glob("stages/train-*/_DONE.json"))) == 2
    assert set(finished.parts("examine")) > set(sampled), "the new judge has judged"
