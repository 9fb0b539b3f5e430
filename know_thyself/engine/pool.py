"""Engines at work: how many of them there are, and the seeds that they draw with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from know_thyself.compute.tables import RowWorker, Workers, run_table_stage
from know_thyself.engine.protocol import Engine, EngineSpec, load_engine_factory
from know_thyself.experiment import StageFolder
from know_thyself.models import bring
from know_thyself.types import ModelRef, StageDone


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The engines of a stage: their number and the rows they take at once. Decides no content."""

    engine: EngineSpec
    least: int
    most: int
    batch_size: int
    block_rows: int

    def send(
        self, source: StageFolder, num_in: int, worker: Callable[..., RowWorker], task: Any, folder: StageFolder, logs: Path
    ) -> StageDone:
        """Send the `num_in` rows of `source` through `worker`s of `task`, each with an engine of its own, into `folder`."""
        workers = Workers(
            worker=worker,
            arguments={"task": task, "engine": self.engine, "folder": str(folder.path), "logs": str(logs)},
            least=self.least,
            most=self.most,
            batch_size=self.batch_size,
            num_cpus=1,
            num_gpus=1 if self.engine.device == "cuda" else 0,
        )
        return run_table_stage(folder, source, workers, num_in=num_in, block_rows=self.block_rows)


def start_engine(backend: str, spec: EngineSpec, *models: ModelRef | None) -> Engine:
    """An engine of `spec`, on a machine that has its base and all `models` that it will use. Raises `StoreError`."""
    used = [(model.name, model.adapter) for model in models if model]
    for folder in dict.fromkeys([spec.base, *(folder for pair in used for folder in pair if folder)]):
        bring(Path(folder))
    return load_engine_factory(backend)(spec)


def trial_seed(question_id: str, seed: int) -> int:
    """The seed of a question's first trial; trial i has this plus i. The same wherever and whenever the question runs."""
    digest = hashlib.sha256(f"{seed}\x1f{question_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
