"""Experiments in an object store: the tables of a plain folder, also where no two machines share a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from know_thyself.experiment.place import locate, pull, store_of
from know_thyself.experiment.writer import WRITERS
from know_thyself.judge import read_judge
from know_thyself.models import resolve_model
from tests.conftest import write_fake_questions
from tests.object_store import Bucket, bucket
from tests.ray.cluster import cluster
from tests.ray.runs import ROOT, Run
from tests.ray.test_three_phase import FLAGS

TRAIN, VALIDATION = 90, 30
TOTAL = TRAIN + VALIDATION
EXPORTED = ("responses.jsonl", "val_responses.jsonl", "tested_epoch1.jsonl", "val_tested_epoch1.jsonl")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A store that this process sees as well, with copies of its own."""
    with bucket() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment(tmp_path_factory.mktemp("looking-on")).items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_questions(tmp_path_factory.mktemp("data") / "questions", TRAIN, VALIDATION)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small_world: Path, questions: Path) -> Run:
    """The run in a plain folder."""
    flags = ("--train.epochs", "1", "--train.batch-size", "3", "--engine.block-rows", "16")
    run = Run(tmp_path_factory.mktemp("undisturbed"), small_world / "model", questions, *flags)
    run.finish()
    return run


class Stored(Run):
    """A run in the store, each start of it on a machine that has no copy yet; this process looks on through its own."""

    @classmethod
    def of(cls, run: Run, store: Bucket, machines: Path) -> Stored:
        """The same run below the name of `machines`, in which the copies lie, and that of the folder around it."""
        url = f"{store.url}/{machines.parent.name}/{machines.name}"
        stored = cls.__new__(cls)
        stored.__dict__ |= vars(run)
        stored.root, stored.url, stored.store, stored.machines = locate(url), url, store, machines
        stored.flags = [url if flag == str(run.root) else flag for flag in run.flags]
        return stored

    url: str
    store: Bucket
    machines: Path

    @property
    def path(self) -> Path:
        """The copy of the experiment, as the store has it now."""
        return pull(self.root / "run")

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """See `Run`."""
        number = len(list(self.machines.iterdir()))
        return super().start(**{**self.environment(f"machine-{number}"), **environment})

    def environment(self, machine: str) -> dict[str, str]:
        """That of the processes of `machine`."""
        scratch = self.machines / machine
        scratch.mkdir()
        return self.store.environment(scratch)

    def training_logs(self, rank: int = 0) -> list[Path]:
        """See `Run`; where the workers print to, on all machines."""
        return list(self.machines.glob(f"**/logs/attempt_*/t*-epoch1-rank{rank}.log"))

    def let_lease_lapse(self) -> None:
        """What a minute of waiting would come to."""
        leases, store = self.path / WRITERS, store_of(self.root)
        assert store is not None
        for info in store.inside(leases, deep=False):
            store.delete(leases / info.base_name)


