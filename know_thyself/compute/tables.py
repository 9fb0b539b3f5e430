"""Committed tables in, committed tables out: the Ray Data pipeline that every table stage is an instance of."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import FilenameProvider

from know_thyself.compute.failures import failure
from know_thyself.errors import StageError
from know_thyself.experiment import StageFolder, storing
from know_thyself.experiment.growing import flush
from know_thyself.experiment.place import address, filesystem, move, pull, received, remove, sent, tally
from know_thyself.experiment.stage import TABLE, count_ids
from know_thyself.progress import Look, Position
from know_thyself.types import StageDone

CHECKPOINTS, STRAYS, TRIED = "_checkpoint", "_strays", "_tried"
BLOCKS = "*.parquet"
RESTARTS, TRIES = 20, 8
"""Times that a dead actor is started again, and that rows are begun at which actors die: of engines killed every other second
some rows see four die by chance."""
MANY_BLOCKS, LARGE_BLOCK = 1024, 4096
"""The driver keeps 20 KiB of each block to the end: of more than so many, each has more rows, up to so many."""
FETCHERS, PATIENCE = "ray-data-metadata-prefetch", 20.0
"""What Ray Data calls the threads that fetch what its executors read, and the seconds that its threads are waited for."""
NO_LIMIT = -1
"""To Ray: as often as need be. It counts a try for each moment in which a node is gone and not yet known to be."""


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


class _Wary:
    """A worker that gives rows up which workers have died of, and tells which. A row is known by the first of its batch."""

    def __init__(self, stage: str, tried: str, worker: Callable[..., RowWorker], arguments: Mapping[str, Any]) -> None:
        self._stage, self._tried = stage, Path(received(tried))
        self._worker = worker(**received(arguments))

    def __call__(self, batch: pa.Table) -> pa.Table:
        """See `RowWorker`. Raises `StageError` when these rows have been begun `TRIES` times and never finished."""
        first = str(batch["id"][0])
        note = self._tried / hashlib.sha256(first.encode()).hexdigest()[:32]
        if tally(note) > TRIES:
            raise StageError(
                self._stage,
                f"{TRIES} workers died at the {len(batch)} rows from {first!r} on: see what they printed in the logs",
            )
        done = self._worker(batch)
        remove(note)
        flush()
        return done


class _PartNames(FilenameProvider):
    """Parts are named for the write and the task, so that Ray's recovery finds the parts of a torn commit."""

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        return f"part-{write_uuid}-{task_index:06d}.parquet"


def rows_committed(folder: StageFolder) -> int:
    """Rows of the blocks committed so far."""
    return progress_of(folder, 0)().done


def progress_of(folder: StageFolder, total: int) -> Look:
    """How far a stage of `total` rows is. Each block is looked into once, however often one looks."""
    rows: dict[str, int] = {}

    def look() -> Position:
        pull(folder.path / CHECKPOINTS, BLOCKS)
        for block in _committed(folder):
            if block.name not in rows:
                rows[block.name] = pq.read_metadata(block).num_rows
        return Position(sum(rows.values()), total)

    return look


def _committed(folder: StageFolder) -> list[Path]:
    """Ray's checkpoint of each committed block: a table of its ids, named like the parts it vouches for."""
    return [path for path in (folder.path / CHECKPOINTS).glob(BLOCKS) if not path.stem.endswith(".pending")]


def _is_complete(folder: StageFolder, num_in: int) -> bool:
    """Whether every row is in a committed block; then no worker need be started."""
    if rows_committed(folder) < num_in:
        return False
    return count_ids(_ids(block) for block in _committed(folder)) == num_in


def _ids(table: Path) -> pa.Array:
    return pq.read_table(table, columns=["id"])["id"].combine_chunks()


def _set_aside_strays(folder: StageFolder) -> None:
    """Move away parts that no checkpoint vouches for, and parts whose every row is in others.

    Workers outlive a killed driver by a moment, and may finish a block that the next attempt does again.
    """
    blocks = {path.stem for path in _committed(folder)}
    ids = {}
    for part in folder.tables():
        if blocks.isdisjoint(accumulate(part.stem.split("-"), "{}-{}".format)):
            _move(part, folder.path / STRAYS)
        else:
            ids[part] = _ids(part)
    rows = _doubled(ids.values())
    for part, held in ids.items() if rows else ():
        if all(rows[row] > 1 for row in held.to_pylist()):
            rows.subtract(held.to_pylist())
            _move(part, folder.path / STRAYS)


