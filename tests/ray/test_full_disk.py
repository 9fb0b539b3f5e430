"""A disk that fills up: one line that says so and what to do, from whichever process met it, and what was there stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.data.datasource import FilenameProvider
from ray.train import TrainingFailedError, WorkerGroupError

from know_thyself.compute import tables
from know_thyself.compute.failures import failure
from know_thyself.compute.session import ray_session
from know_thyself.compute.tables import Workers, run_table_stage, write_part
from know_thyself.config import RunConfig
from know_thyself.data.splits import Questions
from know_thyself.errors import StageError, StoreError
from know_thyself.experiment import Experiment
from know_thyself.learning.lesson import PROGRESS, Lesson
from know_thyself.learning.loop import _cut_log, _log_step
from know_thyself.stages.training import EXAMPLES, _failed
from know_thyself.types import JudgmentExample, Question
from tests.ray.benches import bench_of

NO_SPACE = r"no space left for .*{name} \(\d+ MiB free\): make room and run the same command again"
WRITE_BEYOND_THE_LIMIT = """
import resource, sys
from pathlib import Path
import pyarrow as pa
import torch
from know_thyself.compute.tables import write_part
from know_thyself.errors import StoreError
from know_thyself.experiment import Experiment
from know_thyself.learning.state import _Shards

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
root = Path(sys.argv[1])
shards = _Shards(root / "state", steps=1)
shards.add({"weight.a": torch.zeros(10_000)})
part = Experiment(root).stage("table", {})
for write in (shards.flush, lambda: write_part(part, pa.table({"id": list(range(10_000))}))):
    try:
        write()
    except StoreError as error:
        print(error)
assert not list(part.path.iterdir()), "a part that is not whole was left behind"
"""


def test_a_state_and_a_part_that_find_no_room_say_how_much_is_left(tmp_path: Path) -> None:
    written = subprocess.run(
        [sys.executable, "-c", WRITE_BEYOND_THE_LIMIT, str(tmp_path)], capture_output=True, text=True, timeout=240
    )
    assert written.returncode == 0, written.stderr
    state, part = written.stdout.splitlines()
    assert state.startswith(f"no space left for {tmp_path}/state/00001.safetensors (")
    assert part.startswith(f"no space left for {tmp_path}/stages/table-")
    for told in (state, part):
        assert told.endswith(" MiB free): make room and run the same command again")


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def lesson_in(folder: Path) -> Lesson:
    return cast(Lesson, SimpleNamespace(folder=str(folder)))


def test_a_step_that_cannot_be_logged_tells_the_space_left(tmp_path: Path) -> None:
    (tmp_path / PROGRESS).symlink_to("/dev/full")
    with pytest.raises(StoreError, match=NO_SPACE.format(name=PROGRESS)):
        _log_step(lesson_in(tmp_path), 1, 2, 0.5, 1e-3)


def test_a_log_that_cannot_be_cut_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / PROGRESS
    for step in (1, 2, 3):
        _log_step(lesson_in(tmp_path), step, 3, 0.5, 1e-3)
    before = log.read_text()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=NO_SPACE.format(name=PROGRESS)):
            _cut_log(log, 1)
    assert log.read_text() == before
    _cut_log(log, 1)
    assert log.read_text() == before.splitlines(keepends=True)[0]


def test_examples_that_find_no_room_tell_the_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question(id="q", text="q?", answers=("a",), group="g")
    config = RunConfig(experiments_root=tmp_path, name="run")
    bench = bench_of(tmp_path, Questions(questions=(question,), dropped={}), config)
    monkeypatch.setattr("know_thyself.pipelines.bench.node_cores", lambda: 1)
    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(StoreError, match=NO_SPACE.format(name=EXAMPLES)):
        bench.train("", 1, [JudgmentExample(question_id="q", target=(1.0, 0.0))], evidence=[], parent=None)


class Copy:
    """A worker that hands on what it gets."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        return batch


class OntoAFullDevice(FilenameProvider):
    """Every part that is about to be written is a link to a device without room."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        name = f"part-{write_uuid}-{task_index:06d}"
        part = self._folder / f"{name}-0.parquet"
        if not part.is_symlink():  # Ray asks again when it tries again
            part.symlink_to("/dev/full")
        return f"{name}.parquet"


def test_a_part_that_ray_finds_no_room_for_tells_the_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment(tmp_path, attempt=1)
    experiment.logs.mkdir(parents=True)
    source, folder = experiment.stage("source", {}), experiment.stage("copy", {})
    write_part(source, pa.table({"id": [str(i) for i in range(64)]}))
    monkeypatch.setattr(tables, "_PartNames", lambda: OntoAFullDevice(folder.path))
    workers = Workers(worker=Copy, arguments={}, least=1, most=1, batch_size=64, num_cpus=1)
    with ray_session("local", experiment.logs), pytest.raises(StoreError, match=NO_SPACE.format(name=folder.path.name)):
        run_table_stage(folder, source, workers, num_in=64, block_rows=64)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Traceback\nOSError: [Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device", None),
        ("safetensors_rust.SafetensorError: Error while serializing: I/O error: No space left (os error 28)", None),
        ("OSError: [Errno 122] Disk quota exceeded: it is full", None),
        (
            "OSError: [Errno 5] Input/output error: broken",
            "copy: OSError: [Errno 5] Input/output error: broken: see the logs, ",
        ),
        ("ray::Write()\nValueError: 28 is no answer: why", "copy: ValueError: 28 is no answer: why: see the logs, "),
    ],
)
def test_only_a_full_disk_is_told_as_one(said: str, told: str | None, tmp_path: Path) -> None:
    found = failure(Experiment(tmp_path).stage("copy", {}), RuntimeError(said), "the logs")
    if told is None:
        assert isinstance(found, StoreError)
        assert "MiB free" in str(found)
    else:
        assert isinstance(found, StageError)
        assert str(found).startswith(told)


def test_what_a_worker_found_to_tell_is_what_the_user_reads() -> None:
    full = StoreError("no space left for /x (0 MiB free): make room and run the same command again")
    assert _failed(WorkerGroupError("training failed", {1: RuntimeError("a peer is gone"), 0: full}), "train", "logs") is full


@pytest.mark.parametrize(
    "error", [TrainingFailedError("a worker died\nat length"), WorkerGroupError("", {0: ValueError("a worker died")})]
)
def test_any_other_failure_names_the_stage_and_its_logs(error: Exception) -> None:
    told = _failed(error, "train", "the/logs")
    assert isinstance(told, StageError)
    assert str(told) == "train: a worker died: see the/logs, and run the same command to go on"
