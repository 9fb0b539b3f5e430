"""The study on the embedded world, real and small: vLLM, DeepSpeed, Ray; whole, and its driver killed in every phase."""

from __future__ import annotations

from pathlib import Path

import pytest

from know_thyself.engine.protocol import VLLM
from know_thyself.types import Pool
from tests.conftest import PATIENCE
from tests.ray.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]

SIZES = ("--data.num-train", "400", "--data.num-validation", "100", "--data.least", "30", "--train.epochs", "1")
TEACHING = {
    "lora": ("--study.learning-rate", "1e-3", "--study.passes", "30"),
    "full": ("--study.learning-rate", "3e-4", "--study.passes", "10"),
}
"""A handful of facts makes few steps a pass, so that an adapter takes many passes to learn them."""


@pytest.fixture(scope="module", params=["lora", "full"])
def tuning(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def a_study(root: Path, tuning: str) -> Run:
    flags = ("--preset", "world", "--engine.backend", VLLM, "--tuning", tuning)
    teaching = ("--study.rounds", "1", "--study.wondered", "2", *TEACHING[tuning])
    return Run(root, Path("world"), Path("world"), *flags, *SIZES, *teaching, job="three_phase")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tuning: str) -> Run:
    run = a_study(tmp_path_factory.mktemp("undisturbed"), tuning)
    run.finish()
    return run


def test_the_model_learns_what_it_is_taught(undisturbed: Run) -> None:
    ledger = undisturbed.study()["ledger"]
    taught = [ledger[pool] for pool in (Pool.JUDGED_TAUGHT, Pool.TAUGHT_HELD_OUT)]
    assert sum(row["learned"] for row in taught) > sum(row["still_unknown"] for row in taught)
    assert ledger[Pool.NEVER_SEEN]["learned"] < ledger[Pool.NEVER_SEEN]["still_unknown"]


def test_killed_in_every_phase_it_ends_with_the_same_tables(undisturbed: Run, tuning: str, tmp_path: Path) -> None:
    run = a_study(tmp_path, tuning)
    run.kill_when(lambda: run.rows_committed("examine") > 0)
    run.kill_when(run.is_teaching)
    run.kill_when(run.is_judging_anew)
    assert run.committed("examine") < undisturbed.committed("examine")
    run.finish()
    assert run.study() == undisturbed.study()
    assert run.tables() == undisturbed.tables()
