"""Parts that a dying attempt left behind: set aside, never counted, never mixed in."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from know_thyself.compute.tables import CHECKPOINTS, STRAYS, Workers, progress_of, rows_committed, run_table_stage
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
