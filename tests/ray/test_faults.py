"""Kill the driver or an engine at any time: the same command goes on and ends with the tables of an undisturbed run."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import write_fake_questions
from tests.ray.runs import Run

TRAIN, VALIDATION = 480, 160
TOTAL = TRAIN + VALIDATION


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_questions(tmp_path_factory.mktemp("data") / "questions", TRAIN, VALIDATION)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small_world: Path, questions: Path) -> Run:
    """A run of one epoch; its batches are of one example, so that training takes seconds that a kill can fall into."""
    run = Run(
        tmp_path_factory.mktemp("undisturbed"),
        small_world / "model",
        questions,
        "--train.epochs",
        "1",
        "--train.batch-size",
        "1",
    )
    run.finish()
    return run


def a_run_like(undisturbed: Run, root: Path) -> Run:
    run = Run(root, Path(), Path())
    run.flags = [str(root) if flag == str(undisturbed.root) else flag for flag in undisturbed.flags]
    return run


def test_the_whole_job_runs_and_the_same_command_again_does_nothing(undisturbed: Run) -> None:
    before = undisturbed.tables()
    assert before["summary"]["schema"] == 1
    assert [row["epoch"] for row in before["summary"]["epochs"]] == [0, 1]
    assert (undisturbed.path / "report.html").is_file()
    assert (undisturbed.path / "judge" / "judge.json").is_file()
    output = undisturbed.finish()
    assert output.count("already done") == len(before) - 1
    assert undisturbed.tables() == before


def test_killed_drivers_and_engines_leave_no_trace(undisturbed: Run, tmp_path: Path) -> None:
    """SIGKILL of the driver half way through examining, of an engine, and of the driver while training; then the end."""
    run = a_run_like(undisturbed, tmp_path)
    run.kill_when(lambda: run.rows_committed("examine") >= TOTAL // 2, KT_FAKE_DELAY="0.02")
    written = {part: part.stat().st_mtime_ns for part in run.parts("examine")}
    committed = run.rows_committed("examine")
    assert TOTAL > committed >= 0.4 * TOTAL, "blocks must be committed one by one"

    order = tmp_path / "kill-one-engine"
    order.touch()
    run.kill_when(lambda: any(run.path.glob("stages/train-*/progress.jsonl")), KT_FAKE_KILL=str(order))
    assert not order.exists(), "no engine was killed"
    assert not list(run.path.glob("stages/train-*/_DONE.json"))
    untouched = [part for part, time in written.items() if part.exists() and part.stat().st_mtime_ns == time]
    assert sum(pq.read_metadata(part).num_rows for part in untouched) >= committed, "committed rows were asked again"

    run.finish()
    assert run.tables() == undisturbed.tables()


def test_training_goes_on_inside_an_epoch_without_its_driver_and_without_its_worker(undisturbed: Run, tmp_path: Path) -> None:
    """SIGKILL of the driver after a checkpoint, then of the training worker after a later one: not a step begins anew."""
    run = a_run_like(undisturbed, tmp_path)
    run.flags += ["--train.checkpoint-every", "2"]
    run.kill_when(lambda: run.steps_kept() >= 2)
    kept = run.steps_kept()
    assert not list(run.path.glob("stages/train-*/_DONE.json"))

    run.finish_without_worker(lambda: run.steps_kept() >= kept + 2)
    lines = run.training_logs()[-1].read_text().splitlines()
    begun = [int(line.rpartition(" ")[2]) for line in lines if "begins after" in line]
    assert len(begun) == 2, "the worker was not started again"
    assert begun[0] >= kept
    assert begun[1] >= kept + 2
    assert run.tables() == undisturbed.tables()
    assert not list(run.path.glob("stages/train-*/checkpoints/step-*")), "checkpoints outlived their stage"


def test_more_workers_than_the_machine_has_cpus_end_the_job_in_one_line(undisturbed: Run, tmp_path: Path) -> None:
    run = a_run_like(undisturbed, tmp_path)
    run.flags += ["--train.workers", "64", "--train.batch-size", "64"]
    process = run.start()
    output = process.communicate(timeout=540)[0]
    assert process.returncode == 2, output
    assert "error: train.workers=64 needs a CPU each" in output
    assert "Traceback" not in output


def test_a_question_that_kills_every_engine_ends_the_job(undisturbed: Run, tmp_path: Path) -> None:
    run = a_run_like(undisturbed, tmp_path)
    process = run.start(KT_FAKE_POISON="What is train thing number 7?")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1, output
    assert "error: examine: " in output
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_job_says_how_to_go_on(undisturbed: Run, tmp_path: Path, number: signal.Signals) -> None:
    run = a_run_like(undisturbed, tmp_path)
    process = run.start(KT_FAKE_DELAY="0.02")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("experiment"):
            break
    while run.rows_committed("examine") == 0 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 130, rest
    assert "To go on: python -m jobs.judgment --name run" in rest
    assert "Traceback" not in rest
