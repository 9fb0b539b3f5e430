"""The study on the fake engine: whole, phase by phase, and killed in every phase; the tables come out the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from know_thyself.evaluation.study import V1_AFTER, V1_BEFORE, V2_AFTER
from know_thyself.judge import read_judge
from know_thyself.types import Pool
from tests.conftest import PATIENCE, write_fake_questions
from tests.ray.runs import Run

FLAGS = ("--data.least", "9", "--train.epochs", "1", "--train.batch-size", "8", "--study.rounds", "1", "--study.passes", "1")
TRAIN, VALIDATION = 90, 30
TEACHING = ("--study.batch-size", "1", "--study.doubts", "1", "--study.wondered", "0.5")
"""So that teaching takes seconds that a kill can fall into."""


def a_study(root: Path, model: Path, questions: Path, *flags: str) -> Run:
    return Run(root, model, questions, *FLAGS, *TEACHING, *flags, job="three_phase")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_questions(tmp_path_factory.mktemp("data") / "questions", TRAIN, VALIDATION)


@pytest.fixture(scope="module", params=["lora", "full"])
def tuning(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small_world: Path, questions: Path, tuning: str) -> Run:
    run = a_study(tmp_path_factory.mktemp("undisturbed"), small_world / "model", questions, "--tuning", tuning)
    run.finish()
    return run


def test_the_study_measures_both_judges_on_every_pool(undisturbed: Run) -> None:
    study = undisturbed.study()
    assert set(study["judges"]) == {V1_BEFORE, V1_AFTER, V2_AFTER}
    assert set(study["ledger"]) == {*Pool, "rehearsed"}
    assert study["ledger"][Pool.NEVER_SEEN]["questions"] == VALIDATION
    assert study["ledger"]["rehearsed"]["questions"] == study["teaching"]["rehearsed"] > 0
    assert study["teaching"]["doubted"] > 0
    assert study["teaching"]["wondered"] > 0
    # The fake knows after teaching what it knew before: nothing may have moved.
    assert all(row["lost"] == row["learned"] == 0 for row in study["ledger"].values())


def test_each_phase_leaves_its_judge_and_the_last_is_bound_to_the_taught_model(undisturbed: Run) -> None:
    first, last = read_judge(undisturbed.path / "phase1_judgment" / "judge"), read_judge(undisturbed.path / "judge")
    phases = undisturbed.study()["phases"]
    assert [phase["phase"] for phase in phases] == [1, 2, 3]
    assert last.base == str(undisturbed.path / phases[1]["model"])
    assert first.base_digest != last.base_digest
    for page in ("report.html", "study.html", "phase1_judgment/report.html"):
        assert (undisturbed.path / page).is_file()


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
def test_killed_in_every_phase_it_ends_with_the_same_tables(
    undisturbed: Run, small_world: Path, questions: Path, tuning: str, tmp_path: Path
) -> None:
    run = a_study(tmp_path, small_world / "model", questions, "--tuning", tuning)
    run.kill_when(lambda: run.rows_committed("examine") >= TRAIN // 2, KT_FAKE_DELAY="0.02")
    run.kill_when(run.is_teaching)
    run.kill_when(run.is_judging_anew)
    assert run.committed("examine") < undisturbed.committed("examine")
    run.finish()
    assert run.study() == undisturbed.study()
    assert run.tables() == undisturbed.tables()
