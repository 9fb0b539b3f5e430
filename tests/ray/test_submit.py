"""`ray job submit` to a cluster that was started separately, with token authentication on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from know_thyself.judge import read_judge, write_judge
from tests.conftest import PATIENCE, write_fake_questions
from tests.ray.cluster import ROOT, Cluster, cluster
from tests.ray.runs import Run, write_own_grader


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head that does no work, and two nodes that do."""
    folder = tmp_path_factory.mktemp("cluster")
    with cluster(folder, cpus=0) as started, started.node(folder, 2), started.node(folder, 2):
        yield started


@pytest.fixture
def run(tmp_path: Path, small_world: Path) -> Run:
    """A small run of one epoch, its experiments outside the repository."""
    questions = write_fake_questions(tmp_path / "questions", 120, 60)
    return Run(tmp_path / "experiments", small_world / "model", questions, "--train.epochs", "1")


def submit(running: Cluster, job: str, *flags: str, folder: Path = ROOT, name: str | None = None) -> str:
    """Submit `job`, under its own name when not given another; what it printed. It must succeed."""
    job_id = name or job
    submitted = running.submit(job_id, "python", "-m", f"jobs.{job}", *flags, timeout=PATIENCE, folder=folder)
    output = submitted.stdout + submitted.stderr
    assert submitted.returncode == 0, output
    assert "Traceback" not in output
    record = running.job(job_id)
    assert (record["status"], record["driver_exit_code"]) == ("SUCCEEDED", 0)
    return output


def check_no_token(running: Cluster, run: Run) -> None:
    """No file below the root of experiments holds the token of the cluster."""
    token = running.environment["RAY_AUTH_TOKEN"].encode()
    files = [file for file in run.root.rglob("*") if file.is_file()]
    assert any(file.name == "driver.log" for file in files)
    assert [file for file in files if token in file.read_bytes()] == []


def test_a_submitted_job_leaves_its_experiment_where_it_was_told(running: Cluster, run: Run) -> None:
    submit(running, "judgment", *run.flags)
    check_no_token(running, run)
    summary = json.loads((run.path / "summary.json").read_text())
    assert [row["epoch"] for row in summary["epochs"]] == [0, 1]
    assert (run.path / "judge" / "judge.json").is_file()
    told = running.job("judgment")["metadata"]
    assert {name: told[name] for name in ("experiment", "status")} == {
        "experiment": str(run.path),
        "status": f"report: {run.path / 'report.html'}",
    }


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
def test_every_job_is_submitted_and_goes_on_from_the_others(running: Cluster, run: Run, tmp_path: Path) -> None:
    """The folder that is submitted is not the repository but a copy, with a grader beside it that the workers must find."""
    folder = tmp_path / "folder"
    for package in ("jobs", "know_thyself"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    flags = (*run.flags, "--grader", write_own_grader(folder), "--sampling.num-trials", "3")
    for job in ("sample", "label", "train"):
        submit(running, job, *flags, folder=folder, name=f"{job}-alone")
    before = {marker.parent.name for marker in run.path.glob("stages/*/_DONE.json")}
    assert {name.partition("-")[0] for name in before} == {"questions", "examine", "grade", "train"}
    output = submit(running, "judgment", *flags, folder=folder, name="judgment-after")
    assert all(f"{name}: already done" in output for name in before)

    trained = tmp_path / "trained"  # the chosen judge may be the untrained one, which has no adapter to merge
    (stage,) = run.path.glob("stages/train-*")
    write_judge(trained, read_judge(run.path / "judge").model_copy(update={"epoch": 1}), stage)
    for job in ("merge", "judge", "evaluate"):
        submit(running, job, *flags, "--judge", str(trained), folder=folder)
    assert list(run.path.glob("stages/merge-*/model/config.json"))
    assert list(run.path.glob("stages/examine-*/judged_by.json"))
    found = json.loads((run.path / "evaluation.json").read_text())["splits"]["validation"]
    expected = json.loads((run.path / "summary.json").read_text())["epochs"][1]["validation"]
    for number in ("questions", "qa_accuracy", "judgment_accuracy", "auroc"):
        assert found[number] == expected[number]
    check_no_token(running, run)


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
