"""`--skip_collect` and `--start_epoch` on the whole job: what stands is used, and nothing that does not is begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import write_fake_questions
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
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 2, output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {told}")


def like(run: Run, *flags: str) -> Run:
    other = Run(run.root, Path(), Path())
    other.flags = [*run.flags, *flags]
    return other


def test_what_stands_is_used(finished: Run) -> None:
    before = finished.tables()
    output = like(finished, "--skip_collect", "--start_epoch", "2").finish()
    assert output.count("already done") == len(before) - 1
    assert finished.tables() == before


def test_the_answers_that_stand_serve_another_training(finished: Run) -> None:
    sampled = finished.parts("examine")
    refused(finished, "--lr", "1e-2", "--start_epoch", "2", told="start-epoch=2: epoch 1 of experiment run does not stand")
    assert finished.parts("examine") == sampled
    like(finished, "--lr", "1e-2", "--skip_collect").finish()
    assert len(list(finished.path.glob("stages/train-*/_DONE.json"))) == 2
    assert set(finished.parts("examine")) > set(sampled), "the new judge has judged"