def command(stored: Stored, machine: str, *words: str) -> str:
    """What `know-thyself` says of the run on a machine of its own. It must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "know_thyself.cli", *words, "--experiments-root", stored.url],
        env={**os.environ, **stored.environment(machine)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_in_the_store_has_the_tables_of_a_plain_one_and_other_machines_read_it(
    undisturbed: Run, store: Bucket, tmp_path: Path
) -> None:
    run = Stored.of(undisturbed, store, tmp_path)
    told = run.finish()
    assert f"report: {run.url}/run/report.html" in told
    assert run.tables() == undisturbed.tables()
    assert {log.name.partition("-")[0] for log in run.path.glob("logs/attempt_1/*.log")} >= {"driver.log", "engine", "train"}
    assert not list(run.path.glob("stages/*/checkpoints/step-*"))

    assert "chosen on dev" in command(run, "report", "report", "latest")
    exported = tmp_path / "exported"
    command(run, "export", "export", "run", "--out", str(exported))
    (undisturbed.root / "exported").mkdir()
    subprocess.run(
        [sys.executable, "-m", "know_thyself.cli", "export", "run", "--experiments-root", str(undisturbed.root)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    for name in EXPORTED:
        assert (exported / name).read_text() == (undisturbed.path / "export" / name).read_text()


@pytest.mark.slow
def test_drivers_killed_while_they_sample_and_train_are_followed_by_others_elsewhere(
    undisturbed: Run, store: Bucket, tmp_path: Path
) -> None:
    run = Stored.of(undisturbed, store, tmp_path)
    run.flags += ["--train.checkpoint-every", "2"]
    run.kill_when(lambda: run.rows_committed("examine") >= TOTAL // 3, KT_FAKE_DELAY="0.05")
    written = {part.name: part.stat().st_mtime_ns for part in run.parts("examine")}
    committed = run.rows_committed("examine")
    assert TOTAL > committed > 0
    assert run.committed("examine") == 0

    run.let_lease_lapse()
    run.kill_when(lambda: run.steps_kept() >= 2)
    assert run.committed("train") == 0
    kept = run.steps_kept()
    untouched = [part for part in run.parts("examine") if written.get(part.name) == part.stat().st_mtime_ns]
    assert sum(pq.read_metadata(part).num_rows for part in untouched) >= committed, "committed rows were asked again"

    run.let_lease_lapse()
    run.finish()
    begun = max(run.path.glob("logs/attempt_3/train-epoch1-rank0.log")).read_text()
    assert int(begun.partition("begins after step ")[2].split()[0]) >= kept
    assert run.tables() == undisturbed.tables()


@pytest.mark.slow
def test_the_lease_of_a_killed_driver_is_waited_for(undisturbed: Run, store: Bucket, tmp_path: Path) -> None:
    run = Stored.of(undisturbed, store, tmp_path)
    run.kill_when(lambda: run.committed("questions") == 1)
    assert "waiting up to 60 s for the lease of whoever wrote" in run.finish()
    assert run.tables() == undisturbed.tables()


@pytest.mark.slow
def test_machines_that_share_nothing_but_the_store_work_together(undisturbed: Run, store: Bucket, tmp_path: Path) -> None:
    machines = tmp_path / "machines"
    machines.mkdir()
    run = Stored.of(undisturbed, store, machines)
    with cluster(tmp_path, cpus=0) as running:
        nodes = [
            replace(running, environment={**running.environment, **run.environment(name), "KT_FAKE_DELAY": "0.05"})
            for name in ("first", "second")
        ]
        with nodes[0].node(tmp_path, 2), nodes[1].node(tmp_path, 2):
            run.flags += ["--address", running.address, "--engine.actors-min", "2", "--engine.actors-max", "2"]
            run.flags += ["--train.workers", "3"]  # one more than there is room for on a node
            run.finish(**running.environment)
    for node in ("first", "second"):
        assert list((machines / node).glob("**/engine-*.log")), f"nothing was sampled on the {node} node"
        assert list((machines / node).glob("**/train-epoch1-rank*.log")), f"nothing was trained on the {node} node"
    assert not list((machines / "machine-2").glob("**/engine-*.log"))
    assert len(list(run.path.glob("logs/attempt_1/train-epoch1-rank*.log"))) == 3
    ours, theirs = run.tables(), undisturbed.tables()
    same = {name for name in ours.keys() & theirs.keys() if name.startswith(("questions-", "examine-", "grade-"))}
    assert {name.partition("-")[0] for name in same} == {"questions", "examine", "grade"}
    assert all(ours[name] == theirs[name] for name in same)
    assert run.losses() == pytest.approx(undisturbed.losses(), abs=1e-6)


@pytest.mark.slow
def test_stages_alone_go_on_from_each_other_on_machines_of_their_own(undisturbed: Run, store: Bucket, tmp_path: Path) -> None:
    run = Stored.of(undisturbed, store, tmp_path)
    for job in ("sample", "label", "train", "judgment"):
        run.job = job
        told = run.finish()
        assert run.url in told
    assert run.tables() == undisturbed.tables()
    run.flags += ["--judge", f"{run.url}/run/judge"]
    for job, made in {"judge": "stages/examine-", "merge": "stages/merge-", "evaluate": "evaluation.json"}.items():
        run.job = job
        assert f"{job}: {run.url}/run/{made}" in run.finish()
    assert (pull(run.path, "evaluation.json") / "evaluation.json").is_file()


@pytest.mark.slow
def test_a_study_in_the_store_finds_what_one_in_a_folder_does(
    small_world: Path, questions: Path, store: Bucket, tmp_path: Path
) -> None:
    study = Run(tmp_path / "plain", small_world / "model", questions, *FLAGS, job="three_phase")
    study.finish()
    (machines := tmp_path / "machines").mkdir()
    run = Stored.of(study, store, machines)
    run.finish()
    assert run.study() == study.study()
    assert run.tables() == study.tables()
    card = read_judge(run.path / "judge")
    assert card.base == f"{run.url}/run/{run.study()['phases'][1]['model']}"
    assert resolve_model(card.base, None).digest == card.base_digest
