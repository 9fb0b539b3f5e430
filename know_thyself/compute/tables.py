"""Committed tables in, committed tables out: the Ray Data pipeline that every table stage is an instance of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import FilenameProvider

from know_thyself.errors import KnowThyselfError, StageError
from know_thyself.experiment import StageFolder
from know_thyself.types import StageDone

CHECKPOINTS = "_checkpoint"


class RowWorker(Protocol):
    """What turns a batch of rows into as many rows, keeping their ids."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows of `batch`, worked on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """A pool of `least` to `most` actors of `worker(**arguments)`, each with so many CPUs and GPUs."""

    worker: Callable[..., RowWorker]
    arguments: Mapping[str, Any]
    least: int
    most: int
    batch_size: int
    num_cpus: float
    num_gpus: float = 0


class _PartNames(FilenameProvider):
    """Parts are named for the write and the task, so that Ray's recovery finds the parts of a torn commit."""

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        return f"part-{write_uuid}-{task_index:06d}.parquet"


def rows_committed(folder: StageFolder) -> int:
    """Rows in the parts written so far, read from their footers."""
    return sum(pq.read_metadata(part).num_rows for part in folder.tables())


def run_table_stage(
    folder: StageFolder, source: StageFolder, workers: Workers, *, num_in: int, block_rows: int, columns: list[str] | None = None
) -> StageDone:
    """Send the rows of `source` through `workers` into `folder`, `block_rows` at a time, and commit.

    Blocks that an earlier attempt committed are kept. Raises `StageError` when a block keeps failing.
    """
    began = time.monotonic()
    folder.path.mkdir(parents=True, exist_ok=True)
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.checkpoint_config = CheckpointConfig(
        id_column="id", checkpoint_path=str(folder.path / CHECKPOINTS), delete_checkpoint_on_success=False
    )
    context.actor_task_retry_on_errors = False
    try:
        with DataContext.current(context):
            dataset = ray.data.read_parquet([str(part) for part in source.tables()], columns=columns)
            dataset = dataset.repartition(target_num_rows_per_block=block_rows).map_batches(
                workers.worker,
                fn_constructor_kwargs=dict(workers.arguments),
                compute=ActorPoolStrategy(min_size=workers.least, max_size=workers.most, max_tasks_in_flight_per_actor=2),
                batch_size=workers.batch_size,
                batch_format="pyarrow",
                zero_copy_batch=True,
                num_cpus=workers.num_cpus,
                num_gpus=workers.num_gpus,
            )
            dataset.write_parquet(str(folder.path), filename_provider=_PartNames())
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, KnowThyselfError):
            raise cause from error
        raise StageError(folder.stage, f"{_last_line(error)}: see the logs, and run the same command to go on") from error
    return folder.commit_table(num_in=num_in, num_dropped={}, began=began)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def write_part(folder: StageFolder, table: pa.Table) -> Path:
    """Write `table` as the only part of `folder`, which no earlier attempt can have left half-done."""
    folder.path.mkdir(parents=True, exist_ok=True)
    path = folder.path / "part-000000.parquet"
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(table, partial)
    partial.replace(path)
    return path