def _doubled(parts: Collection[pa.Array]) -> Counter[str]:
    """How often each id is in `parts` that is there more than once. As long as none is, no id becomes a Python object."""
    if count_ids(parts) == sum(map(len, parts)):
        return Counter()
    counts = pc.value_counts(pa.chunked_array(list(parts)))
    return Counter({row["values"]: row["counts"] for row in counts.filter(pc.greater(counts.field("counts"), 1)).to_pylist()})


def _move(part: Path, to: Path) -> None:
    to.mkdir(exist_ok=True)
    move(part, to / part.name)


def run_table_stage(
    folder: StageFolder,
    source: StageFolder,
    workers: Workers,
    *,
    num_in: int,
    block_rows: int,
    columns: list[str] | None = None,
) -> StageDone:
    """Send the rows of `source` through `workers` into `folder`, `block_rows` at a time, and commit.

    Of very many rows, more are taken at a time (see `MANY_BLOCKS`). Blocks that an earlier attempt committed are kept. Raises
    `StageError` when a block keeps failing, `StoreError` when a worker found the disk full.
    """
    began = time.monotonic()
    folder.path.mkdir(parents=True, exist_ok=True)
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.checkpoint_config = CheckpointConfig(
        id_column="id",
        checkpoint_path=address(folder.path / CHECKPOINTS),
        delete_checkpoint_on_success=False,
        override_filesystem=filesystem(folder.path),
    )
    try:
        pull(folder.path, TABLE)
        if not _is_complete(folder, num_in):
            with DataContext.current(context), _no_thread_left():
                _run(folder, source, workers, max(block_rows, min(LARGE_BLOCK, num_in // MANY_BLOCKS)), columns)
            pull(folder.path, TABLE, f"{CHECKPOINTS}/{BLOCKS}")
    except ray.exceptions.RayError as error:
        raise failure(folder, error, "the logs") from error
    remove(folder.path / TRIED)
    _set_aside_strays(folder)
    return folder.commit_table(num_in=num_in, num_dropped={}, began=began)


@contextmanager
def _no_thread_left() -> Iterator[None]:
    """Let no thread of Ray Data outlive the context: Ray waits two seconds for them where the caller is stopped, no longer.

    One that then finds Ray shut down ends the process without a word, breaks it, or joins any other cluster there is.
    """
    try:
        yield
    finally:
        executors = [thread for thread in threading.enumerate() if isinstance(thread, StreamingExecutor)]
        for executor in executors:
            executor.shutdown(force=False)
            executor._shutdown = True  # also where it had not quite begun
            executor._metadata_fetcher.stop()  # also where a second stop cut its end short
        until = time.monotonic() + PATIENCE
        while executors and _is_any_left() and time.monotonic() < until:
            time.sleep(0.05)  # to join it would not do: cut short once, that takes a running thread for ended


def _is_any_left() -> bool:
    """Whether a thread of Ray Data runs."""
    return any(isinstance(thread, StreamingExecutor) or thread.name == FETCHERS for thread in threading.enumerate())


def _run(folder: StageFolder, source: StageFolder, workers: Workers, block_rows: int, columns: list[str] | None) -> None:
    tried = folder.path / TRIED
    remove(tried)
    tried.mkdir()
    arrow = filesystem(folder.path)
    parts = [address(part) for part in source.tables()]
    # As many blocks as parts at first: Ray would cut them for the cluster, and ours would end where these do.
    dataset = ray.data.read_parquet(parts, filesystem=arrow, override_num_blocks=len(parts))
    if columns is not None:
        dataset = dataset.select_columns(columns)
    dataset = dataset.repartition(target_num_rows_per_block=block_rows).map_batches(
        _Wary,
        fn_constructor_args=(folder.stage, *sent((str(tried), workers.worker, dict(workers.arguments)))),
        compute=ActorPoolStrategy(min_size=workers.least, max_size=workers.most, max_tasks_in_flight_per_actor=2),
        batch_size=workers.batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=workers.num_cpus,
        num_gpus=workers.num_gpus,
        max_restarts=RESTARTS,
        max_task_retries=NO_LIMIT,
    )
    dataset.write_parquet(address(folder.path), filesystem=arrow, filename_provider=_PartNames())


def write_part(folder: StageFolder, table: pa.Table) -> Path:
    """Write `table` as the only part of `folder`, which no earlier attempt can have left half-done. Raises `StoreError`."""
    folder.path.mkdir(parents=True, exist_ok=True)
    path = folder.path / "part-000000.parquet"
    partial = path.with_name(f".{path.name}.partial")
    with storing(path):
        try:
            pq.write_table(table, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path
