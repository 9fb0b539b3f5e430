"""`ray job submit` to a cluster that was started separately, with token authentication on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import write_fake_questions
from tests.ray.cluster import Cluster, cluster
from tests.ray.runs import Run


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def run(tmp_path: Path, small_world: Path) -> Run:
    """A small run of one epoch, its experiments outside the repository."""
    questions = write_fake_questions(tmp_path / "questions", 120, 60)
    return Run(tmp_path / "experiments", small_world / "model", questions, "--train.epochs", "1")


def test_a_submitted_job_leaves_its_experiment_where_it_was_told(running: Cluster, run: Run) -> None:
    submitted = running.submit("judgment", "python", "-m", "jobs.judgment", *run.flags, timeout=540)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "Traceback" not in submitted.stdout + submitted.stderr
    record = running.job("judgment")
    assert (record["status"], record["driver_exit_code"]) == ("SUCCEEDED", 0)
    summary = json.loads((run.path / "summary.json").read_text())
    assert [row["epoch"] for row in summary["epochs"]] == [0, 1]
    assert (run.path / "judge" / "judge.json").is_file()


@pytest.mark.slow
def test_a_relative_root_inside_a_job_is_refused_in_one_line(running: Cluster, run: Run) -> None:
    flags = ["experiments" if flag == str(run.root) else flag for flag in run.flags]
    submitted = running.submit("relative", "python", "-m", "jobs.judgment", *flags, timeout=240)
    assert submitted.returncode != 0
    record = running.job("relative")
    assert (record["status"], record["driver_exit_code"]) == ("FAILED", 2)
    _, _, *said = running.log("relative").splitlines()  # after what Ray says of the environment and of the command
    assert said == [
        "error: experiments-root=experiments is relative, but a submitted job runs in a temporary copy of its folder: "
        "give an absolute path on storage that outlives the job"
    ]


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_the_job_server_knows_nobody_without_the_token(running: Cluster, token: str | None) -> None:
    status, body = running.ask("/api/jobs/", token)
    assert status in {401, 403}
    assert "judgment" not in body
