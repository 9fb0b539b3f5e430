"""What a dying attempt leaves behind: parts, set aside, never counted, never mixed in; of threads, none."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from know_thyself.compute.session import ray_session
from know_thyself.compute.tables import (
    CHECKPOINTS,
    FETCHERS,
    STRAYS,
    Workers,
    progress_of,
    rows_committed,
    run_table_stage,
    write_part,
)
from know_thyself.experiment import Experiment, StageFolder
from know_thyself.progress import Position


def part(folder: StageFolder, name: str, ids: list[str], checkpoint: str | None) -> None:
    """A part of rows `ids`, and its checkpoint with the suffix that tells a committed from a pending one."""
    (folder.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"id": ids, "value": [f"{name} {row}" for row in ids]}), folder.path / f"part-{name}-000000-0.parquet"
    )
    if checkpoint is not None:
        pq.write_table(pa.table({"id": ids}), folder.path / CHECKPOINTS / f"part-{name}-000000{checkpoint}.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> StageFolder:
    return Experiment(tmp_path, attempt=1).stage("examine", {})


def never(**_: object) -> None:
    raise AssertionError("no worker may start for rows that are all committed")


def commit(folder: StageFolder, num_in: int) -> list[dict[str, str]]:
    """Commit `folder`, whose rows are all there, and read it back."""
    workers = Workers(worker=never, arguments={}, least=1, most=1, batch_size=1, num_cpus=1)  # type: ignore[arg-type]
    done = run_table_stage(folder, folder, workers, num_in=num_in, block_rows=8)
    assert (done.num_in, done.num_out) == (num_in, num_in)
    return [dict(row) for row in folder.read().to_pylist()]


def test_a_part_without_its_checkpoint_is_set_aside(folder: StageFolder) -> None:
    part(folder, "whole", ["a", "b"], checkpoint="")
    part(folder, "torn", ["b", "c"], checkpoint=".pending")
    part(folder, "orphan", ["c"], checkpoint=None)
    assert rows_committed(folder) == 2
    assert [row["value"] for row in commit(folder, 2)] == ["whole a", "whole b"]
    assert len(list((folder.path / STRAYS).iterdir())) == 2


def test_a_block_done_twice_counts_once(folder: StageFolder) -> None:
    part(folder, "first", ["a", "b", "c"], checkpoint="")
    part(folder, "late", ["b", "c"], checkpoint="")
    part(folder, "rest", ["d"], checkpoint="")
    rows = commit(folder, 4)
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"]
    assert [path.name for path in (folder.path / STRAYS).iterdir()] == ["part-late-000000-0.parquet"]


def test_a_block_is_looked_into_once(folder: StageFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    part(folder, "first", ["a", "b"], checkpoint="")
    look = progress_of(folder, 3)
    assert look() == Position(2, 3)
    part(folder, "second", ["c"], checkpoint="")
    read = Mock(wraps=pq.read_metadata)
    monkeypatch.setattr(pq, "read_metadata", read)
    assert [look(), look()] == [Position(3, 3)] * 2
    assert [call.args[0].stem for call in read.mock_calls if call.args] == ["part-second-000000"]


class Slow:
    """A worker that hands on what it gets, some time later."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        time.sleep(0.5)
        return batch


@pytest.mark.parametrize("stops", [1, 2])
def test_no_thread_of_ray_outlives_a_stage_that_is_stopped(
    folder: StageFolder, monkeypatch: pytest.MonkeyPatch, stops: int
) -> None:
    """Here Ray Data is slower to end than it is itself waited for; a second stop cuts that short."""
    experiment = Experiment(folder.path.parents[1], attempt=1)
    experiment.logs.mkdir(parents=True)
    source = experiment.stage("source", {})
    write_part(source, pa.table({"id": [str(i) for i in range(64)]}))
    step = StreamingExecutor._scheduling_loop_step

    def stopped_in_a_long_step(executor: StreamingExecutor, topology: Any) -> bool:
        goes_on = step(executor, topology)
        if rows_committed(folder):
            for _ in range(stops):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                time.sleep(1.0)
            time.sleep(3.0)
        return goes_on

    monkeypatch.setattr(StreamingExecutor, "_scheduling_loop_step", stopped_in_a_long_step)
    workers = Workers(worker=Slow, arguments={}, least=1, most=1, batch_size=8, num_cpus=1)
    with ray_session("local", experiment.logs):
        with pytest.raises(KeyboardInterrupt):
            run_table_stage(folder, source, workers, num_in=64, block_rows=8)
        names = {thread.name.partition("-dataset")[0] for thread in threading.enumerate()}
        assert names.isdisjoint({"StreamingExecutor", FETCHERS})
    assert 0 < rows_committed(folder) < 64
