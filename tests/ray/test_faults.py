"""Kill the driver or an engine at any time: the same command goes on and ends with the tables of an undisturbed run."""

from __future__ import annotations

import re
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import PATIENCE, write_fake_questions
from tests.ray.runs import Run, wait_until

TRAIN, VALIDATION = 480, 160
TOTAL = TRAIN + VALIDATION
ENGINE_KILLS = 10
SECRETS = {"HF_TOKEN": "hf_planted0secret", "AWS_SECRET_ACCESS_KEY": "aws+planted/secret"}


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_questions(tmp_path_factory.mktemp("data") / "questions", TRAIN, VALIDATION)


@pytest.fixture(scope="module")
def ray_logs() -> Iterator[Path]:
    """Where Ray keeps its own files in the undisturbed run: a short path, for it holds sockets."""
    with tempfile.TemporaryDirectory(prefix="kt-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small_world: Path, questions: Path, ray_logs: Path) -> Run:
    """A run of one epoch; its batches are of one example, so that training takes seconds that a kill can fall into.

    Its environment holds `SECRETS`; what it prints is kept beside the experiment.
    """
    run = Run(
        tmp_path_factory.mktemp("undisturbed"),
        small_world / "model",
        questions,
        "--train.epochs",
        "1",
        "--train.batch-size",
        "1",
    )
    (run.root / "printed.txt").write_text(run.finish(RAY_TMPDIR=str(ray_logs), **SECRETS))
    return run


def test_the_whole_job_runs_and_the_same_command_again_does_nothing(undisturbed: Run) -> None:
    before = undisturbed.tables()
    assert before["summary"]["schema"] == 1
    assert [row["epoch"] for row in before["summary"]["epochs"]] == [0, 1]
    assert before["summary"]["dropped"] == {}
    assert (undisturbed.path / "report.html").is_file()
    assert (undisturbed.path / "judge" / "judge.json").is_file()
    output = undisturbed.finish()
    assert output.count("already done") == len(before) - 1
    assert undisturbed.tables() == before


def test_no_secret_of_the_environment_is_in_any_file_or_log(undisturbed: Run, ray_logs: Path) -> None:
    files = [file for root in (undisturbed.root, ray_logs) for file in root.rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert {"printed.txt", "driver.log", "train-epoch1-rank0.log", "report.html", "judge.json", "raylet.out"} <= names
    planted = [secret.encode() for secret in SECRETS.values()]
    assert [file for file in files if any(secret in file.read_bytes() for secret in planted)] == []


def test_killed_drivers_and_engines_leave_no_trace(undisturbed: Run, tmp_path: Path) -> None:
    """SIGKILL of the driver half way through examining, of ten engines, and of the driver while training; then the end."""
    run = undisturbed.like(tmp_path)
    run.kill_when(lambda: run.rows_committed("examine") >= TOTAL // 2, KT_FAKE_DELAY="0.02")
    written = {part: part.stat().st_mtime_ns for part in run.parts("examine")}
    committed = run.rows_committed("examine")
    assert TOTAL > committed >= 0.4 * TOTAL, "blocks must be committed one by one"

    order = tmp_path / "engines-to-kill"
    order.write_text(str(ENGINE_KILLS))
    run.flags += ["--engine.block-rows", "16"]  # as many blocks as there are engines to kill, and more
    run.kill_when(lambda: any(run.path.glob("stages/train-*/progress.jsonl")), KT_FAKE_KILL=str(order))
    assert order.read_text() == "0", "not all engines were killed"
    assert not list(run.path.glob("stages/train-*/_DONE.json"))
    untouched = [part for part, time in written.items() if part.exists() and part.stat().st_mtime_ns == time]
    assert sum(pq.read_metadata(part).num_rows for part in untouched) >= committed, "committed rows were asked again"

    run.finish()
    assert run.tables() == undisturbed.tables()


def test_training_goes_on_inside_an_epoch_without_its_driver_and_without_its_worker(undisturbed: Run, tmp_path: Path) -> None:
    """SIGKILL of the driver after a checkpoint, then of the training worker after a later one: not a step begins anew."""
    run = undisturbed.like(tmp_path)
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


@pytest.mark.slow
def test_one_of_two_training_workers_may_be_lost(small_world: Path, questions: Path, tmp_path: Path) -> None:
    flags = ("--train.epochs", "1", "--train.workers", "2", "--train.batch-size", "2", "--train.checkpoint-every", "2")
    undisturbed = Run(tmp_path / "undisturbed", small_world / "model", questions, *flags)
    undisturbed.finish()
    run = undisturbed.like(tmp_path / "killed")
    run.finish_without_worker(lambda: run.steps_kept() >= 2, rank=1)
    assert [line for line in run.training_logs()[-1].read_text().splitlines() if "begins after" in line][1:], "none was lost"
    assert run.losses() == pytest.approx(undisturbed.losses(), abs=1e-6)
    assert run.tables() == undisturbed.tables()


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_job_in_one_line_and_the_same_command_goes_on(undisturbed: Run, tmp_path: Path) -> None:
    """No file of the driver may grow beyond 4 KiB from the first examination on: marker, report or examples find no room."""
    run = undisturbed.like(tmp_path)
    process = run.start(KT_FAKE_DELAY="0.01")
    wait_until(lambda: run.rows_committed("examine") > 0, "nothing was examined", process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 2, output
    assert re.search(r"error: no space left for .* \(\d+ MiB free\): make room and run the same command again\n", output)
    assert "Traceback" not in output
    run.finish()
    assert run.tables() == undisturbed.tables()


def test_more_workers_than_the_machine_has_cpus_end_the_job_in_one_line(undisturbed: Run, tmp_path: Path) -> None:
    run = undisturbed.like(tmp_path)
    run.flags += ["--train.workers", "64", "--train.batch-size", "64"]
    process = run.start()
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 2, output
    assert "error: train.workers=64 needs a CPU each" in output
    assert "Traceback" not in output


def test_a_question_that_kills_every_engine_ends_the_job(undisturbed: Run, tmp_path: Path) -> None:
    run = undisturbed.like(tmp_path)
    process = run.start(KT_FAKE_POISON="What is train thing number 7?")
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 1, output
    assert re.search(r"error: examine: .*8 workers died at the \d+ rows from '", output)
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_job_says_how_to_go_on(undisturbed: Run, tmp_path: Path, number: signal.Signals) -> None:
    run = undisturbed.like(tmp_path)
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
